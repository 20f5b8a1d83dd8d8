"""What a plan is made from beside the recipe: the device's rates, the samples' lengths.

Comes in: a recipe and a device. Goes out: a `Setting`. Reads configurations, the tokenizer, the data files and a few
pictures, no weights; measures a CPU for a moment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from sightline.data.mixture import total_steps
from sightline.data.processor import Processor
from sightline.errors import ConfigError
from sightline.recipe import Recipe
from sightline.train.assemble import assemble_processor
from sightline.train.devices import Device
from sightline.train.figures import status_bytes
from sightline.train.rates import measured_rates, stated_rates
from sightline.train.roofline import Rates
from sightline.train.simulate import fake_model
from sightline.train.survey import Length, seconds_per_picture, steps_of, survey

HEAP_HOLES = 0.65
"""Of activations, logits and gradients, what glibc's heap holds beside them: freed tensors seldom fit the next ones.
Measured over eleven recipes, 0.40 to 1.02 (docs/plan.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Found out once, whatever is changed in the recipe afterwards.

    Attributes:
        dtype: of frozen weights and of the arithmetic.
        steps: the samples of the first steps; `count` are there in all; `lengths` tells where theirs are from.
        vocabulary: ids that the language model must have rows for; None: not known.
        image_size: pixels of a picture's side; `picture_seconds` for reading one, 0 if that is not known.
        program: bytes of this process, which has loaded what a run loads; 0 where the device is not this machine's CPU.
        holes: what the allocator holds beside the tensors that come and go, as a share of them.
    """

    device: Device
    devices: int
    dtype: torch.dtype
    rates: Rates
    steps: tuple[tuple[Length, ...], ...]
    count: int
    lengths: str
    vocabulary: int | None
    image_size: int
    picture_seconds: float
    program: int
    holes: float


def dtype_on(device: Device, recipe: Recipe) -> torch.dtype:
    """The run's type on that device, as `train.device.choose_dtype` would choose it there."""
    auto = torch.float32 if device.kind == "cpu" else torch.bfloat16
    return {"auto": auto, "fp32": torch.float32, "bf16": torch.bfloat16}[recipe.train.precision]


def look(recipe: Recipe, device: Device, *, devices: int = 1) -> Setting:
    """Reads what there is to read, and measures a CPU.

    A few pictures, where they are here, are read to see how long that takes.

    Raises:
        ConfigError: a configuration is missing or wrong. A tokenizer or data that are missing are not: see `lengths`.
    """
    dtype = dtype_on(device, recipe)
    with fake_model(recipe, dtype=dtype, vocabulary=None) as model:
        vision, config = model.vision, model.language.config.get_text_config()
    processor = _processor(recipe)
    found = survey(recipe, processor, picture_tokens=vision.tokens_per_image)
    steps = steps_of(recipe, found, steps=total_of(recipe, found.count))
    if device.peak_flops is None:
        positions = [one.positions for step in steps for one in step]
        rates = measured_rates(
            width=config.hidden_size,
            head_width=getattr(config, "head_dim", None)
            or config.hidden_size // getattr(config, "num_attention_heads", 1),
            positions=recipe.train.row_length_on(device.kind),
            length=max(1, sum(positions) // len(positions)),
            dtype=dtype,
        )
    else:
        rates = stated_rates(device, dtype)
    return Setting(
        device=device,
        devices=devices,
        dtype=dtype,
        rates=rates,
        steps=tuple(tuple(step) for step in steps),
        count=found.count,
        lengths=found.source,
        vocabulary=None if processor is None else max(len(processor.tokenizer), processor.image_token_id + 1),
        image_size=vision.image_size,
        picture_seconds=seconds_per_picture(recipe, processor),
        program=(status_bytes("VmRSS") or 0) if device.kind == "cpu" else 0,
        holes=_usual_holes(device),
    )


def _usual_holes(device: Device) -> float:
    """None on a GPU, whose usable share has them, nor where large tensors have pages of their own."""
    return HEAP_HOLES if device.kind == "cpu" and "MALLOC_MMAP_THRESHOLD_" not in os.environ else 0.0


def total_of(recipe: Recipe, count: int) -> int:
    """Steps of the run over `count` samples."""
    train = recipe.train
    return train.steps or total_steps(num_samples=count, batch=train.batch, epochs=train.epochs or 1)


def _processor(recipe: Recipe) -> Processor | None:
    """None where the tokenizer is not here: the lengths are assumed then. Mistakes of other kinds are raised."""
    try:
        return assemble_processor(recipe)
    except ConfigError as error:
        if str(error).startswith("model.tokenizer"):
            return None
        raise
