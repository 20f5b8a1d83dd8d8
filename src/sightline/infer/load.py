"""From a checkpoint's directory to something that answers.

Comes in: a directory. Goes out: the model and its processor. Everything it needs to know stands in the checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sightline.atomic import readable_directory
from sightline.data.processor import Processor, load_processor
from sightline.errors import CheckpointError
from sightline.model.checkpoint import load_checkpoint
from sightline.model.vlm import VisionLanguageModel


def load(
    directory: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[VisionLanguageModel, Processor]:
    """Loads a checkpoint for answering.

    Raises:
        CheckpointError: it is missing, damaged, or was not written by Sightline.
    """
    path = readable_directory(Path(directory))
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such directory; give the directory of a trained run")
    model, info = load_checkpoint(path, device=torch.device(device), dtype=dtype)
    settings = info.get("processor")
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}/sightline.json: no processor settings; train or import it again")
    try:
        processor = load_processor(path, settings)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}/sightline.json: processor settings this version cannot read: {error}; update, or train it again"
        ) from error
    if processor.image_token_id != model.image_token_id:
        raise CheckpointError(
            f"{path}: the tokenizer's <image> is {processor.image_token_id}, the model's {model.image_token_id}; "
            "they are not of one checkpoint"
        )
    return model.eval(), processor
