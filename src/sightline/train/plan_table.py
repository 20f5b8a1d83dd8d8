"""A plan for people, and for programs.

Comes in: a `Plan`, perhaps what three steps took and a price. Goes out: lines, or one JSON object. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from sightline.train.devices import GIB
from sightline.train.measure import Measured
from sightline.train.plan import Plan


def to_json(plan: Plan, *, price: float | None, measured: Measured | None) -> dict[str, Any]:
    """Everything in the plan; bytes, seconds, FLOPs."""
    content = asdict(plan) | {"fits": plan.fits, "hours": plan.hours}
    content["memory"]["total"] = plan.memory.total
    if price is not None:
        content["cost"] = plan.hours * plan.devices * price
    if measured is not None:
        content["measured"] = asdict(measured)
    return content


def table(plan: Plan, *, price: float | None, measured: Measured | None) -> str:
    """The plan as lines."""
    return "\n".join(_lines(plan, price=price, measured=measured))


def _lines(plan: Plan, *, price: float | None, measured: Measured | None) -> Iterator[str]:
    yield f"{plan.name} on {plan.devices} x {plan.device.name}: {plan.tokens_per_picture} tokens per picture"
    yield f"{'part':<12}{'parameters':>16}{'trained':>16}  lr"
    for name, part in plan.parts.items():
        rate = "frozen" if part.lr is None else f"{part.lr:g}"
        yield f"{name:<12}{part.parameters:>16,}{part.trained:>16,}  {rate}"
    yield ""
    yield f"{'memory':<12}{'GiB':>16}"
    for name, size in plan.memory.by_item().items():
        if size:
            yield f"{name:<12}{size / GIB:>16.2f}"
    verdict = "fits" if plan.fits else "does NOT fit"
    yield f"{'peak':<12}{plan.memory.total / GIB:>16.2f}  {verdict} in {plan.usable / GIB:.1f} usable"
    if plan.device.kind == "cpu" and measured is None:
        yield "the C library's heap may hold up to as much again as activations, logits and working (docs/plan.md)"
    row = plan.row
    yield f"largest row: {sum(row.lengths):,} positions, {len(row.lengths)} samples, {row.pictures} pictures"
    if plan.advice:
        yield f"{'it would be faster with' if plan.fits else 'it fits with'}: {' '.join(plan.advice)}"
    yield ""
    step, seconds = plan.step, plan.step_seconds
    yield f"samples: {plan.samples:,}; lengths: {plan.lengths}"
    yield f"a mean step: {step.positions:,} positions, {step.trained:,} with a loss, {step.pictures} pictures"
    share = "" if plan.mfu is None else f", {plan.mfu:.0%} of the device's peak"
    yield f"{plan.flops / 1e12:,.3g} TFLOP in {seconds:.3g} s: {plan.flops / seconds / 1e12:,.3g} TFLOP/s{share}"
    cost = "" if price is None else f", cost {plan.hours * plan.devices * price:,.2f}"
    yield f"{plan.steps:,} steps: {plan.hours:.3g} hours{cost}"
    if plan.devices > 1:
        held = "the devices share the language model's layers" if plan.sharded else "every device holds the whole model"
        yield f"({held}; the {plan.devices} of them share the samples of each step)"
    if measured is not None:
        peak = "" if measured.peak_memory is None else f", peak {measured.peak_memory / GIB:.2f} GiB"
        each = ", ".join(f"{one:.2f}" for one in measured.seconds)
        yield f"measured: {each} s a step{peak}; time and peak above follow"
    elif plan.device.peak_flops is not None:
        yield "time from data sheets and usual shares of them; where the device is, --measure takes three steps"
