"""Prepares a run: everything that can go wrong before it costs anything goes wrong here.

Comes in: a recipe. Goes out: a `Run`: model, processor, optimizer, samples and where it stands, ready to go on. The
order is by price: paths, the output, samples, their tokens and pictures, and only then weights.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

import torch

from sightline.atomic import MANIFEST, read_json, readable_directory, sha256_file, verify_manifest, write_atomic
from sightline.config import dump_recipe, fingerprint
from sightline.data.batch import Batch, RowPlan
from sightline.data.loader import StepMaker, usable
from sightline.data.mixture import total_steps
from sightline.data.processor import Processor
from sightline.data.sample import Rejection
from sightline.errors import CheckpointError, ConfigError
from sightline.model.checkpoint import save_checkpoint
from sightline.model.packed import use_packed_attention
from sightline.model.quantize import full_size, import_bitsandbytes, quantize_language
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import Recipe
from sightline.train.assemble import assemble_model, assemble_processor
from sightline.train.device import autocast, choose_device, choose_dtype, place
from sightline.train.encoding import Encoding
from sightline.train.feature_cache import FeatureCache, check_place
from sightline.train.flops import StepFlops, step_flops
from sightline.train.optim import build_optimizer, parameter_groups
from sightline.train.parts import add_lora, freeze, merge_lora
from sightline.train.samples import SampleSet, read_sources
from sightline.train.state import TrainState, resume, trained_parameters

STATES = "checkpoints"
RECIPE_FILE = "recipe.yaml"
FINISHED = "finished.json"

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Run:
    """A run that is ready to go on. `total` is its number of steps; `state.step` of them are done.

    `packed` tells whether samples lie in rows without padding, `flops` what they cost, where that can be told;
    `failed_saves` counts the saves that failed in a row.
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
    lock: TextIO
    packed: bool
    flops: StepFlops | None
    failed_saves: int = 0

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
            row_length=settings.row_length,
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
        )

    def validation_batches(self) -> Iterator[Batch]:
        """All validation samples, some steps' worth at a time."""
        size = self.recipe.train.batch
        for start in range(0, len(self.validation), size):
            stop = min(start + size, len(self.validation))
            examples, _ = usable(self.validation.example, range(start, stop), skip=self._may_skip)
            if examples:
                yield from self.rows.batches(examples)


