"""Prepares a run: everything that can go wrong before it costs anything goes wrong here.

Comes in: a recipe. Goes out: a `Run`: model, processor, optimizer, samples and where it stands, ready to go on. The
order is by price: paths, the output, samples, their tokens and pictures, and only then weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
import torch

from sightline.atomic import MANIFEST, read_json, readable_directory, sha256_file, verify_manifest, write_atomic
from sightline.config import fingerprint
from sightline.data.batch import Batch, RowPlan
from sightline.data.loader import StepMaker, usable
from sightline.data.mixture import total_steps
from sightline.data.processor import Processor
from sightline.data.sample import Rejection
from sightline.data.shares import Share
from sightline.errors import CheckpointError, ConfigError
from sightline.model.checkpoint import save_checkpoint
from sightline.model.packed import use_packed_attention
from sightline.model.quantize import full_size, import_bitsandbytes, quantize_language
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import Recipe
from sightline.train.assemble import assemble_model, assemble_processor
from sightline.train.device import autocast, choose_device, choose_dtype, place
from sightline.train.encoding import Encoding
from sightline.train.feature_cache import FeatureCache, check_place, choose_together
from sightline.train.flops import StepFlops, step_flops
from sightline.train.lora import add_lora, merge_lora
from sightline.train.optim import build_optimizer, parameter_groups
from sightline.train.output import FINISHED, STATES, claim
from sightline.train.parts import freeze
from sightline.train.pieces import any_cut, gathered
from sightline.train.ranks import ALONE, Ranks, check_batch, join, own_device
from sightline.train.samples import SampleSet, read_sources
from sightline.train.shard import shard_layers
from sightline.train.state import TrainState, resume, trained_parameters

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Run:
    """A run that is ready to go on, in one of its processes. `total` is its number of steps; `state.step` are done.

    `lock` is the first process's alone. `packed` tells whether samples lie in rows without padding, `flops` what they
    cost, where that can be told; `failed_saves` counts the saves that failed in a row.
    """

    recipe: Recipe
    directory: Path
    model: VisionLanguageModel
    processor: Processor
    optimizer: torch.optim.Optimizer
    samples: SampleSet
    validation: SampleSet
    state: TrainState
    total: int
    device: torch.device
    dtype: torch.dtype
    lock: TextIO | None
    packed: bool
    flops: StepFlops | None
    ranks: Ranks
    failed_saves: int = 0

    def release(self) -> None:
        """Lets go of the output directory."""
        if self.lock is not None:
            self.lock.close()

    @property
    def states(self) -> Path:
        return self.directory / STATES

    @property
    def _may_skip(self) -> bool:
        return self.recipe.bad_samples.policy == "skip"

    @property
    def rows(self) -> RowPlan:
        """How samples are cut into batches."""
        settings = self.recipe.train
        return RowPlan(
            packed=self.packed,
            row_length=settings.row_length_on(self.device.type),
            micro_batch=settings.samples_at_once,
            pad_id=self.processor.pad_id,
        )

    @property
    def make_step(self) -> StepMaker:
        """The batches of any step."""
        settings = self.recipe.train
        return StepMaker(
            self.samples.example,
            num_samples=len(self.samples),
            batch=settings.batch,
            rows=self.rows,
            seed=self.recipe.seed,
            skip=self._may_skip,
            kinds=self.samples.shows_pictures if settings.group_by_modality else None,
            mix=self.samples.mix,
            share=self._share(self.samples),
        )

    def validation_batches(self) -> Iterator[Batch]:
        """All validation samples, or this process's share of them, some steps' worth at a time."""
        size, share = self.recipe.train.batch, self._share(self.validation)
        for start in range(0, len(self.validation), size):
            indexes: Sequence[int] = range(start, min(start + size, len(self.validation)))
            if share is not None:
                indexes = share.of(indexes)
            examples, _ = usable(self.validation.example, indexes, skip=self._may_skip)
            if examples:
                yield from self.rows.batches(examples)

    def _share(self, samples: SampleSet) -> Share | None:
        """What this process takes of each step; None: all of it. Costs are told from lengths, FLOPs where known."""
        if self.ranks.alone:
            return None
        lengths = samples.lengths.astype(np.float64)
        costs = lengths
        if self.flops is not None:
            picture = self.flops.per_picture + self.flops.per_encoded
            costs = self.flops.per_position * lengths + self.flops.per_pair * lengths * (lengths + 1) / 2
            costs += picture * np.frombuffer(samples.shows_pictures, np.uint8).astype(np.float64)
        return Share(rank=self.ranks.rank, ranks=self.ranks.size, costs=costs)


def prepare(recipe: Recipe, *, new: bool = False, say: Say) -> Run:
    """Checks everything, builds or loads the model, and finds where the run stands.

    Args:
        new: put what the output directory holds aside and start over.
        say: takes warnings and counts, one line each.

    Raises:
        SightlineError: something in the recipe, the data or the output directory cannot be; nothing was changed.
    """
    ranks = join()
    if not ranks.first:
        say = _nothing
    device = own_device(choose_device(recipe.train.device))
    dtype = choose_dtype(recipe.train.precision, device)
    if recipe.train.quantize is not None:
        import_bitsandbytes("train.quantize")
    check_place(recipe.train)
    check_batch(recipe.train.batch, ranks.size)
    directory = Path(recipe.output)
    processor = assemble_processor(recipe)
    processes, bad = recipe.train.workers or None, recipe.bad_samples
    with ranks.first_goes_ahead():
        samples = read_sources(recipe.data, processor, bad=bad, say=say, processes=processes)
        validation = read_sources(recipe.validation, processor, bad=bad, say=say, key="validation", processes=processes)
        mark = ":".join((fingerprint(recipe), samples.fingerprint, *_start_mark(recipe)))
        lock = claim(directory, recipe, mark, new=new) if ranks.first else None
        if ranks.first:
            _write_refused(directory, [*samples.refused, *validation.refused])
    total = recipe.train.steps or total_steps(
        num_samples=samples.per_epoch, batch=recipe.train.batch, epochs=recipe.train.epochs or 1
    )
    model = _trainable(recipe, processor, device=device, dtype=dtype, ranks=ranks)
    packed = recipe.train.packing and _pack(model, device=device, dtype=dtype, say=say)
    model.set_gradient_checkpointing(recipe.train.gradient_checkpointing)
    groups = parameter_groups(model.parts(), recipe.train.lr, weight_decay=recipe.train.weight_decay)
    optimizer = build_optimizer(groups, betas=recipe.train.betas, eps=recipe.train.eps)
    _check_space(directory, model, dtype)
    state = resume(directory / STATES, model=model, optimizer=optimizer, fingerprint=mark, warn=say)
    if state.step:
        say(f"continuing at step {state.step} of {total}")
    encoding = Encoding(
        vision=model.vision, processor=processor, device=device, dtype=dtype, workers=recipe.train.workers
    )
    cache = FeatureCache(
        settings=recipe.train, encoding=encoding, samples=samples, validation=validation, start=state.step,
        total=total, directory=directory, reserve=_space_needed(model, dtype), say=say,
    )  # fmt: skip
    stored = choose_together(cache, ranks)
    samples, validation = replace(samples, stored=stored), replace(validation, stored=stored)
    return Run(
        recipe=recipe, directory=directory, model=model, processor=processor, optimizer=optimizer, samples=samples,
        validation=validation, state=state, total=total, device=device, dtype=dtype, lock=lock, packed=packed,
        flops=_flops(model), ranks=ranks,
    )  # fmt: skip


def is_finished(run: Run) -> bool:
    """Whether the run's directory already holds the trained checkpoint, whole."""
    path = run.directory / FINISHED
    if not path.exists():
        return False
    try:
        verify_manifest(run.directory)
    except CheckpointError:
        return False
    return read_json(path) == _mark(run)


