"""The llava-hf layout: what `transformers` and the engines built on it load.

Comes in: a checkpoint of ours, whose files have this layout already. Goes out: the same without what only we read.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline.data.hub_processor import save_hub_processor
from sightline.errors import CheckpointError
from sightline.exchange.source import Options, Source, Written, fixed_picture, fixed_prompt
from sightline.model.weights import write_weights

GREY_LEVEL = 1 / 255
"""How far a pixel may be from ours before it is normalised."""


def write_hf(source: Source, directory: Path, options: Options) -> Written:
    """Writes weights, configurations, tokenizer and processor."""
    write_settings(source, directory, source.config(), dtype=options.dtype)
    write_weights(dict(source.tensors(options.dtype)), directory)
    return Written(logits=lambda: hf_logits(source, directory))


def write_settings(source: Source, directory: Path, config: dict[str, Any], *, dtype: torch.dtype) -> None:
    """Everything but the weights."""
    config = config | {"dtype": str(dtype).removeprefix("torch.")}
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copyfile(source.directory / "generation_config.json", directory / "generation_config.json")
    save_hub_processor(source.processor, directory)


@torch.no_grad()
def hf_logits(source: Source, directory: Path) -> Tensor:
    """What `transformers` says, with its own processor for the picture.

    Raises:
        CheckpointError: its processor counts other placeholders, or its pixels are more than a grey level from ours.
    """
    processor = AutoProcessor.from_pretrained(str(directory))
    picture = fixed_picture()
    seen = processor(images=picture, text="<image>", return_tensors="pt")
    ours = source.processor.pixels([picture])
    std = torch.tensor(source.processor.settings.image_std)[:, None, None]
    if seen["pixel_values"].shape != ours.shape or ((seen["pixel_values"] - ours).abs() > GREY_LEVEL / std).any():
        raise CheckpointError("hf: the exported processor gives other pixels than ours; nothing was written")
    placeholders = int((seen["input_ids"] == source.processor.image_token_id).sum())
    if placeholders != source.processor.settings.image_tokens:
        raise CheckpointError(
            f"hf: the exported processor gives {placeholders} placeholders for a picture, "
            f"the model needs {source.processor.settings.image_tokens}; nothing was written"
        )
    model = AutoModelForImageTextToText.from_pretrained(
        str(directory), dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    ).eval()
    logits: Tensor = model(input_ids=fixed_prompt(source.processor), pixel_values=ours).logits[0]
    return logits
