"""Asking: the file of answers is the same whoever wrote it, in whatever order, and however often they were killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sightline.atomic import FAULT_VARIABLE
from sightline.errors import ConfigError, DataError
from sightline.evaluate.exam import Exam, open_exam
from sightline.evaluate.journal import Journal, given
from sightline.evaluate.runner import Checkpoint, Shard, ask_exam
from tests.evaluate.exams import Parrot, make
from tests.tiny_checkpoint import tiny_assistant

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def exam(tmp_path: Path) -> Exam:
    make("short-answers", tmp_path / "data")
    return open_exam("short-answers", tmp_path / "data")


def parrot(**identity: Any) -> Parrot:
    return Parrot({at: f"answer {at}" for at in range(5)}, group=1, **identity)


def whole(exam: Exam, folder: Path, **options: Any) -> bytes:
    path = ask_exam(exam, parrot(), folder, **options)
    assert path is not None
    return path.read_bytes()


# ---- shards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [
        (5, 1, [[0, 1, 2, 3, 4]]),
        (5, 2, [[0, 1, 2], [3, 4]]),
        (5, 3, [[0, 1], [2, 3], [4]]),
        (4, 3, [[0, 1], [2, 3], []]),
        (1, 4, [[0], [], [], []]),
        (0, 2, [[], []]),
    ],
)
def test_shards_are_consecutive_and_take_every_question_once(total: int, count: int, expected: list[list[int]]) -> None:
    assert [list(Shard(index, count).of(total)) for index in range(1, count + 1)] == expected


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/", "-1/2", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected I/N"):
        Shard.parse(text)


def test_shards_merged_are_one_process(exam: Exam, tmp_path: Path) -> None:
    one = whole(exam, tmp_path / "one")
    three = [Shard.parse(f"{index}/3") for index in (3, 1, 2)]
    assert [ask_exam(exam, parrot(), tmp_path / "many", shard=shard) is None for shard in three] == [True, True, False]
    assert (tmp_path / "many" / "answers.jsonl").read_bytes() == one


def test_two_processes_do_not_answer_the_same_shard(exam: Exam, tmp_path: Path) -> None:
    ask_exam(exam, parrot(), tmp_path, limit=1)
    with Journal(tmp_path, name="1-of-1"), pytest.raises(ConfigError, match="another process is answering this"):
        ask_exam(exam, parrot(), tmp_path)


# ---- going on --------------------------------------------------------------------------------------------------------


def test_answers_come_in_the_questions_order_in_llavas_format(exam: Exam, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in whole(exam, tmp_path).splitlines()]
    assert [line["text"] for line in lines] == [f"answer {at}" for at in range(5)]
    assert list(lines[0]) == ["question_id", "prompt", "text", "answer_id", "model_id", "metadata"]
    assert len({line["answer_id"] for line in lines}) == 5


def test_what_was_answered_is_not_asked_again(exam: Exam, tmp_path: Path) -> None:
    first, second, third = parrot(), parrot(), parrot()
    ask_exam(exam, first, tmp_path, limit=2)
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2
    ask_exam(exam, second, tmp_path)
    ask_exam(exam, third, tmp_path)
    assert (sorted(first.asked), sorted(second.asked), third.asked) == ([0, 1], [2, 3, 4], [])
    assert (tmp_path / "answers.jsonl").read_bytes() == whole(exam, tmp_path / "undisturbed")


def live(exam: Exam, folder: Path, fault: str) -> None:
    os.environ[FAULT_VARIABLE] = fault
    ask_exam(exam, parrot(), folder)


def test_a_run_that_is_killed_again_and_again_ends_with_the_file_of_an_undisturbed_one(
    exam: Exam, tmp_path: Path
) -> None:
    expected = whole(exam, tmp_path / "undisturbed")
    chance = random.Random(20261121)
    for life in range(4):
        folder = tmp_path / f"run {life}"
        for _ in range(8):
            fault = chance.choice(["answers:1", "answers:2", "before_replace:1", "before_replace:2"])
            process = FORK.Process(target=live, args=(exam, folder, fault))
            process.start()
            process.join(60)
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            journal = folder / "journal" / "1-of-1.jsonl"
            if journal.exists() and chance.random() < 0.5:  # a line that was being written
                journal.write_bytes(journal.read_bytes() + b'{"number": 4, "te')
        assert whole(exam, folder) == expected


def test_a_damaged_journal_is_named(exam: Exam, tmp_path: Path) -> None:
    ask_exam(exam, parrot(), tmp_path, limit=1)
    journal = tmp_path / "journal" / "1-of-1.jsonl"
    journal.write_text(journal.read_text() + "[]\n")
    with pytest.raises(DataError, match=r"1-of-1\.jsonl:2: not an answer"):
        given(tmp_path)


@pytest.mark.parametrize(
    ("options", "identity", "words"),
    [
        ({}, {"checkpoint": "1"}, 'made with checkpoint "0", now it is "1"'),
        ({}, {"quantize": "int8"}, 'made with quantize null, now it is "int8"'),
        ({"max_new_tokens": 3}, {}, "made with max_new_tokens 16, now it is 3"),
        ({"blind": "swap"}, {}, 'made with pictures "own", now it is "swap"'),
    ],
)
def test_answers_of_another_making_do_not_join(
    exam: Exam, tmp_path: Path, options: Mapping[str, Any], identity: Mapping[str, Any], words: str
) -> None:
    before = whole(exam, tmp_path)
    with pytest.raises(ConfigError, match=words) as caught:
        ask_exam(exam, parrot(**identity), tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "answers.jsonl").read_bytes() == before


def test_another_prompt_is_another_making(exam: Exam, tmp_path: Path) -> None:
    whole(exam, tmp_path / "out")
    questions = tmp_path / "data" / "questions.jsonl"
    questions.write_text(questions.read_text().replace("What?", "Who?", 1))
    with pytest.raises(ConfigError, match="made with prompts"):
        ask_exam(open_exam("short-answers", tmp_path / "data"), parrot(), tmp_path / "out")


# ---- with a model ----------------------------------------------------------------------------------------------------


def test_batches_shards_and_a_second_life_change_no_answer_of_a_model(tmp_path: Path) -> None:
    """Prompts of several lengths, with pictures and without."""
    make("scienceqa", tmp_path / "data")
    exam = open_exam("scienceqa", tmp_path / "data")
    assert [len(one.pictures) for one in exam.asked] == [1, 0]
    loaded = tiny_assistant()

    def model(batch: int) -> Checkpoint:
        return Checkpoint("tiny", {"checkpoint": "0"}, lambda: loaded, batch)

    alone = ask_exam(exam, model(1), tmp_path / "alone", max_new_tokens=12)
    together = ask_exam(exam, model(5), tmp_path / "together", max_new_tokens=12)
    ask_exam(exam, model(2), tmp_path / "shards", max_new_tokens=12, shard=Shard(2, 2))
    merged = ask_exam(exam, model(3), tmp_path / "shards", max_new_tokens=12)
    assert alone is not None
    assert together is not None
    assert merged is not None
    assert alone.read_bytes() == together.read_bytes() == merged.read_bytes()
    assert all(json.loads(line)["text"] for line in alone.read_text().splitlines())
