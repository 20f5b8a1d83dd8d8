"""The original LLaVA's names for our tensors and settings, both ways.

Comes in: names and the content of a `config.json`. Goes out: the same in the other's words. Pure functions; knows
nothing of files. "Our name" is a tensor's name in our checkpoint's files (`model/layout.py`).

| the original's (llava_arch.py, clip_encoder.py, multimodal_projector/builder.py) | ours |
|---|---|
| `model.layers.0...`, `model.embed_tokens.weight`, `lm_head.weight` | `language_model.` + the same |
| `model.mm_projector.{2i}.weight` | `multi_modal_projector.linear_{i+1}.weight` |
| `model.mm_projector.weight` (a single layer) | `multi_modal_projector.linear_1.weight` |
| `model.vision_tower.vision_tower.vision_model...` | `vision_tower.vision_model...` |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sightline.errors import CheckpointError, ConfigError
from sightline.model.connector import connector_depth
from sightline.model.layout import NESTED_TOWERS

LANGUAGE_TYPES = {"llava": "llama", "llava_llama": "llama", "llava_mistral": "mistral"}
"""The original's `model_type` -> that of its language model. `llava` is what it wrote before v1.2."""
ORIGINAL_TYPES = {
    "llama": ("llava_llama", "LlavaLlamaForCausalLM"),
    "mistral": ("llava_mistral", "LlavaMistralForCausalLM"),
}
"""A language model's type -> the `model_type` and class under which the original loads it."""
MAX_LENGTH = 2048
"""`model_max_length` of all of the original's scripts, and its loader's context where the config says nothing."""

_TOWER = "model.vision_tower.vision_tower."
_PROJECTOR = "model.mm_projector."
_WEIGHT_OR_BIAS = re.compile(r"(?:(\d{1,3})\.)?(weight|bias)")
_LINEAR = re.compile(r"multi_modal_projector\.linear_(\d{1,3})\.(weight|bias)")

_T = TypeVar("_T", str, int)


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginalSettings:
    """What a config of the original says beside its language model, in our words.

    Attributes:
        tower: `mm_vision_tower`: a directory or hub id; None if it is not said.
        connector: `mm_projector_type`.
        layer, select: `mm_vision_select_layer`, `mm_vision_select_feature`.
        image_policy: `image_aspect_ratio`: `pad` is pad, `square` or nothing is crop.
        max_length: `tokenizer_model_max_length`.
        wraps_images: `mm_use_im_start_end`: trained with `<im_start>` and `<im_end>` around every picture.
    """

    tower: str | None
    connector: str
    layer: int = -2
    select: str = "patch"
    image_policy: Literal["pad", "crop"] = "crop"
    max_length: int = MAX_LENGTH
    wraps_images: bool = False


def our_name(name: str, *, vision_type: str) -> str:
    """The name in our files of the original's tensor `name`; `vision_type` is the tower's model_type.

    Total: what the original does not have gets a name that no model of ours has.
    """
    if name.startswith(_TOWER):
        return tower_name(name.removeprefix(_TOWER), vision_type=vision_type)
    if name.startswith(_PROJECTOR):
        layer = _WEIGHT_OR_BIAS.fullmatch(name.removeprefix(_PROJECTOR))
        if layer is not None and int(layer[1] or 0) % 2 == 0:
            return f"multi_modal_projector.linear_{int(layer[1] or 0) // 2 + 1}.{layer[2]}"
    return f"language_model.{name}"


def original_name(name: str, *, connector: str) -> str | None:
    """The original's name for the tensor `name` of our files.

    None for the identity layers that stand in a standard checkpoint for what `connector` does not have.
    """
    if name.startswith("vision_tower."):
        return _TOWER + name.removeprefix("vision_tower.")
    layer = _LINEAR.fullmatch(name)
    if layer is None:
        return name.removeprefix("language_model.")
    index = int(layer[1]) - 1
    if index >= connector_depth(connector):
        return None
    # A linear projector is a bare nn.Linear in the original, an MLP a sequence of layers and activations.
    return _PROJECTOR + (layer[2] if connector == "linear" else f"{2 * index}.{layer[2]}")


def tower_name(name: str, *, vision_type: str) -> str:
    """Our name for an encoder's own tensor, with or without the `vision_model.` that transformers 5 drops."""
    if vision_type in NESTED_TOWERS:
        return "vision_tower.vision_model." + name.removeprefix("vision_model.")
    return f"vision_tower.{name}"


