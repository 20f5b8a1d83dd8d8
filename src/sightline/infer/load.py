"""From a checkpoint's directory to something that answers.

Comes in: a directory. Goes out: the model and its processor, or the processor alone. Everything it needs to know stands
in the checkpoint; only the template may be named anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sightline.atomic import readable_directory
from sightline.data.processor import Processor, load_processor
from sightline.errors import CheckpointError
from sightline.model.checkpoint import load_checkpoint, read_info
from sightline.model.few_rows import quicken
from sightline.model.quantize import import_bitsandbytes, quantize_language, scheme_of
from sightline.model.vlm import VisionLanguageModel


def load(
    directory: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    template: str | None = None,
    quantize: str | None = None,
) -> tuple[VisionLanguageModel, Processor]:
    """Loads a checkpoint for answering.

    Args:
        template: in the place of the one that it was trained with.
        quantize: "int8" or "nf4", for the language model's linear layers but its output head.

    Raises:
        CheckpointError: it is missing, damaged, or was not written by Sightline.
        ConfigError: there is no such template, or it does not go with the tokenizer; there is no such quantisation, or
            bitsandbytes is not installed.
    """
    path = _existing(directory)
    scheme = None if quantize is None else scheme_of(quantize, key="--quantize")
    if scheme is not None:
        import_bitsandbytes("--quantize")
    model, info = load_checkpoint(path, device=torch.device("cpu" if scheme else device), dtype=dtype)
    processor = _processor(path, info, template)
    if processor.image_token_id != model.image_token_id:
        raise CheckpointError(
            f"{path}: the tokenizer's <image> is {processor.image_token_id}, the model's {model.image_token_id}; "
            "they are not of one checkpoint"
        )
    if scheme is not None:  # layer by layer, so that the device never holds the model in full
        quantize_language(model.language, scheme, device=torch.device(device), dtype=dtype, key="--quantize")
        model.to(device)
    quicken(model.language)
    return model.eval(), processor


def load_processor_alone(directory: str | Path, *, template: str | None = None) -> Processor:
    """The processor of a checkpoint, whose weights are neither read nor verified. Errors as in `load`."""
    path = _existing(directory)
    return _processor(path, read_info(path), template)


def _existing(directory: str | Path) -> Path:
    path = readable_directory(Path(directory))
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such directory; give the directory of a trained run")
    return path


def _processor(path: Path, info: Mapping[str, Any], template: str | None) -> Processor:
    settings = info.get("processor")
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}/sightline.json: no processor settings; train or import it again")
    if template is not None:
        settings = settings | {"template": template}
    try:
        return load_processor(path, settings)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}/sightline.json: processor settings this version cannot read: {error}; update, or train it again"
        ) from error