def whole_model(run: Run) -> VisionLanguageModel | None:
    """The trained model with all its weights in full, on the first rank; None on the others.

    What was quantised or cut is read again, from where it came, and takes over what the run has trained. Adapters that
    were trained on 4 bits are merged into 16, as LLaVA's merge_lora_weights.py does: what the rounding took is given
    back, and the adapters are small beside it.
    """
    first = run.ranks.first
    if run.recipe.train.quantize is None and not any_cut(run.model):
        return run.model if first else None
    settings = run.recipe.train.model_copy(update={"quantize": None})
    recipe = run.recipe.model_copy(update={"train": settings})
    model, targets = None, dict[str, torch.nn.Parameter]()
    with run.ranks.first_goes_ahead():
        if first:
            model = _trainable(recipe, run.processor, device=torch.device("cpu"), dtype=run.dtype)
            targets = trained_parameters(model)
    for name, tensor in gathered(dict(trained_parameters(run.model)), first=first):
        if first:
            targets[name].data.copy_(tensor)
    return model


def finish(run: Run, model: VisionLanguageModel) -> None:
    """Writes the trained model and its processor into the run's directory, which then is a checkpoint."""
    if run.recipe.train.lora is not None:
        merge_lora(model, run.directory / "lora")
    info = {"processor": run.processor.describe(), "recipe": json.loads(run.recipe.model_dump_json(exclude_unset=True))}
    save_checkpoint(model, run.directory, info=info, extra_files=run.processor.save, in_place=True)
    write_atomic(run.directory / FINISHED, json.dumps(_mark(run)) + "\n")


