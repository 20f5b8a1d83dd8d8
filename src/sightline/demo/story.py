"""The demo: data, both stages, scores, report, by the same code that a user's own run goes through.

Comes in: a directory and a number of pictures. Goes out: the data, two trained checkpoints, `report.json`,
`report.html`. Started again, it goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from sightline.atomic import write_atomic
from sightline.config import load_recipe
from sightline.data.processor import Processor
from sightline.demo.coco import file_name, read_scenes
from sightline.demo.dataset import Counts, write_data
from sightline.demo.official import TASKS, write_official
from sightline.demo.report import write_report
from sightline.demo.world import COLORS, SHAPES, Scene
from sightline.evaluate import answering
from sightline.evaluate.answering import Asked
from sightline.evaluate.short_answers import (
    Answered,
    Scores,
    answer_questions,
    score,
    table,
    write_answers,
)
from sightline.evaluate.tasks.short_answers import questions as read_questions
from sightline.infer.chat import choose_device
from sightline.infer.load import load
from sightline.model.vlm import VisionLanguageModel
from sightline.train.describe import describe_recipe
from sightline.train.loop import train
from sightline.train.run import prepare

RECIPES = files("sightline.demo") / "recipes"
CAPTIONED = 300
"""Held-out pictures that the aligned model describes."""
BENCHMARKS = "benchmarks"
"""Where the official files lie that a next command asks."""

Say = Callable[[str], None]


@dataclass
class Clock:
    """Seconds per phase. A phase that was finished before keeps its time in `clock.json`."""

    path: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.seconds = json.loads(self.path.read_text())

    @contextmanager
    def phase(self, name: str, *, anew: bool = False) -> Iterator[None]:
        """Times the block, unless it only found that its work was done; `anew` when it is always done again."""
        started = time.monotonic()
        yield
        if name not in self.seconds or anew:
            self.seconds[name] = round(time.monotonic() - started, 1)
        write_atomic(self.path, json.dumps(self.seconds))


def run_demo(output: Path, *, pictures: int, new: bool, say: Say) -> list[str]:
    """Runs whatever of the demo is not done yet.

    Returns:
        The lines to print: the table of scores, and where report and checkpoint are.
    """
    output.mkdir(parents=True, exist_ok=True)
    clock = Clock(output / "clock.json")
    if new:
        clock.seconds.clear()
    _make_data(output, Counts(train=pictures), clock, say)
    commands = [f"sightline demo --output {output} --pictures {pictures}"]
    parts: dict[str, Any] = {}
    for stage in ("align", "instruct"):
        overrides = _overrides(stage, output)
        commands.append(f"sightline train recipes/demo/{stage}.yaml {' '.join(overrides)}")
        recipe = load_recipe(Path(str(RECIPES / f"{stage}.yaml")), overrides)
        say(f"{stage}: {', '.join(recipe.train.lr)} train on {recipe.data[0].path}")
        with clock.phase(stage):
            train(prepare(recipe, new=new, say=say))
        parts[stage] = describe_recipe(recipe)["parts"]
    with clock.phase("evaluate", anew=True):
        results = evaluate_all(output, say)
    commands.append(f"sightline chat {output}/instruct --image {output}/data/images/test/{results.answers[0].image}")
    commands.append(
        f"sightline evaluate {output}/instruct {' '.join(TASKS)} --data {output}/{BENCHMARKS} --out {output}/evaluate "
        "--blind swap"
    )
    seconds = {**clock.seconds, "total": round(sum(clock.seconds.values()), 1)}
    report = {**results.to_json(), "seconds": seconds, "parts": parts}
    write_atomic(output / "report.json", json.dumps(report, indent=2) + "\n")
    page = write_report(output, report=report, answers=results.answers, captions=results.captions, commands=commands)
    return [
        table({"instruct": results.scores, "blind": results.blind, "align only": results.align_only}),
        f"color-shape pairs: {_percent(results.seen)} on seen ones, {_percent(results.unseen)} on ones never shown",
        f"captions after stage 1 name {_percent(results.captions_recall)} of the objects with color and shape",
        f"{seconds['total'] / 60:.1f} minutes; report: {page}; chat: {commands[-2]}",
        f"benchmarks in their official files: {commands[-1]}",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _make_data(output: Path, counts: Counts, clock: Clock, say: Say) -> None:
    """Writes the data and the benchmarks' files, unless they are there with the same counts."""
    folder = output / "data"
    done = folder / "counts.json"
    if done.exists() and json.loads(done.read_text()) == asdict(counts):
        return
    say(f"painting {counts.train + counts.validation + counts.test_seen + counts.test_unseen} pictures into {folder}")
    with clock.phase("data"):
        write_data(folder, counts, processes=os.cpu_count() or 1)
        write_official(output / BENCHMARKS, pictures=counts.benchmarks)
        write_atomic(done, json.dumps(asdict(counts)))


