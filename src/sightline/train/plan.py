"""Whether a recipe fits a device, and how long it takes there: said before anything is downloaded or started.

Comes in: a recipe, a device, perhaps measured rates. Goes out: a `Plan`. Reads configurations, the tokenizer and the
data files, a few pictures, no weights. Time is what the arithmetic and the memory traffic of simulated rows take at the
device's rates, plus the optimizer's and that of reading pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import PARTS, Recipe
from sightline.train.device_rows import Simulated, candidates, rows_of, shared, shown_by
from sightline.train.devices import Device
from sightline.train.flops import Shown, StepFlops, step_flops
from sightline.train.pieces import own_rows
from sightline.train.setting import Setting, total_of
from sightline.train.shard import decoder_layers, matrices
from sightline.train.simulate import Row, RowCost, cannot_be_planned, fake_model
from sightline.train.survey import Length

USABLE = 0.92
"""Of a GPU's memory; the rest is for the driver, the kernels' own memory and what the allocator cannot use."""
NF4_BYTES = 0.5 + 0.127 / 8
"""Of a weight in 4 bits with doubly quantised scales (Dettmers et al. 2023, section 3: 0.127 bits of scale)."""
UPDATE_BYTES = 40
"""Read and written for a trained weight by a step, fp32: 4 for the gradient's norm, 8 for clipping, 28 by fused AdamW
(gradient, weight and two moments read, the latter three written)."""

GATHERED = 3
"""Layers whose matrices are whole at once where devices share them: the one at work, the next one, and the buffer in
which it arrives (FSDP2 gathers ahead)."""

FIRST = 3
"""Steps whose time is told one by one, beside what `measure` takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part's parameters, those that train (adapters in place of what they adapt), its rate (None: frozen)."""

    parameters: int
    trained: int
    lr: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes at the moment of the peak, by item; `working` is what the backward pass holds beside the others.

    `program` (on a CPU): this process, its libraries and samples. `pictures` (on a CPU): the pixels of a step.
    `holes`: what the allocator holds between the tensors, as a share of the passing ones (see `setting.HEAP_HOLES`).
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    working: int
    pictures: int
    program: int
    holes: int = 0

    def by_item(self) -> dict[str, int]:
        return asdict(self)

    @property
    def passing(self) -> int:
        """What comes and goes with a row or a step."""
        return self.gradients + self.activations + self.logits + self.working

    def with_holes(self, share: float) -> Memory:
        """The same with holes of such a share of what passes."""
        return replace(self, holes=round(share * self.passing))

    @property
    def total(self) -> int:
        return sum(self.by_item().values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run will be.

    Attributes:
        tokens_per_picture: positions.
        row: the one that decides the memory, of the steps looked at (of many samples: as many positions in fewer).
        usable: bytes of the device that a run can have.
        samples, steps: of the run. `step` is what a mean step shows.
        step_seconds: of a mean step, which the devices share; `first_seconds` of each of the first steps.
        flops: of a mean step, necessary ones.
        mfu: share of the devices' stated peak; None where none is stated.
        lengths: where the lengths of the samples are from.
        sharded: whether the devices share the language model's layers instead of holding them all.
        advice: keys of the recipe that make it fit, or faster; empty when it should stay as it is.
    """

    name: str
    parts: dict[str, Part]
    tokens_per_picture: int
    device: Device
    devices: int
    memory: Memory
    usable: int
    row: Row
    samples: int
    steps: int
    step: Shown
    step_seconds: float
    first_seconds: tuple[float, ...]
    flops: int
    mfu: float | None
    lengths: str
    sharded: bool = False
    advice: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.usable

    @property
    def hours(self) -> float:
        """Of the whole run; saving, validation and what devices send each other do not count."""
        return self.steps * self.step_seconds / 3600


def make_plan(recipe: Recipe, setting: Setting) -> Plan:
    """The plan of a recipe as it stands, without advice.

    Raises:
        ConfigError: the model cannot be simulated.
        NotImplementedError: its rows cannot be packed.
    """
    mean = _mean(setting.steps)
    sharded = recipe.train.shard and setting.devices > 1
    with fake_model(recipe, dtype=setting.dtype, vocabulary=setting.vocabulary, sharded=sharded) as model:
        costs = _costs(model)
        steps = [
            [rows_of(recipe, own, setting.device.kind) for own in shared(step, costs, setting.devices)]
            for step in setting.steps
        ]
        simulated = Simulated(model, setting, candidates(own for step in steps for own in step))
        largest, cost = simulated.largest(by_pictures="vision" in recipe.train.lr)
        rate = simulated.seconds_per_flop(costs, mean)
        layers = [matrices(layer) for layer in decoder_layers(model.language)] if sharded else []
        held = _held(model, layers, setting.devices)
        trained = sum(size for parameter, size in held.items() if parameter.requires_grad)
        update = trained * UPDATE_BYTES / setting.rates.bandwidth
        each = [
            max(
                _overlapped(recipe, rate * costs.total(shown) + update, setting.picture_seconds * shown.pictures)
                for shown in map(shown_by, step)
            )
            for step in steps
        ]
        seconds = sum(each) / len(each)
        parts: dict[str, Part] = {name: _part(recipe, model, name) for name in PARTS}
        memory = _memory(recipe, model, setting, cost, layers, held)
        peak = setting.device.peak_flops
        return Plan(
            name=recipe.name,
            parts=parts,
            tokens_per_picture=model.vision.tokens_per_image,
            device=setting.device,
            devices=setting.devices,
            memory=memory,
            usable=int(setting.device.memory * (1.0 if setting.device.kind == "cpu" else USABLE)),
            row=largest,
            samples=setting.count,
            steps=total_of(recipe, setting.count),
            step=mean,
            step_seconds=seconds,
            first_seconds=tuple(each[:FIRST]),
            flops=costs.total(mean),
            mfu=None if peak is None else costs.total(mean) / seconds / peak / setting.devices,
            lengths=setting.lengths,
            sharded=sharded,
        )


def _costs(model: VisionLanguageModel) -> StepFlops:
    try:
        return step_flops(model)
    except (AttributeError, TypeError) as error:
        raise cannot_be_planned(model, "FLOPs are counted by attention heads, and it has none") from error


def _overlapped(recipe: Recipe, computing: float, reading: float) -> float:
    """Seconds of a step: its pictures are read before it, or meanwhile by the workers."""
    workers = recipe.train.workers
    return max(computing, reading / workers) if workers else computing + reading


def _mean(steps: Sequence[Sequence[Length]]) -> Shown:
    """What a mean step shows."""
    samples = [one for step in steps for one in step]
    whole = Shown.of(
        [one.positions for one in samples],
        trained=sum(one.trained for one in samples),
        pictures=sum(one.pictures for one in samples),
    )
    return Shown(**{name: round(value / len(steps)) for name, value in asdict(whole).items()})


def _part(recipe: Recipe, model: VisionLanguageModel, name: str) -> Part:
    own = list(model.parts()[name].parameters())
    trained = sum(parameter.numel() for parameter in own if parameter.requires_grad)
    adapters = trained if name == "language" and recipe.train.lora is not None else 0
    everything = sum(parameter.numel() for parameter in own)
    rates: dict[Any, float] = dict(recipe.train.lr)
    return Part(parameters=everything - adapters, trained=trained, lr=rates.get(name))


def _memory(
    recipe: Recipe,
    model: VisionLanguageModel,
    setting: Setting,
    cost: RowCost,
    layers: Sequence[Sequence[nn.Parameter]],
    held: Mapping[nn.Parameter, int],
) -> Memory:
    """`layers` are the matrices of each layer that the devices share; `held` is `_held`."""
    trained = [parameter for parameter in held if parameter.requires_grad]
    gradients = 4 * sum(held[parameter] for parameter in trained)
    # The items are told so that they add up to the peak, whenever that is.
    rest = cost.peak - sum(parameter.numel() * parameter.element_size() for parameter in trained)
    if layers:  # of their gradients a device keeps few, so the peak may be where the backward pass begins
        rest = max(rest, cost.activations + cost.logits)
    activations = min(cost.activations, rest)
    logits = min(cost.logits, rest - activations)
    pixels = 3 * setting.image_size**2 * 4 * max(sum(one.pictures for one in step) for step in setting.steps)
    return Memory(
        weights=_weights(recipe, model, held),
        gradients=gradients,
        optimizer=2 * gradients,
        activations=activations,
        logits=logits,
        working=rest - activations - logits + max((_gathered(layer, setting.dtype) for layer in layers), default=0),
        pictures=pixels if setting.device.kind == "cpu" else 0,
        program=setting.program,
    ).with_holes(setting.holes)


def _held(
    model: VisionLanguageModel, layers: Sequence[Sequence[nn.Parameter]], devices: int
) -> dict[nn.Parameter, int]:
    """How many numbers of each parameter a device keeps."""
    held = {parameter: parameter.numel() for parameter in model.parameters()}
    for parameter in (each for layer in layers for each in layer):
        rows = own_rows(len(parameter), rank=0, ranks=devices).stop
        held[parameter] = rows * (parameter.numel() // len(parameter))
    return held


def _gathered(layer: Sequence[nn.Parameter], dtype: torch.dtype) -> int:
    """Bytes that a pass holds of a layer beside the shares: matrices and gradients in `dtype`, the latter in fp32, too,
    in which they are added up."""
    trained = sum(parameter.numel() for parameter in layer if parameter.requires_grad)
    return GATHERED * dtype.itemsize * sum(parameter.numel() for parameter in layer) + (dtype.itemsize + 4) * trained


def _weights(recipe: Recipe, model: VisionLanguageModel, held: Mapping[nn.Parameter, int]) -> int:
    """Bytes of the weights that a device holds: masters in fp32, frozen ones in the arithmetic's type or 4 bits (all of
    the language's layers but its head: see `train.quantize`)."""
    packed: set[torch.Tensor] = set()
    if recipe.train.quantize is not None:
        head = model.language.get_output_embeddings()
        for module in model.language.modules():
            if isinstance(module, torch.nn.Linear) and module is not head and not module.weight.requires_grad:
                packed.add(module.weight)
    return math.ceil(
        sum(
            size * (NF4_BYTES if parameter in packed else 4 if parameter.requires_grad else parameter.element_size())
            for parameter, size in held.items()
        )
    )