def prepare(recipe: Recipe, *, new: bool = False, say: Say) -> Run:
    """Checks everything, builds or loads the model, and finds where the run stands.

    Args:
        new: put what the output directory holds aside and start over.
        say: takes warnings and counts, one line each.

    Raises:
        SightlineError: something in the recipe, the data or the output directory cannot be; nothing was changed.
    """
    device = choose_device(recipe.train.device)
    dtype = choose_dtype(recipe.train.precision, device)
    if recipe.train.quantize is not None:
        import_bitsandbytes("train.quantize")
    check_place(recipe.train)
    directory = Path(recipe.output)
    processor = assemble_processor(recipe)
    processes, bad = recipe.train.workers or None, recipe.bad_samples
    samples = read_sources(recipe.data, processor, bad=bad, say=say, processes=processes)
    validation = read_sources(recipe.validation, processor, bad=bad, say=say, key="validation", processes=processes)
    mark = ":".join((fingerprint(recipe), samples.fingerprint, *_start_mark(recipe)))
    lock = _claim(directory, recipe, mark, new=new)
    _write_refused(directory, [*samples.refused, *validation.refused])
    total = recipe.train.steps or total_steps(
        num_samples=samples.per_epoch, batch=recipe.train.batch, epochs=recipe.train.epochs or 1
    )
    model = _trainable(recipe, processor, device=device, dtype=dtype)
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
    stored = FeatureCache(
        settings=recipe.train, encoding=encoding, samples=samples, validation=validation, start=state.step,
        total=total, directory=directory, reserve=_space_needed(model, dtype), say=say,
    ).choose()  # fmt: skip
    samples, validation = replace(samples, stored=stored), replace(validation, stored=stored)
    return Run(
        recipe=recipe, directory=directory, model=model, processor=processor, optimizer=optimizer, samples=samples,
        validation=validation, state=state, total=total, device=device, dtype=dtype, lock=lock, packed=packed,
        flops=_flops(model),
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


def finish(run: Run) -> None:
    """Writes the trained model and its processor into the run's directory, which then is a checkpoint."""
    model = run.model if run.recipe.train.quantize is None else _in_full_precision(run)
    if run.recipe.train.lora is not None:
        merge_lora(model, run.directory / "lora")
    info = {"processor": run.processor.describe(), "recipe": json.loads(run.recipe.model_dump_json(exclude_unset=True))}
    save_checkpoint(model, run.directory, info=info, extra_files=run.processor.save, in_place=True)
    write_atomic(run.directory / FINISHED, json.dumps(_mark(run)) + "\n")


def _trainable(
    recipe: Recipe, processor: Processor, *, device: torch.device, dtype: torch.dtype
) -> VisionLanguageModel:
    """The model as the recipe trains it: frozen, quantised and adapted part by part, on its device."""
    torch.manual_seed(recipe.seed)
    model = assemble_model(recipe, processor)
    freeze(model, recipe.train.lr)
    if recipe.train.quantize is not None:
        scheme = recipe.train.quantize
        quantize_language(model.language, scheme, device=device, dtype=dtype, key="train.quantize")
    if recipe.train.lora is not None:
        add_lora(model, recipe.train.lora)
    place(model, device=device, dtype=dtype)
    return model


def _pack(model: VisionLanguageModel, *, device: torch.device, dtype: torch.dtype, say: Say) -> bool:
    """Switches the language model to packed rows, if it can; otherwise says why not."""
    with autocast(device, dtype):
        fault = use_packed_attention(model.language)
    if fault is not None:
        say(f"this language model cannot take packed rows ({fault}): batches are padded, as with train.packing=false")
    return fault is None


def _flops(model: VisionLanguageModel) -> StepFlops | None:
    """What training costs; None for a language model without attention heads, which are counted by."""
    try:
        return step_flops(model)
    except (AttributeError, TypeError):
        return None


def _in_full_precision(run: Run) -> VisionLanguageModel:
    """What the run has trained, upon weights that never were quantised: they are read again, from where they came.

    Adapters that were trained on 4 bits are merged into 16, as LLaVA's merge_lora_weights.py does: what the rounding
    took is given back, and the adapters are small beside it.
    """
    settings = run.recipe.train.model_copy(update={"quantize": None})
    recipe = run.recipe.model_copy(update={"train": settings})
    model = _trainable(recipe, run.processor, device=torch.device("cpu"), dtype=run.dtype)
    targets = trained_parameters(model)
    for name, parameter in trained_parameters(run.model).items():
        targets[name].data.copy_(parameter.data)
    return model


def _mark(run: Run) -> dict[str, object]:
    return {"fingerprint": run.state.fingerprint, "steps": run.total}


def _claim(directory: Path, recipe: Recipe, mark: str, *, new: bool) -> TextIO:
    """Takes the output directory for this run: one process at a time, and never over a run of another recipe."""
    recipe_file = directory / RECIPE_FILE
    if new and directory.is_dir():
        with _lock(directory):  # or a run that goes on would write its states into the next one
            _put_aside(directory)
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"output: {directory} is a file; give a directory")
    owner = directory / "run.json"
    has_results = (directory / FINISHED).exists() or any((directory / STATES).glob("*"))
    if owner.exists() and has_results:
        found = read_json(owner)
        if not isinstance(found, dict) or found.get("fingerprint") != mark:
            raise ConfigError(
                f"output: {directory} holds a run of another recipe or other data; give another output, "
                "or --new to put it aside and start over"
            )
    if not owner.exists() and (directory / "config.json").exists():
        raise ConfigError(f"output: {directory} holds a model that no run has written there; give another output")
    directory.mkdir(parents=True, exist_ok=True)
    lock = _lock(directory)
    write_atomic(owner, json.dumps({"fingerprint": mark}) + "\n")
    write_atomic(recipe_file, dump_recipe(recipe))
    return lock


def _start_mark(recipe: Recipe) -> tuple[str, ...]:
    """What tells apart the checkpoints that have stood at `model.start`: its manifest holds every file's checksum."""
    if recipe.model.start is None:
        return ()
    return (sha256_file(readable_directory(Path(recipe.model.start)) / MANIFEST),)


def _write_refused(directory: Path, refused: list[Rejection]) -> None:
    """The samples that are left out, one a line, for whoever mends them."""
    if refused:
        write_atomic(directory / "bad_samples.jsonl", "".join(json.dumps(asdict(found)) + "\n" for found in refused))


def _lock(directory: Path) -> TextIO:
    """An exclusive lock that the system drops with the process, however it ends."""
    lock = (directory / "run.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        raise ConfigError(
            f"output: {directory} is in use by process {lock.read().strip() or '?'}; wait, or give another output"
        ) from error
    lock.seek(0)
    lock.truncate()
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    _close_in_children(lock)
    return lock


def _close_in_children(file: TextIO) -> None:
    """Worker processes are forked, and outlive a killed run by seconds: they must not keep its lock."""
    reference = weakref.ref(file)

    def close() -> None:
        if (copy := reference()) is not None:
            copy.close()

    os.register_at_fork(after_in_child=close)


def _put_aside(directory: Path) -> None:
    number = 1
    while (aside := directory.with_name(f"{directory.name}.old-{number}")).exists():
        number += 1
    directory.rename(aside)


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
