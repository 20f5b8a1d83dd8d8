"""A whole assistant of the smallest kind: random weights, a toy tokenizer, the processor that belongs to both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from sightline.data.processor import Processor, ProcessorSettings
from sightline.model.checkpoint import save_checkpoint
from sightline.model.connector import build_connector
from sightline.model.vision import VisionEncoder
from sightline.model.vlm import VisionLanguageModel
from tests.data.toy_tokenizers import FAMILIES
from tests.fakes import (
    IMAGE_SIZE,
    PATCH_SIZE,
    PATCHES,
    language_config,
    tiny_backbone,
    tiny_language,
    vision_config,
)

SETTINGS = ProcessorSettings(
    template="own",
    image_policy="pad",
    image_size=IMAGE_SIZE,
    image_mean=(0.48145466, 0.4578275, 0.40821073),
    image_std=(0.26862954, 0.26130258, 0.27577711),
    image_tokens=PATCHES,
    patch_size=PATCH_SIZE,
    num_prefix_tokens=1,
    max_length=1024,
)
"""Those of the `clip` encoder of `fakes`, with `select: patch`."""


def tiny_processor(family: str = "qwen2.5", **options: Any) -> Processor:
    """A processor with a tokenizer of its own; `options` are fields of `ProcessorSettings`."""
    return Processor(FAMILIES[family](), replace(SETTINGS, **options))


def tiny_assistant(
    family: str = "qwen2.5",
    *,
    language: str = "llama",
    context: int = 1024,
    language_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[VisionLanguageModel, Processor]:
    """A model with as many rows as the tokenizer of `family` needs, and its processor."""
    processor = tiny_processor(family, **options)
    encoder = VisionEncoder(tiny_backbone("clip"))
    sizes = {"vocab_size": len(processor.tokenizer), "max_position_embeddings": context, **(language_options or {})}
    text = tiny_language(language, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        connector = build_connector("mlp2x_gelu", vision_width=encoder.width, language_width=32)
    return VisionLanguageModel(encoder, connector, text, image_token_id=processor.image_token_id).eval(), processor


def save_assistant(directory: Path, model: VisionLanguageModel, processor: Processor) -> Path:
    """Writes both as training does."""
    save_checkpoint(model, directory, info={"processor": processor.describe()}, extra_files=processor.save)
    return directory


def write_tiny_recipe(folder: Path, *, data: str) -> dict[str, Any]:
    """`recipe.yaml` and `tokenizer/` of a run from tiny parts on `data`, all in `folder`; its content."""
    tokenizer = tiny_processor().tokenizer
    tokenizer.save_pretrained(folder / "tokenizer")
    recipe = {
        "name": "tiny",
        "output": str(folder / "trained"),
        "model": {
            "vision": {"config": vision_config("clip")},
            "language": {"config": language_config("llama", vocab_size=len(tokenizer))},
            "tokenizer": str(folder / "tokenizer"),
        },
        "data": [{"path": str(folder / data)}],
        "train": {"lr": {"connector": 1e-3}, "steps": 2, "batch": 1},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return recipe


class Scripted(nn.Module):
    """Stands in for a `VisionLanguageModel`: answers every prompt with the ids that it is given, whatever is asked."""

    def __init__(self, processor: Processor, answers: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.image_token_id = processor.image_token_id
        self.vocabulary = len(processor.tokenizer)
        self.language = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=4096))
        self.weight = nn.Parameter(torch.zeros(1))
        self.answers = [list(answer) for answer in answers]
        self.pictures_seen: list[int] = []

    @classmethod
    def saying(cls, processor: Processor, *texts: str) -> Scripted:
        """Each text as the tokenizer writes it, then the end marker."""
        end = next(iter(processor.stop_ids))
        return cls(
            processor, [[*processor.tokenizer(text, add_special_tokens=False)["input_ids"], end] for text in texts]
        )

    def vision(self, pixels: Tensor) -> Tensor:
        self.pictures_seen.append(len(pixels))
        return torch.zeros(len(pixels), PATCHES, 1)

    def embed(self, input_ids: Tensor, pixels: Tensor | None, *, features: Tensor | None = None) -> Tensor:
        return torch.zeros(*input_ids.shape, 1)

    def decode(self, inputs: Tensor, past: Any = None, **options: Any) -> tuple[Tensor, Any]:
        """Starts the next answer with a prompt, of which there is more than one position, and goes on with it."""
        if past is None or inputs.shape[1] > 1:
            self.said = iter(self.answers.pop(0))
        logits = torch.zeros(len(inputs), self.vocabulary)
        logits[:, next(self.said)] = 1.0
        return logits, SimpleNamespace(layers=[SimpleNamespace(keys=torch.zeros(0))])
