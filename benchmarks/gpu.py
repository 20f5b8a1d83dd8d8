"""Training at 7B on one GPU, with random weights: `python -m benchmarks.gpu`.

Comes in: a device. Goes out: for stage 1, stage 2 with LoRA and stage 2 in full (where it fits): tokens a second, MFU,
peak memory, and the hours that LLaVA-1.5-7B's published runs would take at that speed, beside the published ones. The
model is made on the device; data, packing and step are those of `sightline train`. `--device cpu --tiny` runs all of it
in seconds and says nothing about speed.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.limit import gemm_rate, shown
from benchmarks.record import Record, Row, Table
from benchmarks.sizes import MODES, SIZES, Size
from benchmarks.world import World, make_world, recipe_tree
from sightline.config import parse_recipe
from sightline.data.loader import steps
from sightline.data.processor import Processor
from sightline.model.build import build_language, build_vision
from sightline.model.connector import build_connector
from sightline.model.packed import use_packed_attention
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import Recipe
from sightline.train.assemble import assemble_processor
from sightline.train.device import autocast, choose_device, choose_dtype, place
from sightline.train.devices import peak_flops
from sightline.train.figures import peak_memory
from sightline.train.flops import step_flops
from sightline.train.lora import add_lora
from sightline.train.optim import build_optimizer, parameter_groups, set_rates
from sightline.train.parts import freeze, set_modes
from sightline.train.ranks import ALONE
from sightline.train.run import Run
from sightline.train.samples import read_sources
from sightline.train.state import TrainState
from sightline.train.step import take_step

WARM_UP = 2
WORKERS = 8

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Published:
    """A run of LLaVA-1.5-7B (its README, scripts and model zoo): samples, and hours on eight A100; None: not told."""

    samples: int
    hours: float | None
    gpus: int = 8


PUBLISHED: dict[str, Published] = {
    "stage1": Published(samples=558_128, hours=3.5),
    "stage2": Published(samples=665_298, hours=10.0),
    "stage2-lora": Published(samples=665_298, hours=None),
}
"""One epoch each; no hours are published for the LoRA run, which sees the same samples as the full one."""


def hours(samples: int, *, samples_per_second: float) -> float:
    """How long so many samples take at this speed."""
    return samples / samples_per_second / 3600


def run(*, device: torch.device, size: Size, timed: int, say: Say) -> Iterator[Table]:
    """All modes, one after another."""
    for mode in MODES.values():
        with tempfile.TemporaryDirectory() as scratch:
            world = make_world(
                Path(scratch) / "world", size, mode, steps=timed, warm_up=WARM_UP, distinct=256, start=False
            )
            _write_tokenizer(world)
            row = _fitting_way(world, device, say)
        yield Table(title=f"one device: {size.name}, {mode.name}", rows=[row])


def _fitting_way(world: World, device: torch.device, say: Say) -> Row:
    """Without recomputing activations, or with it where that does not fit."""
    for checkpointing in (False, True):
        say(f"gpu: {world.mode.name}{', activations recomputed' if checkpointing else ''}")
        try:
            return measure(world, device, checkpointing=checkpointing)
        except torch.OutOfMemoryError:
            say("gpu: does not fit")
            _free()
    return {"mode": world.mode.name, "fits": False}


def measure(world: World, device: torch.device, *, checkpointing: bool) -> Row:
    """Takes the world's steps; every figure is of the steps after the warm-up."""
    run = prepare_on_device(world, device, checkpointing=checkpointing)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    workers = run.recipe.train.workers
    seconds: list[float] = []
    losses: list[float] = []
    with closing(steps(run.make_step, start=0, stop=run.total, workers=workers, pin_memory=workers > 0)) as source:
        started = time.perf_counter()
        for made in source:
            result = take_step(run.model, run.optimizer, made.batches, clip=run.recipe.train.clip, dtype=run.dtype)
            losses.append(result.loss)  # a number: the device has finished
            now = time.perf_counter()
            seconds.append(now - started)
            started = now
    rate = gemm_rate(run.model, dtype=run.dtype).per_second
    row = _row(world, run, seconds[WARM_UP:], rate)
    run.release()
    del run
    _free()
    return row | {"recomputed": checkpointing, "last loss": losses[-1]}