def _overrides(stage: str, output: Path) -> list[str]:
    """What a demo in another directory than the recipes' own changes."""
    if output == Path("runs/demo"):
        return []
    overrides = [f"output={output}/{stage}"]
    for key, split in (("data", "train"), ("validation", "validation")):
        overrides += [
            f"{key}.0.path={output}/data/{stage}_{split}.json",
            f"{key}.0.images={output}/data/images/{split}",
        ]
    return overrides + ([f"model.start={output}/align"] if stage == "instruct" else [])


@dataclass(kw_only=True)
class Results:
    """Everything that the report shows. `answers` are the instructed model's."""

    scores: Scores
    blind: Scores
    align_only: Scores
    seen: float
    unseen: float
    captions_recall: float
    answers: list[Answered]
    captions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Shares from 0 to 1, by the names that the README explains."""
        return {
            "overall": self.scores.overall,
            "by_type": self.scores.by_type,
            "questions": self.scores.questions,
            "questions_by_type": self.scores.count_by_type,
            "blind": self.blind.overall,
            "blind_by_type": self.blind.by_type,
            "align_only": self.align_only.overall,
            "align_only_by_type": self.align_only.by_type,
            "align_only_objects_named": self.captions_recall,
            "unseen_pairs": self.unseen,
            "seen_pairs": self.seen,
        }


def evaluate_all(output: Path, say: Say) -> Results:
    """Scores the instructed model, the same with swapped pictures, and the aligned one."""
    questions = read_questions([output / "data" / "questions.jsonl"])
    root = output / "data" / "images" / "test"
    device = choose_device()
    model, processor = load(output / "instruct", device=device)
    say(f"scoring {len(questions)} questions on held-out pictures, three times")
    answers = answer_questions(model, processor, questions, root=root)
    blind = answer_questions(model, processor, questions, root=root, swap_images=True)
    model, plain = load(output / "align", device=device)
    own = Processor(plain.tokenizer, replace(plain.settings, template="own"))
    align_only = answer_questions(model, own, questions, root=root)
    write_answers(output / "answers.jsonl", answers)
    scenes = read_scenes(output / "data" / "annotations" / "instances_test.json")
    captions = describe_scenes(model, plain, scenes[:CAPTIONED], root=root)
    seen, unseen = pair_scores(answers)
    return Results(
        scores=score(answers), blind=score(blind), align_only=score(align_only), seen=seen, unseen=unseen,
        captions_recall=objects_named(scenes[:CAPTIONED], captions), answers=answers, captions=captions,
    )  # fmt: skip


def pair_scores(answers: list[Answered]) -> tuple[float, float]:
    """Accuracy on questions about seen pairs and about unseen ones, over the same mix of question types.

    Types differ in difficulty, so the seen accuracy is weighted by how often each type is asked about unseen pairs.
    """
    unseen = [answer for answer in answers if answer.question.more["unseen"]]
    seen = score(answer for answer in answers if not answer.question.more["unseen"])
    weights = Counter(answer.question.group for answer in unseen if answer.question.group in seen.by_type)
    total = sum(weights.values())
    weighted = sum(seen.by_type[category] * count for category, count in weights.items())
    return (weighted / total if total else 0.0), score(unseen).overall


def describe_scenes(
    model: VisionLanguageModel, processor: Processor, scenes: list[Scene], *, root: Path, batch: int = 64
) -> dict[str, str]:
    """The aligned model's captions, by file name."""
    names = [file_name(scene.index) for scene in scenes]
    asked = [Asked(at, "", (Path(name),)) for at, name in enumerate(names)]
    captions: dict[str, str] = {}
    for group in answering.answers(model, processor, asked, max_new_tokens=96, batch=batch, root=root):
        captions |= {names[at]: text for at, text in group.items()}
    return captions


def objects_named(scenes: list[Scene], captions: dict[str, str]) -> float:
    """The share of things whose color and shape stand side by side in their picture's caption, each mention once."""
    pattern = re.compile(rf"\b({'|'.join(COLORS)}) ({'|'.join(SHAPES)})")
    named = there = 0
    for scene in scenes:
        told = Counter(pattern.findall(captions[file_name(scene.index)]))
        shown = Counter(thing.pair for thing in scene.things)
        named += (told & shown).total()
        there += shown.total()
    return named / there
