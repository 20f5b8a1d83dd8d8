"""POPE's questions for anybody's pictures: the rule of each set, the files, and that the scorer takes them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.evaluate.coco_file import Annotated, read_instances
from sightline.evaluate.pope_build import build, spelled, write
from sightline.evaluate.score import score_files
from tests.command_line import Captured, assert_refused, sightline
from tests.evaluate.judge.helpers import lines

# Cups are on most pictures; forks are with knives more often than with anything else.
PICTURES = [
    Annotated("1", "1.jpg", ("knife", "plate")),
    Annotated("2", "2.jpg", ("fork", "knife")),
    Annotated("3", "3.jpg", ("fork", "knife")),
    Annotated("4", "4.jpg", ("cup", "plate")),
    Annotated("5", "5.jpg", ("cup", "apple")),
    Annotated("6", "6.jpg", ("cup", "apple")),
    Annotated("7", "7.jpg", ("cup", "owl")),
    Annotated("8", "8.jpg", ("bed",)),
]


def asked(questions: list[dict[str, Any]], image: str) -> list[tuple[str, str]]:
    return [(one["text"], one["label"]) for one in questions if one["image"] == image]


@pytest.mark.parametrize(
    ("name", "text"),
    [("dog", "Is there a dog in the image?"), ("apple", "Is there an apple in the image?"),
     ("Orange", "Is there an Orange in the image?")],
)  # fmt: skip
def test_question_in_the_words_of_the_paper(name: str, text: str) -> None:
    assert spelled(name) == text


def test_popular_asks_for_what_is_on_most_pictures_and_adversarial_for_what_is_together() -> None:
    built = build(PICTURES, per_picture=2)
    popular, adversarial = asked(built.sets["popular"], "1.jpg"), asked(built.sets["adversarial"], "1.jpg")
    assert popular[1] == ("Is there a cup in the image?", "no")
    after_knife = adversarial[[text for text, _ in adversarial].index("Is there a knife in the image?") + 1]
    after_plate = adversarial[[text for text, _ in adversarial].index("Is there a plate in the image?") + 1]
    assert (after_knife, after_plate) == (
        ("Is there a fork in the image?", "no"),
        ("Is there a cup in the image?", "no"),
    )
    assert (built.pictures, built.few_objects, built.few_absent) == (7, 1, 0)


def test_labels_are_true_balanced_and_no_object_is_asked_about_twice() -> None:
    built = build(PICTURES, per_picture=2, seed=3)
    objects = {picture.file_name: picture.objects for picture in PICTURES}
    present = {}
    for name, questions in built.sets.items():
        assert Counter(one["label"] for one in questions) == {"yes": 14, "no": 14}
        assert [one["question_id"] for one in questions] == list(range(1, 29))
        for one in questions:
            is_there = any(spelled(thing) == one["text"] for thing in objects[one["image"]])
            assert one["label"] == ("yes" if is_there else "no")
        assert len({(one["image"], one["text"]) for one in questions}) == 28
        present[name] = [one["text"] for one in questions if one["label"] == "yes"]
    assert present["random"] == present["popular"] == present["adversarial"]


def test_same_seed_same_questions_in_whatever_order_the_pictures_come() -> None:
    assert build(PICTURES, per_picture=2, seed=1) == build(PICTURES[::-1], per_picture=2, seed=1)
    assert build(PICTURES, per_picture=2, seed=1).sets != build(PICTURES, per_picture=2, seed=2).sets
    assert build(PICTURES, per_picture=2, most=3).pictures == 3


def test_pictures_without_enough_objects_are_refused() -> None:
    with pytest.raises(DataError, match="no picture has 3 kinds of objects"):
        build(PICTURES, per_picture=3)


def test_files_are_those_that_the_scorer_and_llava_read(tmp_path: Path) -> None:
    *sets, asked_file = write(build(PICTURES, per_picture=2), tmp_path)
    questions = [json.loads(line) for line in asked_file.read_text().splitlines()]
    assert questions[0]["text"].endswith("in the image?\nAnswer the question using a single word or phrase.")
    answers = lines(
        tmp_path / "answers/a.jsonl",
        ({"question_id": one["question_id"], "prompt": one["text"], "text": "Yes"} for one in questions),
    )
    result = score_files("pope", [answers], [*sets, asked_file], strict=True)
    assert result.n == 84
    assert result.figures["adversarial"]["yes_ratio"] == 1
    assert result.figures["mean_f1"] == pytest.approx(2 / 3)


def instances(path: Path) -> Path:
    names = sorted({name for picture in PICTURES for name in picture.objects})
    path.write_text(json.dumps({
        "images": [{"id": int(p.id), "file_name": p.file_name} for p in PICTURES],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
        "annotations": [{"image_id": int(p.id), "category_id": names.index(name), "bbox": [0, 0, 1, 1]}
                        for p in PICTURES for name in (*p.objects, *p.objects)],
    }))  # fmt: skip
    return path


def test_command_builds_from_instances(tmp_path: Path, capsys: Captured) -> None:
    path = instances(tmp_path / "instances.json")
    assert read_instances(path) == PICTURES
    assert sightline("probe", "pope", "--annotations", path, "--out", tmp_path / "out", "--per-picture", 2) == 0
    captured = capsys.readouterr()
    assert captured.out.split() == [
        str(tmp_path / "out" / name)
        for name in ("coco_pope_adversarial.json", "coco_pope_popular.json", "coco_pope_random.json",
                     "llava_pope_test.jsonl")
    ]  # fmt: skip
    assert "1 pictures left out" in captured.err


def test_mistakes_are_one_line(tmp_path: Path, capsys: Captured) -> None:
    assert_refused(capsys, f"probe pope --out {tmp_path}/out", "--annotations")
    (tmp_path / "wrong.json").write_text("[]")
    assert_refused(capsys, f"probe pope --out {tmp_path}/out --annotations {tmp_path}/wrong.json", "instances format")
    content = json.loads(instances(tmp_path / "i.json").read_text())
    content["annotations"][3]["category_id"] = 99
    (tmp_path / "i.json").write_text(json.dumps(content))
    assert_refused(capsys, f"probe pope --out {tmp_path}/out --annotations {tmp_path}/i.json", "annotation 3 is of cat")
    assert_refused(capsys, f"probe popes --out {tmp_path}/out", 'did you mean "pope"')
