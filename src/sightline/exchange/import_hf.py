"""Checkpoints that transformers wrote (llava-hf), in all of its layouts.

Comes in: what `recognise` found. Goes out: a `Draft`. Our own files are in the first of the three layouts:

| tensors | written by |
|---|---|
| `language_model.model.*`, `language_model.lm_head.weight`, `vision_tower.vision_model.*` | transformers before 4.52 |
| `model.language_model.*`, `lm_head.weight`, `model.vision_tower.vision_model.*` | 4.52 and newer |
| either, with `vision_tower.*` in the place of `vision_tower.vision_model.*` | 5.6 and newer |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from sightline.errors import CheckpointError, ConfigError
from sightline.exchange.import_draft import Draft
from sightline.exchange.import_parts import renamed
from sightline.exchange.import_plan import Supply
from sightline.exchange.original import MAX_LENGTH, OriginalSettings, tower_name
from sightline.exchange.recognise import Found, read_config_file
from sightline.exchange.tensor_files import Stored, TensorReader
from sightline.model.configs import parse_config

_LAYERS = ("multi_modal_projector.linear_1", "multi_modal_projector.linear_2")


def draft_hf(found: Found, *, base: str | None, vision: str | None, reader: TensorReader) -> Draft:
    """A LlavaForConditionalGeneration, which is whole: language model, tower, tokenizer."""
    where = str(found.directory / "config.json")
    config = found.config or {}
    for option, given in (("--base", base), ("--vision", vision)):
        if given is not None:
            raise ConfigError(f"{found.directory}: is a whole llava-hf model, which needs no {option}; remove it")
    if config.get("model_type") not in ("llava", "sightline"):
        raise CheckpointError(f"{where}: model_type is {config.get('model_type')!r}, expected llava")
    parts = [_part(config, key, where=where) for key in ("vision_config", "text_config")]
    vision_config, text_config = parts
    if "tie_word_embeddings" in config and "tie_word_embeddings" not in config.get("text_config", {}):
        text_config.tie_word_embeddings = bool(config["tie_word_embeddings"])
    own = renamed(found.tensors, lambda name: our_name(name, vision_type=vision_config.model_type))
    return Draft(
        what="a llava-hf checkpoint of transformers",
        vision_config=vision_config,
        text_config=text_config,
        settings=OriginalSettings(
            tower=None,
            connector=_connector(config, own, reader, where=where),
            layer=_layer(config, where=where),
            select=_select(config, vision_config, where=where),
            image_policy=image_policy(found.directory),
            max_length=min(MAX_LENGTH, getattr(text_config, "max_position_embeddings", MAX_LENGTH)),
        ),
        supplies=[Supply("checkpoint", own)],
        tokenizer=found.directory,
        pixels=found.directory,
        image_token_id=config.get("image_token_index", config.get("image_token_id")),
    )


def our_name(name: str, *, vision_type: str) -> str:
    """The name in our files of a tensor in any of the layouts."""
    inner = name.removeprefix("model.")
    part, _, rest = inner.partition(".")
    if part == "vision_tower":
        return tower_name(rest, vision_type=vision_type)
    if inner == "lm_head.weight":
        return "language_model.lm_head.weight"
    if part == "language_model" and not rest.startswith(("model.", "lm_head.")):
        return f"language_model.model.{rest}"
    return inner


def image_policy(directory: Path) -> Literal["pad", "crop"]:
    """What the processor beside a model does with pictures that are not square; transformers crops unless told."""
    nested = (read_config_file(directory, "processor_config.json") or {}).get("image_processor")
    alone = read_config_file(directory, "preprocessor_config.json")
    settings = nested if isinstance(nested, dict) else alone or {}
    return "pad" if settings.get("do_pad") is True else "crop"


def _part(config: Mapping[str, Any], key: str, *, where: str) -> Any:
    content = config.get(key)
    if not isinstance(content, dict):
        raise CheckpointError(f"{where}: no {key}; expected the settings of a LlavaConfig")
    default = "clip_vision_model" if key == "vision_config" else "llama"  # LlavaConfig's
    return parse_config({"model_type": default, **content}, where=f"{where}: {key}", closed=False)


def _connector(config: Mapping[str, Any], own: Mapping[str, Stored], reader: TensorReader, *, where: str) -> str:
    """Which of our connectors the standard projector (linear, activation, linear) is.

    Without an activation it may be a single layer beside an identity, as our own checkpoints write it.
    """
    if not config.get("multimodal_projector_bias", True):
        raise CheckpointError(f"{where}: multimodal_projector_bias is false, expected a projector with biases")
    activation = config.get("projector_hidden_act", "gelu")
    if activation == "gelu":
        return "mlp2x_gelu"
    if activation != "linear":
        raise CheckpointError(f"{where}: projector_hidden_act is {activation!r}, expected gelu or linear")
    first, second = (_is_identity(own, layer, reader) for layer in _LAYERS)
    if not second:
        raise CheckpointError(
            f"{where}: projector_hidden_act is linear, but {_LAYERS[1]} is no identity: two linear layers without "
            "anything between them are no connector here"
        )
    return "identity" if first else "linear"


def _is_identity(own: Mapping[str, Stored], layer: str, reader: TensorReader) -> bool:
    weight, bias = own.get(f"{layer}.weight"), own.get(f"{layer}.bias")
    if weight is None or bias is None or len(set(weight.shape)) != 1 or len(weight.shape) != 2:
        return False
    matrix = reader.read(weight)
    return bool(torch.equal(matrix, torch.eye(len(matrix), dtype=matrix.dtype)) and not reader.read(bias).any())


def _layer(config: Mapping[str, Any], *, where: str) -> int:
    layer = config.get("vision_feature_layer", -2)
    if not isinstance(layer, int) or isinstance(layer, bool):
        raise CheckpointError(f"{where}: vision_feature_layer is {layer!r}, expected one whole number")
    return layer


def _select(config: Mapping[str, Any], vision_config: Any, *, where: str) -> str:
    """Our selection for a strategy: `default` drops one token, `full` none."""
    strategy = config.get("vision_feature_select_strategy", "default")
    without_class_token = vision_config.model_type == "siglip_vision_model"
    if strategy == "full":
        return "patch" if without_class_token else "cls_patch"
    if strategy != "default" or without_class_token:
        raise CheckpointError(
            f"{where}: vision_feature_select_strategy is {strategy!r}, expected full"
            + (" for an encoder without a class token, or a patch is lost" if without_class_token else " or default")
        )
    return "patch"
