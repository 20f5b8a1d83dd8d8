"""Trains the small vision encoder: contrastively, on pictures of the painted world and short captions of them.

Comes in: a seed and a number of steps. Goes out: a `CLIPVisionModel` directory with processor and JSONL log.
The objective is SigLIP's pairwise sigmoid loss (Zhai et al. 2023, equation 1) over picture-caption similarities; as in
FILIP (Yao et al. 2021, section 3.1) a similarity is pooled over the patch tokens, here softly, so that each patch
learns to tell what lies on it. A caption that is true of another picture of the batch counts as that picture's too.
A caption of one thing also knows the thing's box, as the captions of regions in RegionCLIP (Zhong et al. 2022) do: the
same loss then asks each patch which of these captions lie on it.
The text tower exists for the training alone. No questions, no answers, no held-out picture and no unseen pair enters.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel

from sightline.data.hub_processor import clip_image_settings
from sightline.demo.describe import phrases, statements
from sightline.demo.paint import paint
from sightline.demo.world import CANVAS, SIGN, Scene, Sign, Thing, draw_scene

SEED = 7001
"""The encoder's own pictures: other scenes than any seed of the demo's data draws."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's normalisation (OpenAI, `clip/clip.py`)."""
DRAWN_PER_KIND = {"thing": 5, "placed": 4, "count": 2, "relation": 2, "sign": 3}
"""Captions drawn for each picture of a batch, by kind of statement."""
PATCH = 16
"""Side of a patch in pixels: 36 patches a picture."""
REGION_WEIGHT = 0.5
"""Of the loss over patches beside the loss over pictures."""
CAPTION_LENGTH = 10
"""Words; the longest statement, a small or large thing with its place, has eight."""
EMBEDDING = 128


def vision_config() -> CLIPVisionConfig:
    """2.8 million parameters."""
    return CLIPVisionConfig(
        image_size=CANVAS,
        patch_size=PATCH,
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        hidden_act="gelu",
        projection_dim=EMBEDDING,
    )