def read_settings(config: Mapping[str, Any], *, where: str) -> OriginalSettings:
    """What the original's `config.json` says about everything but the language model.

    Raises:
        CheckpointError: it asks for several views of a picture, or a value is none of the original's.
    """
    _refuse_views(config, where=where)
    connector = _connector(config.get("mm_projector_type") or "linear", where)  # the default of build_vision_projector
    aspect = config.get("image_aspect_ratio") or "square"
    if aspect not in ("square", "pad"):
        raise CheckpointError(f"{where}: image_aspect_ratio is {aspect!r}, expected square or pad")
    tower = config.get("mm_vision_tower", config.get("vision_tower"))
    return OriginalSettings(
        tower=_checked(tower, str, "mm_vision_tower", where) if tower is not None else None,
        connector=connector,
        layer=_checked(config.get("mm_vision_select_layer", -2), int, "mm_vision_select_layer", where),
        select=_checked(config.get("mm_vision_select_feature") or "patch", str, "mm_vision_select_feature", where),
        image_policy="pad" if aspect == "pad" else "crop",
        max_length=_checked(
            config.get("tokenizer_model_max_length") or MAX_LENGTH, int, "tokenizer_model_max_length", where
        ),
        wraps_images=bool(config.get("mm_use_im_start_end", False)),
    )


def write_config(settings: OriginalSettings, text_config: Mapping[str, Any], *, vision_width: int) -> dict[str, Any]:
    """The content of the original's `config.json`.

    Args:
        text_config: what the language model's own `config.json` holds, with its `model_type`.
        vision_width: C, the length of the tower's feature vectors.

    Raises:
        CheckpointError: the original has no class for this language model.
    """
    language = text_config.get("model_type")
    if language not in ORIGINAL_TYPES:
        raise CheckpointError(f"the original LLaVA has no class for {language}, only for {', '.join(ORIGINAL_TYPES)}")
    model_type, architecture = ORIGINAL_TYPES[language]
    return {
        **text_config,
        "architectures": [architecture],
        "model_type": model_type,
        "image_aspect_ratio": "pad" if settings.image_policy == "pad" else "square",
        "mm_hidden_size": vision_width,
        "mm_patch_merge_type": "flat",
        "mm_projector_type": settings.connector,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": settings.wraps_images,
        "mm_vision_select_feature": settings.select,
        "mm_vision_select_layer": settings.layer,
        "mm_vision_tower": settings.tower,
        "tokenizer_model_max_length": settings.max_length,
        "tokenizer_padding_side": "right",
        "use_mm_proj": True,
    }


def text_settings(config: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The original's `config.json` as one of its plain language model; the settings of `read_settings` may stay in it.

    Raises:
        CheckpointError: its language model is of a family that is not read here (MPT).
    """
    model_type = config.get("model_type")
    if model_type not in LANGUAGE_TYPES:
        expected = ", ".join(LANGUAGE_TYPES)
        raise CheckpointError(f"{where}: model_type is {model_type!r}, expected one of {expected}")
    return {**config, "model_type": LANGUAGE_TYPES[model_type]}


def _refuse_views(config: Mapping[str, Any], *, where: str) -> None:
    """LLaVA-NeXT (v1.6) cuts a picture into several views, S2 looks at several sizes: neither is here."""
    merge, aspect = str(config.get("mm_patch_merge_type") or "flat"), str(config.get("image_aspect_ratio"))
    signs = {
        "mm_patch_merge_type": merge if merge != "flat" else None,
        "image_aspect_ratio": aspect if "anyres" in aspect else None,
        "image_grid_pinpoints": "set" if config.get("image_grid_pinpoints") else None,
        "s2": "true" if config.get("s2") else None,
    }
    for key, value in signs.items():
        if value is not None:
            raise CheckpointError(
                f"{where}: {key} is {value}: LLaVA-NeXT (v1.6) and other checkpoints that see a picture in several "
                "views cannot be read yet; use a LLaVA-1.0 or 1.5 checkpoint"
            )


def _connector(kind: object, where: str) -> str:
    """Our connector of this type; an MLP of one layer is a linear one."""
    name = _checked(kind, str, "mm_projector_type", where)
    try:
        return "linear" if name == "mlp1x_gelu" or connector_depth(name) == 1 else name
    except ConfigError as error:
        raise CheckpointError(f"{where}: mm_projector_type: {error}") from error


def _checked(value: object, kind: type[_T], key: str, where: str) -> _T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CheckpointError(f"{where}: {key} is {value!r}, expected {'a text' if kind is str else 'a whole number'}")
    return value
