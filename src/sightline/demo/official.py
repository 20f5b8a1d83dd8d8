"""The painted world in the benchmarks' official file formats, so that the whole way from such files to a score is run.

Comes in: a folder and a number of pictures. Goes out: the files of VQAv2, GQA, POPE, ScienceQA, MMBench and COCO
Captions about held-out pictures, each in a folder of the benchmark's name, and the pictures. What they ask is the
teacher's; how they are written is as their scorers read it (docs/score.md).
"""

from __future__ import annotations

import base64
import csv
import io
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.atomic import write_atomic
from sightline.demo.coco import file_name, write_annotations
from sightline.demo.dataset import SEED, TEST_START
from sightline.demo.describe import article
from sightline.demo.paint import paint
from sightline.demo.teacher import Exchange, exchanges, references
from sightline.demo.world import COLORS, ROUND, SHAPES, UNSEEN_PAIRS, Scene, draw_scene

SPLIT = "val2014"
TASKS = ("vqav2", "gqa", "pope", "scienceqa", "mmbench", "coco-caption")
QUESTIONS = 3
"""Asked about each picture by VQAv2 and GQA."""
_STRUCTURE = {"existence": "verify", "reasoning": "verify", "relation": "choose"}
_SEMANTICS = {"existence": "obj", "position": "rel", "relation": "rel", "count": "global", "reading": "global"}
_PAIRS = [(color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in UNSEEN_PAIRS]

Json = dict[str, Any]


def write_official(folder: Path, *, pictures: int) -> None:
    """Writes everything; the same bytes for the same number."""
    scenes = [draw_scene(TEST_START + index, seed=SEED) for index in range(pictures)]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        paint(scene, seed=SEED).save(folder / "images" / file_name(scene.index), compress_level=1)
    asked = [
        (scene, exchanges(scene, random.Random(f"official/{SEED}/{scene.index}"), count=QUESTIONS)) for scene in scenes
    ]
    _write_vqa(folder / "vqav2", asked)
    _write_gqa(folder / "gqa", asked)
    _write_pope(folder / "pope", scenes)
    _write_science(folder / "scienceqa", scenes)
    _write_mmbench(folder / "mmbench", scenes, folder / "images")
    write_annotations(scenes, folder / "coco-caption", split=SPLIT, seed=SEED)


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(content))


def _write_vqa(folder: Path, asked: Sequence[tuple[Scene, list[Exchange]]]) -> None:
    """Ten annotators, of whom one begins with a capital and one with an article: answers are not unanimous."""
    questions: list[Json] = []
    truths: list[Json] = []
    for scene, found in asked:
        for number, exchange in enumerate(found):
            name = {"image_id": scene.index, "question_id": 1000 * scene.index + number}
            given = [exchange.short] * 8 + [exchange.short.capitalize(), f"the {exchange.short}"]
            questions.append(name | {"question": exchange.question})
            truths.append(
                name
                | {
                    "question_type": exchange.type,
                    "answer_type": _answer_type(exchange.short),
                    "multiple_choice_answer": exchange.short,
                    "answers": [
                        {"answer": answer, "answer_confidence": "yes", "answer_id": place}
                        for place, answer in enumerate(given, start=1)
                    ],
                }
            )
    head = {"info": {"description": "Sightline's painted world"}, "data_type": "mscoco", "data_subtype": SPLIT}
    task = {"task_type": "Open-Ended", "questions": questions}
    _write(folder / f"v2_OpenEnded_mscoco_{SPLIT}_questions.json", head | task)
    _write(folder / f"v2_mscoco_{SPLIT}_annotations.json", head | {"annotations": truths})


def _answer_type(answer: str) -> str:
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdigit() else "other"


def _write_gqa(folder: Path, asked: Sequence[tuple[Scene, list[Exchange]]]) -> None:
    questions: Json = {}
    for scene, found in asked:
        for number, exchange in enumerate(found):
            key = f"{scene.index}{number:02d}"
            kind = exchange.type
            questions[key] = {
                "question": exchange.question,
                "answer": exchange.short,
                "fullAnswer": exchange.sentence,
                "imageId": file_name(scene.index).removesuffix(".png"),
                "isBalanced": True,
                "groups": {"global": kind, "local": f"{kind}-{exchange.short}"},
                "entailed": [],
                "equivalent": [key],
                "types": {
                    "structural": _STRUCTURE.get(kind, "query"),
                    "semantic": _SEMANTICS.get(kind, "attr"),
                    "detailed": kind,
                },
                "semantic": [
                    {"operation": "select", "argument": "object", "dependencies": []},
                    {"operation": "query", "argument": kind, "dependencies": [0]},
                ],
                "semanticStr": f"select: object->query: {kind} [0]",
                "annotations": {"question": {}, "answer": {}, "fullAnswer": {}},
            }
    _write(folder / "testdev_balanced_questions.json", questions)


