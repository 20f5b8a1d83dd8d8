"""Tiny checkpoints as other software writes them, made from a model whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sightline.model.connector import build_connector
from sightline.model.vision import VisionEncoder
from sightline.model.vlm import VisionLanguageModel
from tests.data.toy_tokenizers import FAMILIES
from tests.fakes import tiny_backbone, tiny_language

Tensors = dict[str, Tensor]
TOKENIZER = "llama-2"


def tokenizer() -> Any:
    """LLaMA's kind, without `<image>`."""
    return FAMILIES[TOKENIZER]()


def tiny_llava(
    connector: str = "mlp2x_gelu", *, language: str = "llama", vision: str = "clip", seed: int = 0, **options: Any
) -> VisionLanguageModel:
    """A model as the original has it: as many rows as the tokenizer has tokens, none for the image."""
    rows = len(tokenizer())
    encoder = VisionEncoder(tiny_backbone(vision, seed=seed), **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bridge = build_connector(connector, vision_width=encoder.width, language_width=32)
    text = tiny_language(language, seed=seed + 1, vocab_size=rows)
    return VisionLanguageModel(encoder, bridge, text, image_token_id=rows).eval()


def original_tensors(model: VisionLanguageModel, *, tower: bool = False) -> Tensors:
    """The weights by the original's names, written out here a second time on purpose."""
    tensors: Tensors = dict(model.language.state_dict())
    for name, tensor in model.connector.state_dict().items():
        inner = name.removeprefix("0.") if model.connector.kind == "linear" else name
        tensors[f"model.mm_projector.{inner}"] = tensor
    if tower:
        for name, tensor in model.vision.backbone.state_dict().items():
            tensors[f"model.vision_tower.vision_tower.vision_model.{name}"] = tensor
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def original_config(model: VisionLanguageModel, **options: Any) -> dict[str, Any]:
    language = model.language.config.model_type
    return {
        **model.language.config.to_dict(),
        "model_type": "llava_llama" if language == "llama" else f"llava_{language}",
        "image_aspect_ratio": "pad",
        "mm_hidden_size": model.vision.width,
        "mm_projector_type": model.connector.kind,
        "mm_vision_select_feature": model.vision.select,
        "mm_vision_select_layer": model.vision.layer,
        "mm_vision_tower": "tower",
        "tokenizer_model_max_length": 512,
        **options,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content))


def edit_json(path: Path, **changes: Any) -> None:
    write_json(path, json.loads(path.read_text()) | changes)


def write_model(directory: Path, tensors: Tensors, *, kind: str = "safetensors", shards: int = 1) -> None:
    """Weight files as transformers 4 names them."""
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    save: Callable[[Tensors, Path], object] = torch.save if kind == "bin" else save_file
    if shards == 1:
        save(tensors, directory / f"{stem}.{suffix}")
        return
    places = {}
    for number in range(shards):
        file = f"{stem}-{number + 1:05d}-of-{shards:05d}.{suffix}"
        part = {name: tensors[name] for index, name in enumerate(tensors) if index % shards == number}
        save(part, directory / file)
        places |= dict.fromkeys(part, file)
    write_json(directory / f"{stem}.{suffix}.index.json", {"metadata": {}, "weight_map": places})


def write_tower(directory: Path, model: VisionLanguageModel, *, kind: str = "safetensors", whole: bool = False) -> Path:
    """The encoder as a directory of its own; `whole`: with the text side and the buffers that OpenAI's CLIP has."""
    directory.mkdir(parents=True)
    backbone = model.vision.backbone
    tensors = {f"vision_model.{name}": tensor.detach().clone() for name, tensor in backbone.state_dict().items()}
    config = {**backbone.config.to_dict(), "architectures": ["CLIPVisionModel"]}
    if whole:
        tensors |= {
            "vision_model.embeddings.position_ids": torch.arange(17)[None],
            "text_model.embeddings.token_embedding.weight": torch.zeros(5, 4),
            "visual_projection.weight": torch.zeros(4, 32),
            "logit_scale": torch.tensor(4.6),
        }
        config = {"model_type": "clip", "vision_config": config, "text_config": {"model_type": "clip_text_model"}}
    write_model(directory, tensors, kind=kind)
    write_json(directory / "config.json", config)
    write_json(directory / "preprocessor_config.json", {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]})
    return directory


def write_language(directory: Path, language: Any, *, kind: str = "safetensors", shards: int = 1) -> Path:
    """A plain language model with its tokenizer: what a projector, an adapter or a difference belongs to."""
    directory.mkdir(parents=True)
    write_json(directory / "config.json", language.config.to_dict())
    tensors = {name: tensor.detach().clone() for name, tensor in language.state_dict().items()}
    write_model(directory, tensors, kind=kind, shards=shards)
    tokenizer().save_pretrained(directory)
    return directory


def write_original(
    directory: Path,
    model: VisionLanguageModel,
    *,
    kind: str = "safetensors",
    shards: int = 1,
    tower: bool = False,
    **options: Any,
) -> Path:
    """A full fine-tune, with its tower beside it under the name `tower`. `options` are keys of its config."""
    directory.mkdir(parents=True)
    write_json(directory / "config.json", original_config(model, **options))
    write_model(directory, original_tensors(model, tower=tower), kind=kind, shards=shards)
    tokenizer().save_pretrained(directory)
    if not (directory.parent / "tower").exists():
        write_tower(directory.parent / "tower", model)
    return directory


def same_logits(found: VisionLanguageModel, wanted: VisionLanguageModel, *, tolerance: float = 0.0) -> None:
    """Both give the same logits for a picture and words, over the tokens that `wanted` has."""
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))

    def logits(model: VisionLanguageModel) -> Tensor:
        picture = [model.image_token_id] * model.vision.tokens_per_image
        with torch.no_grad():
            return model(torch.tensor([[1, 5, *picture, 7, 8, 9]]), pixels=pixels)

    expected = logits(wanted)
    difference = (logits(found)[..., : expected.shape[-1]] - expected).abs().max().item()
    assert difference <= tolerance, difference
