"""The demo's data on disk: pictures, COCO-style annotations, LLaVA JSON for both stages, questions to score.

Comes in: a folder, counts, a seed. Goes out: files that the ordinary commands read. What is said about the pictures is
written from the annotation files alone, as an instruction-data engine would.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sightline.demo.coco import file_name, read_captions, read_scenes, write_annotations
from sightline.demo.corpus import SMALL_TALK, short_turns
from sightline.demo.describe import captions
from sightline.demo.paint import paint
from sightline.demo.teacher import (
    ASKERS,
    DETAIL_QUESTIONS,
    REASONING_QUESTIONS,
    SHORT_ANSWER,
    Exchange,
    description,
    exchanges,
    reasoning,
)
from sightline.demo.world import UNSEEN_PAIRS, Scene, draw_scene
from sightline.evaluate.prompts import CAPTION

SEED = 1
"""The demo's pictures: other scenes than those of the encoder's and the language model's training."""
TAUGHT = (*ASKERS, "position", "relation", "count", "existence", "reading")
"""Types of questions as often as conversations ask them: twice what takes longest to learn."""
TEST_START = 1_000_000
"""Index of the first held-out picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Pictures: to train on, held out of the seen pairs of color and shape, held out with an unseen pair in each; and
    how many of the held-out ones the benchmarks' official files ask about."""

    train: int = 8000
    validation: int = 100
    test_seen: int = 700
    test_unseen: int = 300
    benchmarks: int = 100


def write_data(folder: Path, counts: Counts, *, processes: int) -> None:
    """Writes everything under `folder`; the same bytes for the same counts."""
    splits: dict[str, list[tuple[int, str]]] = {
        "train": [(index, "never") for index in range(counts.train)],
        "validation": [(counts.train + index, "never") for index in range(counts.validation)],
        "test": [(TEST_START + index, "never") for index in range(counts.test_seen)]
        + [(TEST_START + counts.test_seen + index, "always") for index in range(counts.test_unseen)],
    }
    for split, drawn in splits.items():
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            work = partial(_paint_one, folder / "images" / split)
            scenes = list(pool.map(work, drawn, chunksize=100))
        write_annotations(scenes, folder / "annotations", split=split, seed=SEED)
    for split in ("train", "validation"):
        scenes = read_scenes(folder / "annotations" / f"instances_{split}.json")
        texts = read_captions(folder / "annotations" / f"captions_{split}.json")
        _write_json(folder / f"align_{split}.json", [_caption_sample(scene, texts[scene.index][0]) for scene in scenes])
        written = [instruction_sample(scene) for scene in scenes]
        _write_json(folder / f"instruct_{split}.json", written + talk_samples(count=len(scenes) // 40))
    scenes = read_scenes(folder / "annotations" / "instances_test.json")
    lines = [json.dumps(question) for scene in scenes for question in questions(scene)]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")


def _paint_one(folder: Path, drawn: tuple[int, Any]) -> Scene:
    index, unseen = drawn
    scene = draw_scene(index, seed=SEED, unseen=unseen)
    paint(scene, seed=SEED).save(folder / file_name(index), compress_level=1)
    return scene


def _write_json(path: Path, samples: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(samples, indent=1) + "\n")


def _sample(scene: Scene, kind: str, turns: Iterable[tuple[str, str]]) -> dict[str, Any]:
    conversation = []
    for number, (question, answer) in enumerate(turns):
        conversation.append({"from": "human", "value": f"<image>\n{question}" if number == 0 else question})
        conversation.append({"from": "gpt", "value": answer})
    return {"id": f"{scene.index}-{kind}", "image": file_name(scene.index), "conversations": conversation}


def _caption_sample(scene: Scene, caption: str) -> dict[str, Any]:
    return _sample(scene, "caption", [("Describe the picture.", caption)])


def instruction_sample(scene: Scene) -> dict[str, Any]:
    """What is said about the scene: mostly a conversation, now and then a description, a chain of reasoning or, as
    LLaVA-1.5's mixture asks for it, a caption."""
    rng = random.Random(f"instruct/{SEED}/{scene.index}")
    kinds = {"short": 70, "sentences": 13, "detail": 7, "reasoning": 7, "caption": 3}
    kind = rng.choices(tuple(kinds), weights=tuple(kinds.values()))[0]
    if kind == "short":
        return _sample(scene, "conversation", short_turns(exchanges(scene, rng, count=9, types=TAUGHT)))
    if kind == "sentences":
        turns = [(asked.question, asked.sentence) for asked in exchanges(scene, rng, count=5)]
        return _sample(scene, "conversation", turns)
    if kind == "detail":
        return _sample(scene, kind, [(rng.choice(DETAIL_QUESTIONS), description(scene))])
    if kind == "caption":
        return _sample(scene, kind, [(CAPTION, captions(scene, rng)[0])])
    return _sample(scene, kind, [(rng.choice(REASONING_QUESTIONS), reasoning(scene))])


def talk_samples(*, count: int) -> list[dict[str, Any]]:
    """Conversations without a picture, so that the language model does not forget how to talk."""
    samples = []
    for index in range(count):
        turns = random.Random(f"talk/{SEED}/{index}").sample(SMALL_TALK, 3)
        conversation = [
            {"from": speaker, "value": words}
            for turn in turns
            for speaker, words in zip(("human", "gpt"), turn, strict=True)
        ]
        samples.append({"id": f"talk-{index}", "conversations": conversation})
    return samples


def held_out(scene: Scene, *, count: int = 3) -> list[Exchange]:
    """What is asked about a held-out scene, each of another type.

    Of a scene with an unseen pair, a question on it comes first, where one can be asked.
    """
    rng = random.Random(f"questions/{SEED}/{scene.index}")
    asked = exchanges(scene, rng, count=3 * len(ASKERS))
    if scene.has_unseen_pair:
        asked.sort(key=lambda exchange: not _is_unseen(exchange, scene))
    chosen: list[Exchange] = []
    types: set[str] = set()
    for exchange in asked:
        if exchange.type not in types and len(chosen) < count:
            types.add(exchange.type)
            chosen.append(exchange)
    return chosen


def questions(scene: Scene, *, count: int = 3) -> list[dict[str, Any]]:
    """Held-out questions with short answers; `unseen` marks those that turn on an unseen pair in the picture."""
    return [
        {
            "question_id": f"{scene.index}-{exchange.type}",
            "image": file_name(scene.index),
            "text": f"{exchange.question}\n{SHORT_ANSWER}",
            "answer": exchange.short,
            "category": exchange.type,
            "unseen": _is_unseen(exchange, scene),
        }
        for exchange in held_out(scene, count=count)
    ]


def _is_unseen(exchange: Exchange, scene: Scene) -> bool:
    present = {thing.pair for thing in scene.things}
    return any(pair in UNSEEN_PAIRS and pair in present for pair in exchange.about)
