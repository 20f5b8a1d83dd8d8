"""From a recipe's `model` to a processor and a model.

Comes in: a recipe. Goes out: the processor, made from configurations alone, and the model with its weights. Knows no
data and no optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from sightline.data.normalisation import image_normalisation
from sightline.data.processor import Processor, ProcessorSettings, load_tokenizer
from sightline.errors import CheckpointError, ConfigError
from sightline.model.build import build_language, build_vision, meta_model, meta_vision, resize_vocabulary
from sightline.model.checkpoint import load_checkpoint, meta_checkpoint, read_info
from sightline.model.connector import build_connector
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import MIN_TEXT, BuiltPart, ModelSpec, Recipe

_ENCODER_SETTINGS = ("image_size", "image_mean", "image_std", "image_tokens", "patch_size", "num_prefix_tokens")
"""What a checkpoint's processor settings say about its encoder; the rest is the recipe's to choose."""


def assemble_processor(recipe: Recipe) -> Processor:
    """The processor of a run; reads configurations and the tokenizer, no weights.

    Raises:
        ConfigError: the tokenizer or a configuration is missing, or `max_length` cannot hold one picture and a text.
    """
    spec = recipe.model
    if spec.start is not None:
        settings = _settings_of(Path(spec.start))
        missing = [name for name in _ENCODER_SETTINGS if name not in settings]
        if missing:
            raise CheckpointError(
                f"{spec.start}/sightline.json: no {missing[0]} in its processor settings; train it again"
            )
        fixed = {name: settings[name] for name in _ENCODER_SETTINGS}
        tokenizer = load_tokenizer(spec.start)
    else:
        assert spec.vision is not None
        assert spec.language is not None
        tokenizer = load_tokenizer(_tokenizer_source(spec))
        source = _plain(spec.vision)
        vision = meta_vision(source, layer=spec.vision_layer, select=spec.vision_select)
        mean, std = image_normalisation(
            source if isinstance(source, str) else None, model_type=vision.backbone.config.model_type
        )
        fixed = {
            "image_size": vision.image_size,
            "image_mean": mean,
            "image_std": std,
            "image_tokens": vision.tokens_per_image,
            "patch_size": vision.patch_size,
            "num_prefix_tokens": vision.num_prefix_tokens,
        }
    fixed["image_mean"], fixed["image_std"] = tuple(fixed["image_mean"]), tuple(fixed["image_std"])
    if recipe.max_length < fixed["image_tokens"] + MIN_TEXT:
        raise ConfigError(
            f"max_length: found {recipe.max_length}, but one picture takes {fixed['image_tokens']} positions; "
            f"give at least {fixed['image_tokens'] + MIN_TEXT}"
        )
    return Processor(
        tokenizer,
        ProcessorSettings(
            template=recipe.template, image_policy=recipe.image_policy, max_length=recipe.max_length, **fixed
        ),
    )


def assemble_model(recipe: Recipe, processor: Processor) -> VisionLanguageModel:
    """The model in fp32 on the CPU: from `start`, or from its parts with a new connector."""
    spec = recipe.model
    if spec.start is not None:
        model, _ = load_checkpoint(Path(spec.start))
        return model
    assert spec.vision is not None
    assert spec.language is not None
    vision = build_vision(_plain(spec.vision), layer=spec.vision_layer, select=spec.vision_select)
    language = build_language(_plain(spec.language))
    resize_vocabulary(language, max(len(processor.tokenizer), processor.image_token_id + 1))
    connector = build_connector(
        spec.connector, vision_width=vision.width, language_width=language.get_input_embeddings().embedding_dim
    )
    return VisionLanguageModel(vision, connector, language, image_token_id=processor.image_token_id)


def assemble_parts_on_meta(recipe: Recipe) -> dict[str, nn.Module]:
    """The three parts without weights, from configurations alone."""
    spec = recipe.model
    if spec.start is not None:
        return meta_checkpoint(Path(spec.start)).parts()
    assert spec.vision is not None
    assert spec.language is not None
    return meta_model(
        _plain(spec.vision),
        _plain(spec.language),
        connector=spec.connector,
        layer=spec.vision_layer,
        select=spec.vision_select,
    )


def tokenizer_of(recipe: Recipe) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a run; None where there is none to be had, as beside a bare configuration."""
    spec = recipe.model
    try:
        return load_tokenizer(_tokenizer_source(spec) if spec.start is None else spec.start)
    except ConfigError:
        return None


def _settings_of(start: Path) -> Mapping[str, Any]:
    if not start.is_dir():
        raise ConfigError(
            f"model.start: no directory {start}; give the output of an earlier run, such as its align stage"
        )
    settings = read_info(start).get("processor")
    if not isinstance(settings, dict):
        raise CheckpointError(f"{start}/sightline.json: no processor settings; train it again")
    return settings


def _tokenizer_source(spec: ModelSpec) -> str:
    if spec.tokenizer is not None:
        return _located(spec.tokenizer)
    if isinstance(spec.language, str):
        return _located(spec.language)
    raise ConfigError("model.tokenizer: missing; a language model built from a config brings none")


def _plain(spec: str | BuiltPart) -> str | Mapping[str, Any]:
    return _located(spec) if isinstance(spec, str) else spec.model_dump()


def _located(source: str) -> str:
    """`package:demo/parts/vision` is a folder that came with this package; anything else stays as it is."""
    scheme, _, inner = source.partition("package:")
    return source if scheme else str(files("sightline") / inner)
