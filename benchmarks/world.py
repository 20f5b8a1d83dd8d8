"""Everything that both sides of a comparison need, in one directory: a checkpoint, samples, pictures, an order.

Comes in: a size, a way of training, how many steps, who orders the samples. Goes out: a `World`: a recipe for our
trainer, and for the others the same checkpoint and the same samples in the same steps. Trains nothing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.mixture import Draft, draw
from benchmarks.sizes import MODES, Mode, Size
from benchmarks.words import build_tokenizer, number_of_words, text, words
from sightline.config import parse_recipe
from sightline.data.mixture import batch_indexes
from sightline.model.checkpoint import save_checkpoint
from sightline.recipe import Recipe
from sightline.train.assemble import assemble_model, assemble_processor
from sightline.train.samples import SampleSet, read_sources

SEED = 11
TEMPLATE_TOKENS = 60
"""More than a template writes beside the first exchange (LLaVA's system text has 35)."""
EXCHANGE_TOKENS = 12
"""More than a template writes beside each further one."""
GROUPED_BATCHES = 50
"""Batches that transformers sorts by length at once in a long run (`get_length_grouped_indices`)."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A directory with `start/`, `pictures/`, `data.json` and `order.json`."""

    root: Path
    size: Size
    mode: Mode
    order: tuple[tuple[str, ...], ...]
    """The ids of each step's samples, in the order in which the others shall take them."""

    @property
    def start(self) -> Path:
        """The checkpoint that every side starts from; `transformers` loads it too."""
        return self.root / "start"

    def recipe(self, output: Path, **changes: Any) -> Recipe:
        """Our run; `changes` are keys of `train`."""
        tree = recipe_tree(self.root, self.size, self.mode, len(self.order), output, changes)
        return parse_recipe(tree, where="world")

    def samples(self) -> SampleSet:
        """The samples, read and checked; their pictures are opened one by one."""
        recipe = self.recipe(self.root / "unused")
        return read_sources(recipe.data, assemble_processor(recipe), bad=recipe.bad_samples, say=lambda message: None)


def recipe_tree(
    root: Path, size: Size, mode: Mode, steps: int, output: Path, changes: dict[str, Any]
) -> dict[str, Any]:
    """A run from `root/start`: the optimizer of LLaVA's recipes, at a constant rate, and nothing written on the way."""
    train: dict[str, Any] = {
        "lr": dict.fromkeys(mode.trained, mode.rate),
        "steps": steps,
        "batch": size.batch,
        "schedule": "constant",
        "warmup": 0.0,
        "save_every": 10**6,
    }
    if mode.lora:  # without dropout, whose random numbers no two trainers share
        train["lora"] = {"rank": size.lora_rank, "alpha": 2.0 * size.lora_rank, "dropout": 0.0}
    return {
        "name": f"{size.name}-{mode.name}",
        "output": str(output),
        "seed": SEED,
        "model": {"start": str(root / "start")},
        "template": mode.template,
        "image_policy": mode.image_policy,
        "max_length": size.max_length,
        "data": [{"path": str(root / "data.json"), "images": str(root / "pictures")}],
        "train": train | changes,
    }


def make_world(
    root: Path,
    size: Size,
    mode: Mode,
    *,
    steps: int,
    warm_up: int = 0,
    grouped: bool = False,
    pictures: int = 1,
    distinct: int = 10**6,
    start: bool = True,
) -> World:
    """Writes a world of so many steps, with `warm_up` more before them.

    Args:
        grouped: the steps are those of transformers' length grouping in a long run: of one group of `GROUPED_BATCHES`
            batches, sorted by length, as many as `steps`, evenly spaced. Otherwise random, as everybody's default is.
        pictures: what a sample with a picture shows.
        distinct: different pictures at most; then they repeat.
        start: write the checkpoint, too.
    """
    root.mkdir(parents=True)
    if start:
        make_start(root, size)
    count = size.batch * (GROUPED_BATCHES if grouped else warm_up + steps)
    room = size.max_length - size.image_tokens * pictures - TEMPLATE_TOKENS
    drawn = draw(count, seed=SEED, mixture=mode.mixture, limit=room)
    drafts = [replace(_fitted(draft, room), pictures=draft.pictures * pictures) for draft in drawn]
    order = grouped_steps(drafts, size, steps, warm_up) if grouped else random_steps(count, size.batch)
    entries = write_samples(root, [drafts[index] for step in order for index in step], size, distinct=distinct)
    ids = tuple(entry["id"] for entry in entries)
    by_step = tuple(ids[first : first + size.batch] for first in range(0, len(ids), size.batch))
    (root / "data.json").write_text(json.dumps(as_drawn(entries, size.batch)))
    (root / "order.json").write_text(json.dumps({"size": vars(size), "mode": mode.name, "order": by_step}))
    return World(root=root, size=size, mode=mode, order=by_step)


def open_world(root: Path) -> World:
    """A world that another process has made."""
    known = json.loads((root / "order.json").read_text())
    order = tuple(tuple(step) for step in known["order"])
    return World(root=root, size=Size(**known["size"]), mode=MODES[known["mode"]], order=order)


def random_steps(count: int, batch: int) -> list[list[int]]:
    """The drawn samples as they come: they were drawn at random."""
    return [list(range(start, start + batch)) for start in range(0, count, batch)]


def grouped_steps(drafts: Sequence[Draft], size: Size, steps: int, warm_up: int = 0) -> list[list[int]]:
    """Of the batches that transformers groups by length, `steps` at evenly spaced places of their order.

    A trainer that groups sees long batches and short ones, and an epoch is the sum of all: these stand for them. Before
    them comes `warm_up` times the one in the middle.
    """
    lengths = [
        draft.tokens + EXCHANGE_TOKENS * len(draft.exchanges) + size.image_tokens * draft.pictures for draft in drafts
    ]
    generator = torch.Generator().manual_seed(SEED)
    indexes = get_length_grouped_indices(lengths, size.batch, mega_batch_mult=GROUPED_BATCHES, generator=generator)
    batches = [indexes[start : start + size.batch] for start in range(0, len(indexes), size.batch)]
    places = np.linspace(0, len(batches), steps + 1)
    spaced = [batches[int((low + high) / 2)] for low, high in itertools.pairwise(places)]
    return [batches[len(batches) // 2]] * warm_up + spaced


def as_drawn(entries: Sequence[Any], batch: int) -> list[Any]:
    """The file in which our trainer, which permutes the samples of an epoch, finds them in the order of `entries`."""
    count = len(entries)
    placed: list[Any] = [None] * count
    for step in range(count // batch):
        indexes = batch_indexes(step, num_samples=count, batch=batch, seed=SEED)
        for offset, index in enumerate(indexes):
            placed[index] = entries[step * batch + offset]
    return placed


def make_start(root: Path, size: Size) -> None:
    """Writes `root/start`: random weights and a tokenizer whose words are one token each."""
    tokenizer = root / "tokenizer"
    build_tokenizer(size.language["vocab_size"]).save_pretrained(tokenizer)
    tree = recipe_tree(root, size, MODES["stage1"], 1, root / "unused", {})
    parts = {"vision": {"config": dict(size.vision)}, "language": {"config": dict(size.language)}}
    recipe = parse_recipe(tree | {"model": {**parts, "tokenizer": str(tokenizer)}}, where="world")
    processor = assemble_processor(recipe)
    torch.manual_seed(SEED)
    model = assemble_model(recipe, processor)
    save_checkpoint(model, root / "start", info={"processor": processor.describe()}, extra_files=processor.save)


def write_samples(root: Path, drafts: Sequence[Draft], size: Size, *, distinct: int) -> list[dict[str, Any]]:
    """LLaVA's entries for the drafts, and a painted JPEG for each picture they show; `distinct` different ones."""
    noise = np.random.default_rng(SEED)
    vocabulary = words(number_of_words(size.language["vocab_size"]))
    (root / "pictures").mkdir(exist_ok=True)
    entries: list[dict[str, Any]] = []
    for number, draft in enumerate(drafts):
        turns = []
        for place, (question, answer) in enumerate(draft.exchanges):
            mark = "<image>\n" * draft.pictures if place == 0 else ""
            turns.append({"from": "human", "value": mark + text(question, noise, vocabulary)})
            turns.append({"from": "gpt", "value": text(answer, noise, vocabulary)})
        entry: dict[str, Any] = {"id": f"{number:06d}", "conversations": turns}
        names = [f"{(number * draft.pictures + shown) % distinct:06d}.jpg" for shown in range(draft.pictures)]
        for name in names:
            if not (root / "pictures" / name).exists():
                paint(root / "pictures" / name, noise)
        if names:
            entry["image"] = names if len(names) > 1 else names[0]
        entries.append(entry)
    return entries


def paint(path: Path, noise: np.random.Generator, *, width: int = 640, height: int = 480) -> None:
    """A JPEG like a photograph in size and detail: soft colours, some edges, a little grain; about 50 kB."""
    soft = Image.fromarray(noise.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(soft).astype(np.int16)
    for _ in range(12):
        top, left = int(noise.integers(0, height - 40)), int(noise.integers(0, width - 40))
        tall, wide = noise.integers(20, 160, 2)
        pixels[top : top + tall, left : left + wide] += noise.integers(-90, 90, 3).astype(np.int16)
    grain = noise.integers(-6, 7, (height, width, 1), dtype=np.int16)
    Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(path, quality=90)


def _fitted(draft: Draft, room: int) -> Draft:
    """The draft without the last exchanges, should the template's own tokens not fit beside them."""
    exchanges = draft.exchanges
    while len(exchanges) > 1 and sum(map(sum, exchanges)) + EXCHANGE_TOKENS * len(exchanges) > room:
        exchanges = exchanges[:-1]
    return replace(draft, exchanges=exchanges)
