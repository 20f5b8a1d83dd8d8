"""The processor that other software loads with a checkpoint: `transformers.AutoProcessor`.

Comes in: a `Processor` of ours. Goes out: the files of a `LlavaProcessor` that resizes, pads or crops, normalises and
expands placeholders as ours does. Writes files; computes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.hub_chat import chat_jinja

if TYPE_CHECKING:
    from sightline.data.processor import Processor, ProcessorSettings

BICUBIC = 3
"""Pillow's number for bicubic resampling."""


def save_hub_processor(processor: Processor, directory: Path) -> None:
    """Writes tokenizer, `processor_config.json` and, for older readers, `preprocessor_config.json`.

    The chat template is the tokenizer's own unless ours is another; `plain` has none, so the tokenizer keeps its own.
    """
    settings = processor.settings
    processor.tokenizer.save_pretrained(str(directory))
    _name_class(directory / "tokenizer_config.json")
    if processor.template.literals is not None and settings.template != "own":
        chat = chat_jinja(processor.template.literals, processor.tokenizer)
        (directory / "chat_template.jinja").write_text(chat, encoding="utf-8")
    pictures = image_processor_settings(settings)
    selection = token_selection(settings)
    _write(directory / "preprocessor_config.json", {**pictures, "processor_class": "LlavaProcessor"})
    _write(directory / "processor_config.json", {
        "processor_class": "LlavaProcessor",
        "image_processor": pictures,
        "image_token": "<image>",
        "patch_size": settings.patch_size,
        **selection,
    })  # fmt: skip


def _name_class(path: Path) -> None:
    """Makes transformers take the tokenizer from its file.

    Left to itself it rebuilds some families' tokenizers from their vocabulary when the model beside them is of a type
    that it does not know, without their `legacy` setting, and texts get other ids than in training.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    _write(path, {**content, "tokenizer_class": "PreTrainedTokenizerFast"})


def image_processor_settings(settings: ProcessorSettings) -> dict[str, Any]:
    """Our `ImageTransform` in transformers' words."""
    content = clip_image_settings(settings.image_size, mean=settings.image_mean, std=settings.image_std)
    if settings.image_policy == "pad":
        content |= {"image_processor_type": "LlavaImageProcessor", "do_pad": True}
    return content


def clip_image_settings(size: int, *, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """The content of a CLIP encoder's `preprocessor_config.json`: short side resized to `size` pixels, center cropped.

    Args:
        mean, std: of red, green and blue, for values from 0 to 1.
    """
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }


def token_selection(settings: ProcessorSettings) -> dict[str, Any]:
    """How a `LlavaProcessor` must count: patches + additional tokens, less one when the strategy is `default`.

    | tokens before the patches | kept | strategy | additional |
    |---|---|---|---|
    | 0 | - | full | 0 |
    | 1 | no | default | 1 |
    | n | yes | full | n |
    """
    patches = (settings.image_size // settings.patch_size) ** 2
    extra = settings.image_tokens - patches
    if extra == 0 and settings.num_prefix_tokens == 1:
        return {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return {"vision_feature_select_strategy": "full", "num_additional_image_tokens": extra}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