def prepare_on_device(world: World, device: torch.device, *, checkpointing: bool) -> Run:
    """What `sightline.train.run.prepare` does, for weights that were never in a file nor on the CPU."""
    recipe = _recipe(world, device, checkpointing=checkpointing)
    dtype = choose_dtype(recipe.train.precision, device)
    processor = assemble_processor(recipe)
    model = _random_model(world.size, processor, device, dtype)
    freeze(model, recipe.train.lr)
    if recipe.train.lora is not None:
        add_lora(model, recipe.train.lora)
    place(model, device=device, dtype=dtype)
    with autocast(device, dtype):
        fault = use_packed_attention(model.language)
    assert fault is None, fault
    model.set_gradient_checkpointing(checkpointing)
    groups = parameter_groups(model.parts(), recipe.train.lr, weight_decay=0.0)
    optimizer = build_optimizer(groups, betas=recipe.train.betas, eps=recipe.train.eps)
    set_rates(optimizer, 1.0)
    set_modes(model, recipe.train)
    samples = read_sources(recipe.data, processor, bad=recipe.bad_samples, say=lambda message: None)
    return Run(
        recipe=recipe, directory=world.root, model=model, processor=processor, optimizer=optimizer, samples=samples,
        validation=replace(samples, samples=(), roots=()), state=TrainState(fingerprint=""), total=len(world.order),
        device=device, dtype=dtype, lock=Path(os.devnull).open(), packed=True, flops=None,
        ranks=ALONE,
    )  # fmt: skip


def _recipe(world: World, device: torch.device, *, checkpointing: bool) -> Recipe:
    changes: dict[str, Any] = {
        "device": str(device),
        "gradient_checkpointing": checkpointing,
        "workers": min(WORKERS, os.cpu_count() or 1) if device.type == "cuda" else 0,
    }
    tree = recipe_tree(world.root, world.size, world.mode, len(world.order), world.root / "unused", changes)
    parts = {"vision": {"config": dict(world.size.vision)}, "language": {"config": dict(world.size.language)}}
    tree["model"] = {**parts, "tokenizer": str(world.root / "tokenizer"), "fresh_connector": True}
    return parse_recipe(tree, where="gpu")


def _random_model(size: Size, processor: Processor, device: torch.device, dtype: torch.dtype) -> VisionLanguageModel:
    torch.manual_seed(0)
    with torch.device(device):
        vision = build_vision({"config": dict(size.vision)}, dtype=dtype)
        language = build_language({"config": dict(size.language)}, dtype=dtype)
        connector = build_connector(
            "mlp2x_gelu", vision_width=vision.width, language_width=size.language["hidden_size"]
        )
        return VisionLanguageModel(vision, connector, language, image_token_id=processor.image_token_id)


def _write_tokenizer(world: World) -> None:
    from benchmarks.words import build_tokenizer

    build_tokenizer(world.size.language["vocab_size"]).save_pretrained(world.root / "tokenizer")


def _row(world: World, run: Run, seconds: list[float], rate: float) -> Row:
    counts = step_flops(run.model)
    counted = [shown(run.samples, ids) for ids in world.order[WARM_UP:]]
    flops = [counts.total(each) for each in counted]
    per_second = world.size.batch / statistics.median(seconds)
    published, peak = PUBLISHED[world.mode.name], peak_flops(run.device)
    achieved = statistics.median(each / taken for each, taken in zip(flops, seconds, strict=True))
    taken = hours(published.samples, samples_per_second=per_second)
    return {
        "mode": world.mode.name,
        "fits": True,
        "tokens/s": statistics.median(each.positions / taken for each, taken in zip(counted, seconds, strict=True)),
        "samples/s": per_second,
        "TFLOP/s": achieved / 1e12,
        "MFU": None if peak is None else achieved / peak,
        "of GEMM rate": achieved / rate,
        "peak GiB": (peak_memory(run.device) or 0) / 2**30,
        "hours": taken,
        "published GPU hours": None if published.hours is None else published.hours * published.gpus,
    }


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand weights")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=None, help="samples a step")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    given = parser.parse_args()
    console = Console()
    size = SIZES["tiny" if given.tiny else "7b"]
    size = size if given.batch is None else replace(size, batch=given.batch)
    record = Record("gpu", given.out, console)
    for table in run(device=choose_device(given.device), size=size, timed=given.steps, say=console.print):
        record.add("gpu", table)
    console.print(f"written: {record.path}")


if __name__ == "__main__":
    main()