class TextTower(nn.Module):
    """A one-layer transformer over words; thrown away after the training."""

    def __init__(self, *, num_words: int, width: int = 128) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, width, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(CAPTION_LENGTH, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.project = nn.Linear(width, EMBEDDING, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        """int64[M, L], padded with 0 -> float32[M, E] of unit length."""
        absent = words == 0
        hidden = self.layers(self.words(words) + self.positions[: words.shape[1]], src_key_padding_mask=absent)
        kept = (~absent)[..., None]
        return functional.normalize(self.project((hidden * kept).sum(1) / kept.sum(1)), dim=-1)


class Contrast(nn.Module):
    """The encoder with what its training needs beside it."""

    def __init__(self, *, num_words: int) -> None:
        super().__init__()
        self.vision = CLIPVisionModel(vision_config())
        self.text = TextTower(num_words=num_words)
        self.project = nn.Linear(self.vision.config.hidden_size, EMBEDDING, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, pixels: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Does this caption belong to this picture, and to this patch of it?

        Args:
            pixels: float32[B, 3, H, W].
            words: int64[M, L].

        Returns:
            Logits float32[B, M] and float32[B, M, P].
        """
        tokens = functional.normalize(self.project(self.vision(pixels).last_hidden_state), dim=-1)
        similarity = self.text(words) @ tokens.mT
        attention = (self.log_sharpness.exp() * similarity).softmax(-1)
        pooled = (attention * similarity).sum(-1)
        return self.log_scale.exp() * pooled + self.bias, self.log_scale.exp() * similarity[..., 1:] + self.bias


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Pictures, captions, and which belongs to which."""

    pixels: Tensor
    """float32[B, 3, H, W]."""
    words: Tensor
    """int64[M, L], padded with 0."""
    belongs: Tensor
    """float32[B, M], 1 where the caption is true of the picture."""
    on_patch: Tensor
    """float32[B, M, P], 1 where the caption is true of a thing that lies on the patch."""
    asked: Tensor
    """float32[B, M, P], 0 where the caption tells of no one thing, or of one that the patch only touches."""

    def loss(self, of_pictures: Tensor, of_patches: Tensor) -> Tensor:
        """SigLIP's loss over pictures and over patches, per picture."""
        whole = functional.binary_cross_entropy_with_logits(of_pictures, self.belongs, reduction="sum")
        parts = functional.binary_cross_entropy_with_logits(
            of_patches, self.on_patch, weight=self.asked, reduction="sum"
        )
        return (whole + REGION_WEIGHT * parts) / len(self.pixels)


def patches_under(item: Thing | Sign) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The patches on which a thing or sign lies, and those that it touches at all: bool[P] each.

    It lies on a patch that shares at least half as much area with its box as the patch that shares most.
    """
    width, height = SIGN if isinstance(item, Sign) else (item.diameter, item.diameter)
    edges = np.arange(0, CANVAS, PATCH)
    shared_x = np.minimum(edges + PATCH, item.x + width / 2) - np.maximum(edges, item.x - width / 2)
    shared_y = np.minimum(edges + PATCH, item.y + height / 2) - np.maximum(edges, item.y - height / 2)
    shared = np.outer(shared_y.clip(min=0), shared_x.clip(min=0)).ravel()
    return shared >= shared.max() / 2, shared > 0


class Pictures:
    """Pictures and their true statements, painted when first asked for and kept as uint8.

    Every other scene without a sign is passed over: letters take the most pictures to learn.
    """

    def __init__(self, *, size: int) -> None:
        self.pixels = np.zeros((size, CANVAS, CANVAS, 3), dtype=np.uint8)
        self.painted = np.zeros(size, dtype=bool)
        self.texts: dict[str, int] = {}
        self.words: dict[str, int] = {}
        self.encoded: list[list[int]] = []
        self.of_one: set[int] = set()
        self.kinds: list[dict[str, np.ndarray]] = []
        self.true: list[np.ndarray] = []
        self.regions: list[list[np.ndarray]] = []
        self.scenes: list[Scene] = []
        for index in count():
            scene = draw_scene(index, seed=SEED)
            if scene.sign is None and index % 2:
                continue
            if len(self.scenes) == size:
                break
            self.scenes.append(scene)
            found = statements(scene)
            self.kinds.append({kind: self._ids(texts) for kind, texts in found.items() if texts})
            self.true.append(np.unique(np.concatenate(list(self.kinds[-1].values()))))
            self.regions.append([self._ids(list(chain(*phrases(item).values()))) for item in _items(scene)])
            self.of_one.update(*map(np.ndarray.tolist, self.regions[-1]))

    def _ids(self, texts: Sequence[str]) -> np.ndarray:
        for text in texts:
            if text not in self.texts:
                self.texts[text] = len(self.encoded)
                words = [self.words.setdefault(word, len(self.words) + 1) for word in text.split()]
                self.encoded.append(words + [0] * (CAPTION_LENGTH - len(words)))
        return np.array([self.texts[text] for text in texts])

    def batch(self, indexes: Sequence[int], rng: np.random.Generator) -> Batch:
        for index in indexes:
            if not self.painted[index]:
                self.pixels[index] = np.asarray(paint(self.scenes[index], seed=SEED))
                self.painted[index] = True
        drawn = [
            rng.choice(ids, size=min(DRAWN_PER_KIND[kind], len(ids)), replace=False)
            for index in indexes
            for kind, ids in self.kinds[index].items()
        ]
        captions = np.unique(np.concatenate(drawn))
        belongs = np.stack([np.isin(captions, self.true[index], assume_unique=True) for index in indexes])
        on_patch, asked = self._regions(indexes, captions)
        return Batch(
            pixels=normalise(self.pixels[list(indexes)]),
            words=torch.tensor([self.encoded[caption] for caption in captions]),
            belongs=torch.from_numpy(belongs).float(),
            on_patch=torch.from_numpy(on_patch),
            asked=torch.from_numpy(asked),
        )

    def _regions(self, indexes: Sequence[int], captions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        on_patch = np.zeros((len(indexes), len(captions), (CANVAS // PATCH) ** 2), dtype=np.float32)
        asked = np.zeros_like(on_patch)
        asked[:, np.isin(captions, list(self.of_one))] = 1
        for row, index in enumerate(indexes):
            for item, ids in zip(_items(self.scenes[index]), self.regions[index], strict=True):
                holds = np.flatnonzero(np.isin(captions, ids))[:, None]
                under, touched = patches_under(item)
                on_patch[row, holds, np.flatnonzero(under)] = 1
                asked[row, holds, np.flatnonzero(touched & ~under)] = 0
        return on_patch, np.maximum(asked, on_patch)


def _items(scene: Scene) -> list[Thing | Sign]:
    return [*scene.things] if scene.sign is None else [*scene.things, scene.sign]


def normalise(pixels: np.ndarray) -> Tensor:
    """uint8[B, H, W, 3] -> float32[B, 3, H, W] as the encoder expects them."""
    scaled = (torch.from_numpy(pixels).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return scaled.permute(0, 3, 1, 2).contiguous()


def train(directory: Path, *, steps: int, batch: int, pool: int, lr: float, log_every: int = 50) -> None:
    """Writes `directory` (encoder, processor settings) every 500 steps and at the end, and `log.jsonl` beside it.

    Args:
        steps: over which the rate falls to zero along a cosine.
        pool: pictures that are drawn from.
    """
    torch.manual_seed(SEED)
    pictures = Pictures(size=pool)
    model = Contrast(num_words=len(pictures.words) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, betas=(0.9, 0.98))
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    rng = np.random.default_rng(SEED)
    order = _orders(pool, batch)
    with (directory / "log.jsonl").open("w") as log:
        for step in range(1, steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1.0, step / 300) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            drawn = pictures.batch(next(order), rng)
            logits, of_patches = model(drawn.pixels, drawn.words)
            loss = drawn.loss(logits, of_patches)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % log_every == 0:
                seconds = round(time.monotonic() - started, 1)
                line = {
                    "step": step,
                    "loss": round(loss.item(), 4),
                    **_accuracy(logits, drawn.belongs),
                    "seconds": seconds,
                }
                log.write(json.dumps(line) + "\n")
                log.flush()
            if step % 500 == 0 or step == steps:
                save(model.vision, directory)


def _orders(pool: int, batch: int) -> Iterator[list[int]]:
    shuffler = random.Random(SEED)
    while True:
        order = list(range(pool))
        shuffler.shuffle(order)
        yield from (order[start : start + batch] for start in range(0, pool - batch + 1, batch))


def _accuracy(logits: Tensor, belongs: Tensor) -> dict[str, float]:
    """Recall and precision of the captions at logit 0."""
    found, true = logits > 0, belongs > 0
    hits = (found & true).sum().item()
    return {"recall": round(hits / max(1, int(true.sum())), 4), "precision": round(hits / max(1, int(found.sum())), 4)}


def save(vision: CLIPVisionModel, directory: Path) -> None:
    """In half precision, which halves the package and costs no accuracy that the demo can see."""
    weights = {name: tensor.half() for name, tensor in vision.state_dict().items()}
    vision.save_pretrained(directory, state_dict=weights)
    settings = clip_image_settings(CANVAS, mean=MEAN, std=STD)
    (directory / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
