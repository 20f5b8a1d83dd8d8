"""A checkpoint of ours that is to leave: what its export is made of, and what it is compared with.

Comes in: the directory of a checkpoint. Goes out: its tensors one by one, its parts without weights, its processor; and
the logits that it gives for a picture and a prompt that never change. Knows no format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.atomic import read_json, readable_directory
from sightline.data.processor import Processor, load_processor
from sightline.errors import CheckpointError
from sightline.exchange.formats import Parts, rope_type
from sightline.model.build import (
    finish_without_weights,
    language_from_config,
    vision_from_config,
    without_initialisation,
)
from sightline.model.checkpoint import checkpoint_tensors, load_checkpoint, meta_checkpoint, read_info
from sightline.model.connector import build_connector
from sightline.model.vision import VisionEncoder
from sightline.model.vlm import VisionLanguageModel
from sightline.model.weights import TensorHeader, read_headers, read_tensors

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""The types that an export may have, by the names of the command line."""
_STORED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# Settings of configuration classes in general, which say nothing about a model; and transformers 5's way to write the
# rotary embedding.
_UNSAID = frozenset(
    {"transformers_version", "dtype", "architectures", "_name_or_path", "id2label", "label2id", "problem_type"}
    | {"chunk_size_feed_forward", "is_encoder_decoder", "output_attentions", "output_hidden_states", "return_dict"}
    | {"rope_parameters"}
)

PICTURE_SIDES = (96, 64)
PROMPT = "What is in the picture?"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a format may be told.

    Attributes:
        dtype: of the export's matrices.
        target: where the export will lie in the end, for files that name each other.
        tower: `llava`: the name of the vision tower, instead of a copy of it beside the model.
    """

    dtype: torch.dtype
    target: Path
    tower: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """An export that was written and not yet verified.

    Attributes:
        logits: reads it back and gives what it says about the fixed picture and prompt: float32[T, V].
        notes: what its readers do otherwise than we do, for people.
    """

    logits: Callable[[], Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint, opened for export.

    Attributes:
        model: its parts on the meta device: configurations, shapes, names; no weights.
        info: what else its `sightline.json` says.
        headers: what its files say about their tensors, by the names of the standard layout.
    """

    directory: Path
    model: VisionLanguageModel
    processor: Processor
    info: Mapping[str, Any]
    headers: Mapping[str, TensorHeader]

    @property
    def parts(self) -> Parts:
        """What decides over formats."""
        return Parts(
            vision=self.model.vision,
            connector=self.model.connector.kind,
            language=self.model.language,
            image_token_id=self.model.image_token_id,
            tokenizer=self.processor.tokenizer,
        )

    @property
    def rows(self) -> int:
        """Rows of the embedding matrix."""
        return len(self.model.language.get_input_embeddings().weight)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The type that most tensors of the files have."""
        names = [header.dtype for header in self.headers.values()]
        return _STORED.get(max(set(names), key=names.count), torch.float32)

    @cached_property
    def chat_template(self) -> str | None:
        """The Jinja template that stands beside the model."""
        path = self.directory / "chat_template.jinja"
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        content = read_json(self.directory / "config.json")
        assert isinstance(content, dict)
        return content

    def tensors(self, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """Every tensor by its name in the file, one at a time; floats in `dtype`.

        Raises:
            CheckpointError: a value is too large for `dtype`.
        """
        for name, tensor in read_tensors(self.directory, self.headers):
            yield name, cast(tensor, dtype, name=name)


def open_source(directory: Path) -> Source:
    """Opens a checkpoint; reads no weights.

    Raises:
        CheckpointError: there is none, it is damaged, or it has no processor.
    """
    path = readable_directory(directory)
    model = meta_checkpoint(path)
    info = read_info(path)
    settings = info.get("processor")
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}/sightline.json: no processor settings; train or import it again")
    return Source(
        directory=path, model=model, processor=load_processor(path, settings), info=info, headers=read_headers(path)
    )


def legacy_settings(config: Any) -> dict[str, Any]:
    """Every setting of a configuration, defaults too, with the rotary embedding as transformers 4 wrote it.

    For readers whose defaults are not those of transformers 5, or that read nothing but their own keys.
    """
    content = {key: value for key, value in config.to_dict().items() if key not in _UNSAID}
    rope = getattr(config, "rope_parameters", None)
    if rope is None:
        return content
    kind = rope_type(config)
    scaling = None if kind == "default" else {"type": kind, "factor": rope["factor"]}
    return content | {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}


def cast(tensor: Tensor, dtype: torch.dtype, *, name: str) -> Tensor:
    """A float tensor in `dtype`; others as they are. `CheckpointError` where a value has no place in it."""
    if not tensor.is_floating_point() or tensor.dtype == dtype:
        return tensor
    found = tensor.to(dtype)
    if not found.isfinite().all():
        raise CheckpointError(f"{name} has values beyond the range of {dtype}: export it as bf16 or fp32")
    return found


def fixed_picture() -> Image.Image:
    """Ramps of colour, 96 x 64: no two columns or rows alike, and not square, so that padding and cropping differ."""
    width, height = PICTURE_SIDES
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    colours = np.stack([across * 255 // (width - 1), down * 255 // (height - 1), (across * 7 + down * 11) % 256])
    return Image.fromarray(colours.transpose(1, 2, 0).astype(np.uint8), "RGB")


def fixed_prompt(processor: Processor) -> Tensor:
    """int64[1, T]: one picture's placeholders and a few words. No template: some have no form for a question."""
    words = processor.tokenizer.encode(PROMPT, add_special_tokens=False)
    return torch.tensor([[*words[:2], *[processor.image_token_id] * processor.settings.image_tokens, *words]])


