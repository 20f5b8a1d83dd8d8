"""Contexts, annotation files and replies that the tests of the engine share. All of it is made up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sightline.synth.context import Box, Context
from sightline.synth.grammar import Pair, write_pairs
from sightline.synth.kinds import load_kinds

SHARED = Path(__file__).parents[2].parent / "shared" / "coco" / "caps_boxes_coco2014_val_80.jsonl"
needs_contexts = pytest.mark.skipif(
    not SHARED.exists(), reason="no symbolic contexts of COCO: ../shared/coco is absent"
)

VOCABULARY = frozenset({"dog", "cat", "person", "car", "bench", "couch", "wine glass", "sheep", "skis", "bus", "tie"})
YARD = Context(
    id="000000000007",
    image="000000000007.jpg",
    captions=(
        "Two dogs sleep beside a wooden bench.",
        "A couple of dogs lying in the sun near a bench.",
        "A woman watches two brown dogs in a yard.",
    ),
    boxes=(
        Box(category="dog", corners=(0.1, 0.6, 0.3, 0.8)),
        Box(category="dog", corners=(0.35, 0.62, 0.5, 0.81)),
        Box(category="bench", corners=(0.55, 0.5, 0.95, 0.85)),
        Box(category="person", corners=(0.7, 0.05, 0.85, 0.4)),
    ),
)


def write_coco(folder: Path, *, split: str = "mini", **changes: Any) -> Path:
    """`captions_SPLIT.json` and `instances_SPLIT.json` of two pictures; `changes` replace keys of the second file."""
    images = [
        {"id": 7, "file_name": "000000000007.jpg", "width": 200, "height": 100},
        {"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480},
    ]
    captions = [(7, "Two dogs sleep."), (7, " A yard\nwith dogs. "), (9, "A tram stops."), (9, "  ")]
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [20, 60, 40, 20], "iscrowd": 0, "segmentation": []},
        {"id": 2, "image_id": 7, "category_id": 18, "bbox": [190, 60, 40, 20], "iscrowd": 0},
        {"id": 3, "image_id": 9, "category_id": 1, "bbox": [0, 0, 640, 480], "iscrowd": 1, "segmentation": {}},
        {"id": 4, "image_id": 9, "category_id": 1, "bbox": [10, 10, 0, 50], "iscrowd": 0},
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 6, "name": "Bus"}]
    folder.mkdir(parents=True, exist_ok=True)
    sentences = [{"id": number, "image_id": owner, "caption": text} for number, (owner, text) in enumerate(captions)]
    (folder / f"captions_{split}.json").write_text(json.dumps({"images": images, "annotations": sentences}))
    tree = {"images": images, "annotations": annotations, "categories": categories, **changes}
    (folder / f"instances_{split}.json").write_text(json.dumps(tree))
    return folder


def write_contexts(path: Path, contexts: Sequence[Context]) -> Path:
    """The original's JSONL."""
    lines = [
        {
            "id": context.id,
            "image": context.image,
            "captions": context.captions,
            "instances": [{"category": box.category, "bbox": box.corners} for box in context.boxes],
        }
        for context in contexts
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def contexts(number: int) -> list[Context]:
    """Different ones, about which a rule has something to say in every kind; up to a hundred."""
    found = []
    for index in range(number):
        thing, animal = _THINGS[index % 10], _ANIMALS[index // 10 % 10]
        tops = (0.5, 0.6, 0.7, 0.8)[: 1 + index % 4]
        captions = (
            f"A red {thing} of the {_ORDINALS[index % 10]} kind waits beside {_PLACES[index // 10 % 10]}.",
            f"Somebody has left it there, where {animal}s pass at {index % 24} o'clock, before {_PLACES[index % 10]}.",
        )
        boxes = [Box(category=animal, corners=(0.6, top, 0.8, top + 0.08)) for top in tops]
        boxes.append(Box(category=thing, corners=(0.02 + 0.001 * index, 0.1, 0.22 + 0.001 * index, 0.25)))
        found.append(Context(id=f"{index:012d}", image=f"{index:012d}.jpg", captions=captions, boxes=tuple(boxes)))
    return found


_THINGS = ("car", "bus", "bench", "couch", "kite", "clock", "suitcase", "bicycle", "umbrella", "boat")
_ANIMALS = ("dog", "cat", "horse", "cow", "bear", "zebra", "giraffe", "bird", "elephant", "sheep")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_PLACES = (
    "a lawn", "the sea", "an old mill", "two tall trees", "the market", "a school", "a quiet road", "the river bank",
    "a row of shops", "the station",
)  # fmt: skip


# ---- a language model on a script ------------------------------------------------------------------------------------

_KIND_OF = {kind.system.strip(): name for name, kind in load_kinds().items()}
BAD_REPLIES = (
    "I'm sorry, but I can't assist with that.",
    "Question:\nWhat is there?\n===\nQuestion:\nAnd what else?",
    "Question:\nIs there grass?\n===\nAnswer:\nThe caption says so.\n===\nQuestion:\nWhere?\n===\nAnswer:\nIn a list.",
    "",
    "word " * 200_000,
)
"""A refusal, wrong grammar, a leak, nothing, a megabyte."""


def scripted_reply(body: dict[str, Any], *, bad: float = 0.25) -> str:
    """What a well-instructed model might say to a request of ours, or for a share of the requests a bad reply.

    Depends on the content of the request alone.
    """
    lot = int.from_bytes(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()[:8], "big")
    if lot % 1000 < 1000 * bad:
        return BAD_REPLIES[lot % len(BAD_REPLIES)]
    return good_reply(_KIND_OF[body["messages"][0]["content"]], body["messages"][-1]["content"])


def good_reply(kind: str, shown: str) -> str:
    """A reply of this kind about a context that is shown; says what its captions say."""
    captions = shown.split("\n\n")[0].splitlines()
    if kind == "detail":
        return " ".join([*captions, "Nothing else in the scene asks for attention, and the light is even all over it."])
    if kind == "reasoning":
        why = (
            f"{captions[0]} From this follows that whoever took the picture wanted to keep this very moment for later."
        )
        return write_pairs([Pair("Why might somebody have taken this picture?", why)])
    if kind == "vqa":
        return write_pairs([Pair("Is this a photograph?", "yes"), Pair("Is it a map?", "no")])
    if kind == "negatives":
        return write_pairs(
            [
                Pair("Where is the spaceship?", f"There is no spaceship in the picture. What it shows: {captions[0]}"),
                Pair("What does it smell like?", "A picture has no smell, so that cannot be told."),
            ]
        )
    return write_pairs(
        [
            Pair("What is to be seen here?", captions[0]),
            Pair("Could you put it in other words?", captions[-1]),
            Pair("Who took the picture?", "The picture does not tell."),
        ]
    )
