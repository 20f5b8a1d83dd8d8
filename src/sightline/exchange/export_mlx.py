"""The layout of mlx-vlm: that of llava-hf, with convolutions the other way round.

Comes in: a checkpoint of ours. Goes out: a directory that mlx-vlm loads without converting. It is only a layout
(mlx_vlm/models/llava): the same names; the patch embedding [out, height, width, in] instead of [out, in, height,
width]; and configurations in which nothing is left to defaults, because mlx-vlm's are LLaVA-1.5's and not
transformers'. Written and read without the mlx package.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sightline.atomic import read_json
from sightline.exchange.export_hf import write_settings
from sightline.exchange.source import Options, Source, Written, fixed_logits, legacy_settings, rebuild
from sightline.model.configs import parse_config
from sightline.model.weights import read_headers, read_tensors, write_weights

PATCHES = "vision_tower.vision_model.embeddings.patch_embedding.weight"


def write_mlx(source: Source, directory: Path, options: Options) -> Written:
    """Writes weights, configurations, tokenizer and processor."""
    config = source.config()
    tied = {"tie_word_embeddings": config["tie_word_embeddings"]}
    config["text_config"] = legacy_settings(source.model.language.config) | tied
    config["vision_config"] = legacy_settings(source.model.vision.backbone.config)
    write_settings(source, directory, config, dtype=options.dtype)
    write_weights({name: to_mlx(name, tensor) for name, tensor in source.tensors(options.dtype)}, directory)
    return Written(
        logits=lambda: _logits(source, directory),
        notes=("mlx-vlm was not run: its layout was written and read back",),
    )


def to_mlx(name: str, tensor: Tensor) -> Tensor:
    """A tensor as MLX holds it: channels last in convolutions."""
    return tensor.permute(0, 2, 3, 1) if name == PATCHES else tensor


def from_mlx(name: str, tensor: Tensor) -> Tensor:
    """The inverse of `to_mlx`."""
    return tensor.permute(0, 3, 1, 2) if name == PATCHES else tensor


def _logits(source: Source, directory: Path) -> Tensor:
    """Read back: every tensor turned round again, in a model of the written configurations."""
    config = read_json(directory / "config.json")
    assert isinstance(config, dict)
    model = rebuild(
        vision_config=parse_config(config["vision_config"], where="config.json: vision_config", closed=False),
        text_config=parse_config(config["text_config"], where="config.json: text_config", closed=False),
        connector=source.model.connector.kind,
        layer=config["vision_feature_layer"],
        select="patch" if config["vision_feature_select_strategy"] == "default" else "cls_patch",
        image_token_id=config["image_token_index"],
        tensors=((name, from_mlx(name, tensor)) for name, tensor in read_tensors(directory, read_headers(directory))),
    )
    return fixed_logits(model, source.processor)
