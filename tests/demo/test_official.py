"""The painted world in the official formats: who answers rightly has every point, and a model is run on all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.demo.official import TASKS, write_official
from sightline.evaluate.evaluation import Options, evaluate_exam, headline
from sightline.evaluate.exam import open_exam
from sightline.evaluate.runner import Checkpoint
from tests.evaluate.exams import Parrot
from tests.tiny_checkpoint import tiny_assistant


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official")
    write_official(folder, pictures=8)
    return folder


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize("task", TASKS)
def test_right_answers_have_every_point(task: str, official: Path, tmp_path: Path) -> None:
    exam = open_exam(task, official)
    right = Parrot({at: question.answers[0] for at, question in enumerate(exam.questions)}, group=64)
    outcome = evaluate_exam(exam, right, tmp_path, Options(), say=quiet)
    assert outcome is not None
    assert outcome.result is not None
    value, whole = headline(outcome.result)
    assert whole
    if task == "coco-caption":
        assert value is not None
        assert value > 2
    else:
        assert value == pytest.approx({"pope": 1.0, "mmbench": 1.0}.get(task, 100.0))


def test_pope_asks_as_much_about_what_is_absent(official: Path) -> None:
    exam = open_exam("pope", official)
    assert {question.group for question in exam.questions} == {"adversarial", "popular", "random"}
    labels = [question.answers[0] for question in exam.questions]
    assert labels.count("yes") == labels.count("no") > 20


def test_a_checkpoint_goes_the_whole_way(official: Path, tmp_path: Path) -> None:
    loaded = tiny_assistant()
    model = Checkpoint("tiny", {"checkpoint": "0"}, lambda: loaded, 16)
    for task in TASKS:
        options = Options(limit=4, blind="swap", max_new_tokens=4)
        outcome = evaluate_exam(open_exam(task, official), model, tmp_path / task, options, say=quiet)
        assert outcome is not None
        assert len(outcome.answers) == len(outcome.blind_answers) == 4
        assert (tmp_path / task / "report.html").stat().st_size > 10_000


def test_the_same_number_of_pictures_gives_the_same_bytes(official: Path, tmp_path: Path) -> None:
    write_official(tmp_path, pictures=8)
    paths = [path.relative_to(official) for path in official.rglob("*") if path.is_file()]
    assert len(paths) > 20
    assert all((tmp_path / path).read_bytes() == (official / path).read_bytes() for path in paths)