@torch.no_grad()
def fixed_logits(model: VisionLanguageModel, processor: Processor) -> Tensor:
    """float32[T, V]: what `model` says about the picture and prompt that never change."""
    logits: Tensor = model(fixed_prompt(processor), pixels=processor.pixels([fixed_picture()]))[0]
    return logits.float()


def source_logits(source: Source, rounds: Callable[[str, Tensor], torch.dtype]) -> Tensor:
    """The logits of the checkpoint itself, computed in float32.

    Args:
        rounds: the type in which the export holds a tensor (by its name in our files); it is rounded to that first.
    """
    model, _ = load_checkpoint(source.directory)
    with torch.no_grad():
        for name, tensor in checkpoint_tensors(model)[0].items():
            tensor.copy_(tensor.to(rounds(name, tensor)))
    return fixed_logits(model, source.processor)


def rebuild(
    *,
    vision_config: Any,
    text_config: Any,
    connector: str,
    layer: int,
    select: str,
    image_token_id: int,
    tensors: Iterable[tuple[str, Tensor]],
) -> VisionLanguageModel:
    """A model in float32 made anew from what an export says, its tensors named as in our own files.

    What the features do not depend on (layers above the tapped one) may be missing.

    Raises:
        CheckpointError: a tensor that is needed is missing, or one is there that has no place.
    """
    with without_initialisation():
        vision = VisionEncoder(vision_from_config(vision_config, dtype=torch.float32), layer=layer, select=select)
        language = language_from_config(text_config, dtype=torch.float32)
        width = language.get_input_embeddings().weight.shape[1]
        bridge = build_connector(connector, vision_width=vision.width, language_width=width)
    finish_without_weights(vision.backbone)
    finish_without_weights(language)
    model = VisionLanguageModel(vision, bridge, language, image_token_id=image_token_id).eval()
    own, fillers = checkpoint_tensors(model)
    with torch.no_grad():
        for name, tensor in tensors:
            if name in own and own[name].shape == tensor.shape:
                own.pop(name).copy_(tensor)
            elif name not in fillers:
                shape = [*tensor.shape]
                raise CheckpointError(f"the export has {name} of shape {shape}: its configuration has no place for it")
    used = {vision.backbone.get_parameter(name).data_ptr() for name in vision.used_parameters}
    needed = [name for name, left in own.items() if not name.startswith("vision_tower.") or left.data_ptr() in used]
    if needed:
        raise CheckpointError(f"the export lacks {len(needed)} tensors, such as {min(needed)}")
    return model
