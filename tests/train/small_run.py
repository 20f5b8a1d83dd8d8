"""A whole small world on disk: two parts, a tokenizer, pictures, data files, recipes. One run of it takes a second.

The answers are of unequal length, one sample shows two pictures, some show none, and no count divides another, so that
batches lie across the borders of epochs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sightline.atomic import sha256_file
from sightline.config import parse_recipe
from sightline.data.processor import Example
from sightline.data.tokens import IGNORE
from sightline.recipe import Recipe
from sightline.train.loop import train
from sightline.train.run import Run, prepare
from tests.data.toy_tokenizers import QWEN25, byte_level
from tests.fakes import IMAGE_SIZE, IMAGE_TOKEN, PATCHES, tiny_backbone, tiny_language

STEPS = 12
CAPTIONS = (
    "Red.",
    "A dock on a still lake.",
    "Two cars, one yellow and one blue, parked side by side on the street in the evening.",
    "Green and purple.",
    "Nothing but a grey wall, some more of the same grey wall, and a small orange spot on it.",
    "A lake.",
    "Three colours in stripes: red, yellow, blue.",
)
EXCHANGES = (
    ("What colour is the car?", "Yellow."),
    ("Is it safe?", "It is not safe, neither for him nor for the others on the street."),
    ("And the others?", "No."),
    ("Name three colours.", "Red, yellow and blue. And then there are orange, green and purple as well."),
)


def make_world(root: Path) -> Path:
    """Writes `vision/`, `language/`, `pictures/`, `align.json` (13 samples) and `instruct.jsonl` (11)."""
    root.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_level(special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=QWEN25)
    tiny_backbone("clip").save_pretrained(root / "vision")
    language = tiny_language("llama", vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=tokenizer.eos_token_id)
    language.save_pretrained(root / "language")
    tokenizer.save_pretrained(root / "language")
    (root / "pictures").mkdir()
    noise = np.random.default_rng(7)
    for number in range(8):
        height, width = 24 + 5 * number, 60 - 4 * number
        Image.fromarray(noise.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(
            root / "pictures" / f"{number}.png"
        )
    (root / "align.json").write_text(json.dumps(align_samples()))
    (root / "instruct.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in instruct_samples()))
    return root


def align_samples() -> list[dict[str, Any]]:
    """One picture and its caption each."""
    return [
        {"id": f"a{number}", "image": f"{number % 8}.png", "conversations": talk(("<image>", caption))}
        for number, caption in ((number, CAPTIONS[number % len(CAPTIONS)]) for number in range(13))
    ]


def instruct_samples() -> list[dict[str, Any]]:
    """Conversations of one to three exchanges: eight about a picture, one about two, two about none."""
    samples: list[dict[str, Any]] = []
    for number in range(11):
        pairs = [EXCHANGES[(number + turn) % len(EXCHANGES)] for turn in range(1 + number % 3)]
        if number not in (3, 8):
            pairs[0] = (f"<image>\n{pairs[0][0]}", pairs[0][1])
        samples.append({"id": f"i{number}", "image": f"{number % 8}.png", "conversations": talk(*pairs)})
    for number in (3, 8):
        del samples[number]["image"]
    samples[5] |= {"image": ["1.png", "2.png"], "conversations": talk(("<image>\n<image>\nWhich one?", "The first."))}
    return samples


def talk(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    """LLaVA's form of a conversation."""
    return [
        {"from": speaker, "value": words}
        for pair in pairs
        for speaker, words in zip(("human", "gpt"), pair, strict=True)
    ]


def align_recipe(world: Path, output: Path, *, train: Mapping[str, Any] | None = None, **changes: Any) -> Recipe:
    """Stage 1: a new connector alone, on captions."""
    return _recipe(
        {
            "name": "small-align",
            "output": str(output),
            "seed": 5,
            "model": {"vision": str(world / "vision"), "language": str(world / "language")},
            "template": "plain",
            "image_policy": "crop",
            "max_length": 256,
            "data": [{"path": str(world / "align.json"), "images": str(world / "pictures")}],
            "train": {"lr": {"connector": 1e-2}},
        },
        train,
        changes,
    )


def instruct_recipe(
    world: Path, output: Path, *, start: Path | None, train: Mapping[str, Any] | None = None, **changes: Any
) -> Recipe:
    """Stage 2: connector and language model, on conversations; without `start` from the parts."""
    parts = {"vision": str(world / "vision"), "language": str(world / "language"), "fresh_connector": True}
    return _recipe(
        {
            "name": "small-instruct",
            "output": str(output),
            "seed": 6,
            "model": {"start": str(start)} if start is not None else parts,
            "template": "own",
            "image_policy": "pad",
            "max_length": 256,
            "data": [{"path": str(world / "instruct.jsonl"), "images": str(world / "pictures")}],
            "train": {"lr": {"connector": 2e-3, "language": 1e-3}, "weight_decay": 0.01},
        },
        train,
        changes,
    )


def _recipe(tree: dict[str, Any], train: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> Recipe:
    common = {"steps": STEPS, "batch": 4, "micro_batch": 2, "save_every": 5, "warmup": 0.1, "device": "cpu"}
    settings = {**common, **tree["train"], **(train or {})}
    return parse_recipe({**tree, **changes, "train": settings}, where="test")


def prepared(recipe: Recipe, *, new: bool = False) -> Run:
    """A run that says nothing."""
    return prepare(recipe, new=new, say=lambda message: None)


def trained(recipe: Recipe) -> Path:
    """Prepares and trains to the end; the directory is free again afterwards."""
    run = prepared(recipe)
    train(run, quiet=True)
    run.release()
    return run.directory


def result_hashes(directory: Path, *, step: int = STEPS) -> dict[str, str]:
    """SHA-256 of what a finished run is: its weights, and its last training state with the moments."""
    state = directory / "checkpoints" / f"step-{step:08d}"
    files = [directory / "model.safetensors", state / "trained.safetensors", state / "optimizer.safetensors"]
    return {path.name: sha256_file(path) for path in files}


def toy_examples(count: int, *, seed: int = 0) -> list[Example]:
    """Examples for `tests.fakes.tiny_model`: no, one or two pictures, questions and answers of unequal length."""
    generator = torch.Generator().manual_seed(seed)

    def words(length: int) -> list[int]:
        return torch.randint(3, IMAGE_TOKEN, (length,), generator=generator).tolist()

    examples = []
    for number in range(count):
        pictures = (number + 1) % 3
        question = [1, *[IMAGE_TOKEN] * PATCHES * pictures, *words(2 + number % 4)]
        answer = words(1 + (5 * number) % 17)
        examples.append(
            Example(
                id=f"t{number}",
                input_ids=torch.tensor(question + answer),
                labels=torch.tensor([IGNORE] * len(question) + answer),
                pixels=torch.randn(pictures, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator),
                pictures=tuple(f"{number}-{picture}.png" for picture in range(pictures)),
            )
        )
    return examples
