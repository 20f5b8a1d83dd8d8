"""The plan of a recipe with what it lacks: advice on what to change so that it fits, and times that were measured.

Comes in: a recipe and the name of a device. Goes out: its plan. The advice is the first change, in the order of what it
costs, with which the run fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sightline.errors import ConfigError
from sightline.recipe import LoraSpec, Recipe
from sightline.train.devices import Device, device_named, present
from sightline.train.measure import Measured, measure
from sightline.train.plan import Memory, Plan, make_plan
from sightline.train.ranks import check_batch
from sightline.train.setting import Setting, look

SHORTEST_ROW = 512
"""Shorter rows would leave a GPU idle and save little."""


def plan_recipe(
    recipe: Recipe, *, device: str | None, devices: int = 1, measured: bool = False
) -> tuple[Plan, Measured | None]:
    """The plan of a recipe, with advice; and what three steps took, if they are to be measured.

    Args:
        device: a name of `devices.NAMES`; None: the one that is here.

    Raises:
        ConfigError: no such device, or it is not here and should be measured; a configuration is missing or wrong.
    """
    chosen = present() if device is None else device_named(device)
    check_batch(recipe.train.batch, devices)
    if measured:
        _check_measurable(recipe, chosen, devices)
    setting = look(recipe, chosen, devices=devices)
    try:
        plan = make_plan(recipe, setting)
    except NotImplementedError:  # a run finds out as well, and pads
        recipe = _changed(recipe, packing=False)
        plan = make_plan(recipe, setting)
    taken = None
    if measured:
        taken = measure(recipe, device=chosen.kind)
        alone = plan if devices == 1 else make_plan(recipe, replace(setting, devices=1))
        if taken.peak_memory is not None:
            setting = replace(setting, holes=measured_holes(alone.memory, taken.peak_memory))
        plan = calibrated(plan, alone, taken, holes=setting.holes)
    return with_advice(recipe, setting, plan), taken


def _check_measurable(recipe: Recipe, chosen: Device, devices: int) -> None:
    """Raises ConfigError where the steps of one process here would say nothing of the run."""
    if recipe.train.shard and devices > 1:
        raise ConfigError("--measure takes its steps in one process, which train.shard does not cut; leave it off")
    if chosen.kind == "cpu":
        return
    try:
        here = present().name
    except ConfigError:
        here = "another GPU"
    if chosen.name != here:
        raise ConfigError(f"--measure: {chosen.name} is not here, {here} is; leave one of the two options off")


def measured_holes(planned: Memory, peak: int) -> float:
    """What steps held beside the plan's tensors, as a share of the passing ones; 0 where a later row is longer."""
    return max(0, peak - planned.with_holes(0).total) / max(1, planned.passing)


def calibrated(plan: Plan, alone: Plan, taken: Measured, *, holes: float) -> Plan:
    """The plan with its times multiplied to agree with the measured steps, but the first, which warms up.

    Args:
        alone: the same for one device, which took the steps.
        holes: as in `Setting`.
    """
    planned = alone.first_seconds[1:] or alone.first_seconds  # a run may have one step; three are measured all the same
    factor = sum(taken.seconds[1 : 1 + len(planned)]) / sum(planned)
    return replace(
        plan,
        memory=plan.memory.with_holes(holes),
        step_seconds=plan.step_seconds * factor,
        first_seconds=tuple(seconds * factor for seconds in plan.first_seconds),
        mfu=None if plan.mfu is None else plan.mfu / factor,
    )


def with_advice(recipe: Recipe, setting: Setting, plan: Plan) -> Plan:
    """The plan, with the keys to set if there are any; the results of a run change only with `lora` and `quantize`.

    A run that fits and recomputes activations is told when it would fit without.
    """
    settings = recipe.train
    if plan.fits:
        if not settings.gradient_checkpointing:
            return plan
        plain = _changed(recipe, gradient_checkpointing=False)
        spare = make_plan(plain, setting).fits
        return replace(plan, advice=("train.gradient_checkpointing=false",) if spare else ())
    for changes in _changes(recipe, setting):
        if make_plan(_changed(recipe, **changes), setting).fits:
            return replace(plan, advice=tuple(_keys(changes)))
    return replace(plan, advice=("a device with more memory, or a smaller model",))


def _changes(recipe: Recipe, setting: Setting) -> Iterator[dict[str, Any]]:
    """Ever more, dearer changes: what costs nothing but speed first."""
    settings = recipe.train
    recompute = {} if settings.gradient_checkpointing else {"gradient_checkpointing": True}
    if recompute:
        yield recompute
    smaller = list(_smaller(recipe, setting.device.kind))
    yield from (change | recompute for change in smaller)
    least = recompute | (smaller[-1] if smaller else {})
    if setting.devices > 1 and not settings.shard and settings.quantize is None:
        yield recompute | {"shard": True}
        yield least | {"shard": True}
    adapters: dict[str, Any] = {}
    if "language" in settings.lr and settings.lora is None:
        adapters = {"lora": LoraSpec()}
        yield recompute | adapters
        yield least | adapters
    if settings.quantize is None and ("language" not in settings.lr or settings.lora is not None or adapters):
        packed = adapters | {"quantize": "nf4"} | ({"shard": False} if settings.shard else {})
        yield recompute | packed
        yield least | packed


def _smaller(recipe: Recipe, device: str) -> Iterator[dict[str, Any]]:
    settings = recipe.train
    if settings.packing:
        length = settings.row_length_on(device) // 2
        while length >= SHORTEST_ROW:
            yield {"row_length": length}
            length //= 2
    else:
        size = settings.samples_at_once
        yield from ({"micro_batch": fewer} for fewer in range(size - 1, 0, -1) if settings.batch % fewer == 0)


def _changed(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changes)})


def _keys(changes: dict[str, Any]) -> Iterator[str]:
    """As they are written on the command line."""
    for key, value in changes.items():
        if isinstance(value, LoraSpec):
            yield from (f"train.{key}.rank={value.rank}", f"train.{key}.alpha={value.alpha:g}")
        else:
            yield f"train.{key}={str(value).lower() if isinstance(value, bool) else value}"