def _write_pope(folder: Path, scenes: Sequence[Scene]) -> None:
    """As many absent things as present ones: drawn by lot, by how often pictures show them, and by likeness to what is
    there (a color or a shape in common)."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = Counter(thing.pair for scene in scenes for thing in scene.things)
    popular = [pair for pair, _ in shown.most_common()]
    for name in ("adversarial", "popular", "random"):
        lines: list[Json] = []
        for scene in scenes:
            rng = random.Random(f"pope/{name}/{scene.index}")
            present = {thing.pair for thing in scene.things}
            absent = [pair for pair in _PAIRS if pair not in present]
            rng.shuffle(absent)
            if name == "popular":
                absent = [pair for pair in popular if pair not in present and pair in _PAIRS] or absent
            elif name == "adversarial":
                absent.sort(key=lambda pair: -sum((pair[0] == one[0]) + (pair[1] == one[1]) for one in present))
            for yes, no in zip(rng.sample(sorted(present), min(3, len(present))), absent, strict=False):
                for pair, label in ((yes, "yes"), (no, "no")):
                    noun = " ".join(pair)
                    lines.append(
                        {
                            "question_id": len(lines) + 1,
                            "image": file_name(scene.index),
                            "text": f"Is there {article(noun)} in the picture?",
                            "label": label,
                        }
                    )
        write_atomic(folder / f"coco_pope_{name}.json", "".join(json.dumps(line) + "\n" for line in lines))


def _choices(scene: Scene, rng: random.Random, count: int) -> tuple[str, list[str], str, str] | None:
    """A question about the color or the shape of a thing that can be named, its options, the right one, its look."""
    look = rng.choice(("color", "shape"))
    things = [(thing, names[0]) for thing in scene.things if (names := references(scene, thing, hide=look))]
    if not things:
        return None
    thing, noun = rng.choice(things)
    right = thing.color if look == "color" else thing.shape
    wrong = [one for one in (COLORS if look == "color" else SHAPES) if one != right]
    options = [right, *rng.sample(wrong, count - 1)]
    rng.shuffle(options)
    return f"What {look} is the {noun}?", options, right, look


def _write_science(folder: Path, scenes: Sequence[Scene]) -> None:
    """A question on each picture, and after every fourth one without a picture."""
    problems: Json = {}
    for scene in scenes:
        rng = random.Random(f"science/{scene.index}")
        found = _choices(scene, rng, 3)
        if found is not None:
            question, options, right, look = found
            hint = f"The picture shows {len(scene.things)} objects." if rng.random() < 0.5 else ""
            key = str(len(problems) + 1)
            problems[key] = _problem(question, options, right, hint=hint, image="image.png", topic=look)
            target = folder / "images" / "test" / key / "image.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            paint(scene, seed=SEED).save(target, compress_level=1)
        if scene.index % 4 == 0:
            right = rng.choice(sorted(ROUND))
            options = [right, *rng.sample(sorted(set(SHAPES) - ROUND), 2)]
            rng.shuffle(options)
            problems[str(len(problems) + 1)] = _problem("Which shape could roll?", options, right, topic="rolling")
    _write(folder / "problems.json", problems)
    _write(folder / "pid_splits.json", {"test": list(problems)})


def _problem(
    question: str, options: Sequence[str], right: str, *, topic: str, hint: str = "", image: str | None = None
) -> Json:
    return {
        "question": question,
        "choices": list(options),
        "answer": options.index(right),
        "hint": hint,
        "image": image,
        "task": "closed choice",
        "grade": "grade2" if topic == "color" else "grade8",
        "subject": "natural science",
        "topic": topic,
        "category": "Shapes and colors",
        "skill": topic,
        "lecture": "",
        "solution": "",
        "split": "test",
    }


def _write_mmbench(folder: Path, scenes: Sequence[Scene], images: Path) -> None:
    """Four options, and the question again with them rotated: index + 1,000,000 k, the options moved k places."""
    columns = ("index", "question", "hint", *"ABCD", "answer", "category", "image", "source", "l2-category", "comment",
               "split")  # fmt: skip
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    rounds: list[list[Json]] = [[], [], [], []]
    for group, scene in enumerate(scenes):
        found = _choices(scene, random.Random(f"mmbench/{scene.index}"), 4)
        if found is None:
            continue
        question, options, right, look = found
        picture = base64.b64encode((images / file_name(scene.index)).read_bytes()).decode()
        for turn, rows in enumerate(rounds):
            turned = options[turn:] + options[:turn]
            rows.append(
                {
                    "index": group + 1_000_000 * turn,
                    "question": question,
                    **dict(zip("ABCD", turned, strict=True)),
                    "answer": "ABCD"[turned.index(right)],
                    "category": f"{look}_recognition",
                    "image": group if turn else picture,
                    "source": "painted world",
                    "l2-category": "attribute_recognition",
                    "split": "dev",
                }
            )
    writer.writerows(row for rows in rounds for row in rows)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "mmbench_dev_20230712.tsv", table.getvalue())
