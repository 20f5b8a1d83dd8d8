"""The loader: pictures a second beside `transformers`' processor, and how fast samples are indexed, planned and made.

Comes in: how many pictures and samples. Goes out: two tables. Both sides read the same JPEGs from disk, in turn; their
pixels are compared.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from benchmarks.record import Table
from benchmarks.sizes import MODES, Mode, Size
from benchmarks.world import SEED, make_world, paint
from sightline.data.batch import plan_rows
from sightline.data.image import open_image
from sightline.data.normalisation import image_normalisation
from sightline.data.pixels import ImageTransform

SIDE = 336
"""CLIP-L/336's input, as LLaVA-1.5 uses it."""
ROUNDS = 5

Say = Callable[[str], None]
Pixels = np.ndarray


def run(*, pictures: int, samples: int, size: Size, say: Say) -> list[Table]:
    """Pictures, then samples."""
    say(f"data: {pictures} pictures of 640x480")
    with tempfile.TemporaryDirectory() as scratch:
        first = _pictures(Path(scratch), pictures)
    say(f"data: {samples} samples")
    with tempfile.TemporaryDirectory() as scratch:
        second = _samples(Path(scratch), size, MODES["stage2"], samples)
    return [first, second]


def _pictures(root: Path, count: int) -> Table:
    noise = np.random.default_rng(SEED)
    names = [f"{number}.jpg" for number in range(count)]
    for name in names:
        paint(root / name, noise)
    mean, std = image_normalisation(None, model_type="clip_vision_model")
    crop = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    pad = LlavaImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_pad=True
    )  # fmt: skip
    rows = []
    for policy, processor in (("crop", crop), ("pad", pad)):
        transform = ImageTransform(policy="crop" if policy == "crop" else "pad", size=SIDE, mean=mean, std=std)
        ours, theirs = _ours(root, transform), _theirs(root, processor)
        difference = max(float(np.abs(ours(name) - theirs(name)).max()) for name in names[:8])
        mine, other = _in_turn((ours, theirs), names)
        rows.append(
            {
                "policy": policy,
                "ours pictures/s": count / mine,
                "transformers pictures/s": count / other,
                "faster": other / mine,
                "pixels differ": difference,
            }
        )
    return Table(title=f"data: {count} JPEGs of 640x480 to {SIDE} px, one process", rows=rows)


def _ours(root: Path, transform: ImageTransform) -> Callable[[str], Pixels]:
    return lambda name: transform(open_image(name, root=root))


def _theirs(root: Path, processor: Any) -> Callable[[str], Pixels]:
    def made(name: str) -> Pixels:
        with Image.open(root / name) as picture:
            pixels: Pixels = processor(images=picture.convert("RGB"), return_tensors="np")["pixel_values"][0]
        return pixels

    return made


def _in_turn(sides: Sequence[Callable[[str], Pixels]], names: Sequence[str]) -> list[float]:
    """The median seconds of each side for all names, over `ROUNDS` rounds in which they take turns."""
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(ROUNDS):
        for side, seconds in zip(sides, taken, strict=True):
            started = time.perf_counter()
            for name in names:
                side(name)
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in taken]


def _samples(root: Path, size: Size, mode: Mode, count: int) -> Table:
    """From a file of LLaVA's form to rows: reading and checking everything, and planning the rows of each step."""
    step = 128
    whole = replace(size, batch=step)
    world = make_world(root / "world", whole, mode, steps=max(1, count // step), distinct=64, start=True)
    total = step * len(world.order)
    started = time.perf_counter()
    samples = world.samples()
    indexed = time.perf_counter() - started
    lengths = [len(samples.processor.encode(sample).ids) for sample in samples.samples]
    started = time.perf_counter()
    rows = [plan_rows(lengths[first : first + step], limit=2 * size.max_length) for first in range(0, total, step)]
    planned = time.perf_counter() - started
    used = sum(lengths)
    room = sum(len(step_rows) for step_rows in rows) * 2 * size.max_length
    return Table(
        title=f"data: {total} samples like LLaVA's 665K, {step} a step",
        rows=[
            {
                "indexed samples/s": total / indexed,
                "packed samples/s": total / planned,
                "mean positions": used / total,
                "rows filled": used / room,
            }
        ],
    )