def _trainable(
    recipe: Recipe, processor: Processor, *, device: torch.device, dtype: torch.dtype, ranks: Ranks = ALONE
) -> VisionLanguageModel:
    """The model as the recipe trains it: frozen, quantised, adapted and cut part by part, on its device."""
    torch.manual_seed(recipe.seed)
    model = assemble_model(recipe, processor)
    freeze(model, recipe.train.lr)
    if recipe.train.quantize is not None:
        scheme = recipe.train.quantize
        quantize_language(model.language, scheme, device=device, dtype=dtype, key="train.quantize")
    if recipe.train.lora is not None:
        add_lora(model, recipe.train.lora)
    if recipe.train.shard and not ranks.alone:
        shard_layers(model, ranks, device=device, dtype=dtype)
    place(model, device=device, dtype=dtype)
    return model


def _pack(model: VisionLanguageModel, *, device: torch.device, dtype: torch.dtype, say: Say) -> bool:
    """Switches the language model to packed rows, if it can; otherwise says why not."""
    with autocast(device, dtype):
        fault = use_packed_attention(model.language)
    if fault is not None and any_cut(model):  # the attempt may have left the layers gathered
        raise ConfigError(
            f"train.shard: this language model cannot take packed rows ({fault}); set train.packing: false"
        )
    if fault is not None:
        say(f"this language model cannot take packed rows ({fault}): batches are padded, as with train.packing=false")
    return fault is None


def _flops(model: VisionLanguageModel) -> StepFlops | None:
    """What training costs; None for a language model without attention heads, which are counted by."""
    try:
        return step_flops(model)
    except (AttributeError, TypeError):
        return None


def _nothing(message: str) -> None:
    """What the first process says need not be said again."""


def _mark(run: Run) -> dict[str, object]:
    return {"fingerprint": run.state.fingerprint, "steps": run.total}


def _start_mark(recipe: Recipe) -> tuple[str, ...]:
    """What tells apart the checkpoints that have stood at `model.start`: its manifest holds every file's checksum."""
    if recipe.model.start is None:
        return ()
    return (sha256_file(readable_directory(Path(recipe.model.start)) / MANIFEST),)


def _write_refused(directory: Path, refused: list[Rejection]) -> None:
    """The samples that are left out, one a line, for whoever mends them."""
    if refused:
        write_atomic(directory / "bad_samples.jsonl", "".join(json.dumps(asdict(found)) + "\n" for found in refused))


def _check_space(directory: Path, model: VisionLanguageModel, dtype: torch.dtype) -> None:
    needed, free = _space_needed(model, dtype), shutil.disk_usage(directory).free
    if free < needed:
        raise ConfigError(
            f"output: {directory} has {free / 2**30:.1f} GiB free, this run needs up to {needed / 2**30:.1f}; "
            "free some or give another output"
        )


def _space_needed(model: VisionLanguageModel, dtype: torch.dtype) -> int:
    """Bytes of three training states (weights and two moments, fp32) and the final checkpoint."""
    trained = sum(parameter.numel() for parameter in trained_parameters(model).values())
    everything = sum(
        full_size(parameter) * (4 if parameter.requires_grad else dtype.itemsize) for parameter in model.parameters()
    )
    return 3 * 12 * trained + everything
