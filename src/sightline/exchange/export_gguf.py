"""Two files for llama.cpp: the language model, and `mmproj` with vision tower and connector.

Comes in: a checkpoint of ours. Goes out: two GGUF files that llama.cpp, Ollama and what is built on them load as a
LLaVA. llama.cpp's own converter takes no CLIP tower under `LlavaForConditionalGeneration`, so both are written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.errors import CheckpointError
from sightline.exchange import gguf_language, gguf_tower
from sightline.exchange.gguf_file import check_keys, check_package, general_keys, read_gguf, write_gguf
from sightline.exchange.gguf_vocabulary import Value, vocabulary
from sightline.exchange.source import Options, Source, Written, cast, fixed_logits, rebuild

LLAMA_CPP_PAD = (122, 116, 104)
"""The colour with which llama.cpp pads pictures for a LLaVA, whatever the file says (clip.cpp)."""
_TYPE_NAMES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}


def write_gguf_pair(source: Source, directory: Path, options: Options) -> Written:
    """Writes `NAME-f16.gguf` and `mmproj-NAME-f16.gguf`."""
    check_package()
    name = re.sub(r"[^\w.-]+", "-", options.target.name)
    files = [directory / f"{prefix}{name}-{_TYPE_NAMES[options.dtype]}.gguf" for prefix in ("", "mmproj-")]
    keys = _language_keys(source, name, options.dtype), _tower_keys(source, name, options.dtype)
    write_gguf(files[0], keys[0], _language_tensors(source, options.dtype))
    write_gguf(files[1], keys[1], _tower_tensors(source, options.dtype))
    return Written(logits=lambda: _logits(source, files, keys), notes=_notes(source))


def gguf_dtype(name: str, tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The type of one of our tensors in the files, as llama.cpp's converter chooses it.

    In float32 are vectors and positions; its convolution takes float32 or float16.
    """
    if tensor.dim() < 2 or name.endswith("position_embedding.weight"):
        return torch.float32
    is_convolution = tensor.dim() == 4
    return torch.float32 if is_convolution and dtype is torch.bfloat16 else dtype


def _language_keys(source: Source, name: str, dtype: torch.dtype) -> dict[str, Value]:
    config = source.model.language.config
    architecture = gguf_language.ARCHITECTURES[config.model_type]
    return (
        general_keys(architecture, kind="model", name=name, dtype=dtype)
        | gguf_language.language_keys(config, rows=source.rows)
        | vocabulary(source.processor, rows=source.rows, chat_template=source.chat_template)
    )


def _tower_keys(source: Source, name: str, dtype: torch.dtype) -> dict[str, Value]:
    settings = source.processor.settings
    width = source.model.connector.language_width
    return general_keys("clip", kind="mmproj", name=name, dtype=dtype) | gguf_tower.tower_keys(
        source.model.vision, language_width=width, mean=settings.image_mean, std=settings.image_std
    )


def _cast_tensors(source: Source, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in source.tensors(torch.float32):
        yield name, cast(tensor, gguf_dtype(name, tensor, dtype), name=name)


def _language_tensors(source: Source, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    config = source.model.language.config
    for name, tensor in _cast_tensors(source, dtype):
        if name.startswith("language_model."):
            yield gguf_language.language_tensor(name, tensor, config)
    yield from gguf_language.extra_tensors(config)


def _tower_tensors(source: Source, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    return gguf_tower.tower_tensors(_cast_tensors(source, dtype), source.model.vision, source.model.connector.kind)


def _logits(source: Source, files: list[Path], expected: tuple[dict[str, Value], dict[str, Value]]) -> Tensor:
    """Read both files back: every key as it was written, every tensor that of the checkpoint, and the logits of a model
    that is made from nothing but the files."""
    (keys, language), (tower_keys, tower) = (read_gguf(file) for file in files)
    check_keys(keys, expected[0], where=files[0])
    check_keys(tower_keys, expected[1], where=files[1])
    text, pictures = dict(language), dict(tower)
    text_config = gguf_language.language_config(
        keys, tied="output.weight" not in text, biases=[name for name in text if name.endswith("bias")]
    )
    factors = text.pop(gguf_language.ROPE_FACTORS, None)
    vision_config, layer = gguf_tower.tower_config(tower_keys, names=pictures)
    projector = {name: pictures.pop(name) for name in list(pictures) if name.startswith("mm.")}
    ours = dict(gguf_language.our_language_tensor(name, tensor, text_config) for name, tensor in text.items())
    ours |= dict(gguf_tower.our_tower_tensor(name, tensor) for name, tensor in pictures.items())
    ours |= gguf_tower.our_projector(projector, source.model.connector.kind)
    _check_tensors(source, ours)
    model = rebuild(
        vision_config=vision_config,
        text_config=text_config,
        connector=source.model.connector.kind,
        layer=layer,
        select="patch",
        image_token_id=source.model.image_token_id,
        tensors=ours.items(),
    )
    if factors is not None:
        _stretch(model.language, factors, text_config)
    return fixed_logits(model, source.processor)


def _check_tensors(source: Source, found: dict[str, Tensor]) -> None:
    """Every tensor that was read back is that of the checkpoint, rounded to the type that it has now."""
    for name, tensor in source.tensors(torch.float32):
        if name in found and not torch.equal(tensor.to(found[name].dtype), found[name]):
            raise CheckpointError(f"gguf: read back, {name} is not what was written; nothing was written")


def _stretch(language: Any, factors: Tensor, config: Any) -> None:
    """Divide a model's rotary frequencies as llama.cpp does."""
    language.model.rotary_emb.inv_freq.copy_(gguf_language.plain_frequencies(config) / factors)


def _notes(source: Source) -> tuple[str, ...]:
    """What llama.cpp does otherwise."""
    policy, colour = source.processor.transform.policy, source.processor.transform.pad_color
    notes = ["llama.cpp takes its GELU from tables in fp16: its logits differ from these in the third or fourth digit"]
    if source.model.vision.num_prefix_tokens:
        notes.append(
            "llama.cpp since May 2025 puts CLIP's class token behind the patches (its issue 25814) and sees pictures "
            "wrongly: use a version in which that is mended"
        )
    if policy == "crop":
        notes.append("llama.cpp pads pictures to squares; this checkpoint was trained on cropped ones")
    elif colour != LLAMA_CPP_PAD:
        notes.append(f"llama.cpp pads pictures with {LLAMA_CPP_PAD}; this checkpoint was trained with {colour}")
    return tuple(notes)
