"""Accepted answers become LLaVA JSON that the project reads as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from sightline.ask.ledger import Answer
from sightline.ask.question import Reply
from sightline.data.parsing import read_samples
from sightline.synth.context import Context
from sightline.synth.export import DATA, write_data
from sightline.synth.grammar import Pair, write_pairs
from sightline.synth.plan import Subject
from tests.synth.samples import YARD, contexts

PAIRS = [
    Pair("Who is there?", "A woman\nand two dogs."),
    Pair("Where is <image> her hat?", "The picture does not tell."),
]


def answer(context: Context, kind: str, text: str, *, key: str = "k", suffix: str = "", question: str = "") -> Answer:
    subject = Subject(context=context, questions=(question,) if question else (), suffix=suffix)
    return Answer(
        key=key,
        kind=kind,
        subject=subject.to_json(),
        model="painter-1",
        version="v1",
        edition="e1",
        reply=Reply(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1, raw=b""),
    )


def exported(folder: Path, answers: Iterable[Answer]) -> list[dict[str, object]]:
    write_data(answers, folder / DATA)
    found: list[dict[str, object]] = json.loads((folder / DATA).read_text())
    return found


def test_a_sample_is_as_llava_writes_it(tmp_path: Path) -> None:
    (sample,) = exported(tmp_path, [answer(YARD, "vqa", write_pairs(PAIRS[:1]), suffix="In a word.")])
    assert sample == {
        "id": "000000000007-vqa",
        "image": "000000000007.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWho is there?\nIn a word."},
            {"from": "gpt", "value": "A woman\nand two dogs."},
        ],
    }


def test_the_project_reads_what_is_exported(tmp_path: Path) -> None:
    answers = [answer(context, "conversation", write_pairs(PAIRS[:1])) for context in contexts(5)]
    answers += [answer(YARD, "detail", "Two dogs sleep.", question="Describe it.")]
    write_data(answers, tmp_path / DATA)
    samples = read_samples(tmp_path / DATA)
    assert [len(sample.turns) for sample in samples] == [2] * 6
    assert samples[-1].images == ("000000000007.jpg",)


def test_ids_stay_unique_when_a_picture_was_asked_twice_in_a_kind(tmp_path: Path) -> None:
    found = exported(tmp_path, [answer(YARD, "detail", text, question="What?") for text in ("Two dogs.", "One woman.")])
    assert [sample["id"] for sample in found] == ["000000000007-detail", "000000000007-detail-2"]


def test_what_is_alike_is_left_out_and_counted(tmp_path: Path) -> None:
    long = (
        "There is a red tower by the sea, and around it grow trees that are older than the tower and lean to the east."
    )
    other = replace(YARD, id="8")
    answers = [
        answer(YARD, "conversation", write_pairs(PAIRS)),
        answer(YARD, "vqa", write_pairs([*PAIRS[:1], Pair("Is it day?", "yes")])),
        answer(YARD, "negatives", write_pairs(PAIRS[:1])),
        answer(YARD, "detail", long, question="Describe it."),
        answer(other, "detail", long, question="What do you see?"),
    ]
    export = write_data(answers, tmp_path / DATA)
    assert export.samples == {"conversation": 1, "vqa": 1, "detail": 1}
    assert export.dropped == {"pair_duplicate": 1, "duplicate_in_picture": 1, "duplicate_across_pictures": 1}
    samples = json.loads((tmp_path / DATA).read_text())
    assert [len(sample["conversations"]) for sample in samples] == [4, 2, 2]


def test_the_same_answers_are_the_same_bytes(tmp_path: Path) -> None:
    answers = [answer(context, "conversation", write_pairs(PAIRS[:1])) for context in contexts(30)]
    write_data(answers, tmp_path / "one.json")
    write_data(answers, tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_nothing_accepted_is_an_empty_list(tmp_path: Path) -> None:
    assert exported(tmp_path, []) == []


def test_a_failure_leaves_the_data_of_before(tmp_path: Path) -> None:
    exported(tmp_path, [answer(YARD, "detail", "Two dogs.", question="What?")])
    before = (tmp_path / DATA).read_bytes()

    def broken() -> Iterable[Answer]:
        yield answer(YARD, "detail", "Three dogs.", question="What?")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        write_data(broken(), tmp_path / DATA)
    assert (tmp_path / DATA).read_bytes() == before
