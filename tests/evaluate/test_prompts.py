"""LLaVA-1.5's prompts, word for word."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sightline.evaluate import prompts
from sightline.evaluate.tasks.task import Question
from tests.evaluate.recorded import SCORERS, needs_recordings

ASKED = "What is on the sign?"


def question(**fields: Any) -> Question:
    return Question(id="1", **{"text": ASKED, **fields})


@pytest.mark.parametrize(
    ("prompt", "fields", "expected"),
    [
        pytest.param(prompts.plain, {}, ASKED, id="plain"),
        pytest.param(
            prompts.short, {}, f"{ASKED}\nAnswer the question using a single word or phrase.", id="short answer"
        ),
        pytest.param(
            prompts.vizwiz,
            {},
            f"{ASKED}\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
            "Answer the question using a single word or phrase.",
            id="vizwiz",
        ),
        pytest.param(
            prompts.mme,
            {"more": {"key": ("OCR", "1", ASKED)}},
            f"{ASKED}\nAnswer the question using a single word or phrase.",
            id="mme",
        ),
        pytest.param(
            prompts.seedbench,
            {"options": ("a dog", "a cat")},
            f"{ASKED}\nA. a dog\nB. a cat\nAnswer with the option's letter from the given choices directly.",
            id="seed",
        ),
        pytest.param(
            prompts.scienceqa,
            {"options": ("a dog", "a cat"), "hint": "Look."},
            f"Context: Look.\n{ASKED}\nA. a dog\nB. a cat\n"
            "Answer with the option's letter from the given choices directly.",
            id="science with hint",
        ),
        pytest.param(
            prompts.scienceqa,
            {"options": ("a dog",)},
            f"{ASKED}\nA. a dog\nAnswer with the option's letter from the given choices directly.",
            id="science without hint",
        ),
        pytest.param(
            prompts.mmbench,
            {"hint": "Look.", "more": {"options": {"A": "one", "B": "two"}}},
            f"Look.\n{ASKED}\nA. one\nB. two\nAnswer with the option's letter from the given choices directly.",
            id="mmbench",
        ),
        pytest.param(
            prompts.mmbench_cn,
            {"more": {"options": {"A": "一", "B": "二"}}},
            f"{ASKED}\nA. 一\nB. 二\n请直接回答选项字母。",
            id="mmbench in chinese",
        ),
        pytest.param(
            prompts.mmbench_question,
            {"hint": "NaN", "more": {"options": {"A": "one"}}},
            f"{ASKED}\nA. one",
            id="recorded prompt of mmbench, hint that is none",
        ),
        pytest.param(prompts.caption, {}, "Provide a one-sentence caption for the provided image.", id="caption"),
    ],
)
def test_prompt(prompt: Callable[[Question], str], fields: dict[str, Any], expected: str) -> None:
    assert prompt(question(**fields)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"A": "1", "B": "2", "C": "3", "D": "4"}, ["1", "2", "3", "4"]),
        ({"A": "1", "B": "2"}, ["1", "2"]),
        ({"A": "1", "B": "None", "C": "3"}, ["1"]),
        ({"A": "1", "B": "nan"}, ["1"]),
        ({"A": "1", "C": "3"}, ["1"]),
        ({"A": "no one", "B": "none of them"}, ["no one", "none of them"]),
        ({}, []),
    ],
)
def test_options_of_mmbench_end_where_llavas_reader_ends_them(options: dict[str, str], expected: list[str]) -> None:
    assert prompts.mmbench_options(options) == expected


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("what is it?", None, "What is it?\n"),
        ("What is IT?", ["A", "b c"], "What is IT?\nReference OCR token: A, b c\n"),
        ("what?", [], "What?\nReference OCR token: \n"),
        ("what?", ["two\nlines"], "What?\nReference OCR token: two lines\n"),
    ],
)
def test_textvqa_names_the_tokens_that_were_read(text: str, tokens: list[str] | None, expected: str) -> None:
    found = prompts.textvqa(question(text=text), tokens)
    assert found == f"{expected}Answer the question using a single word or phrase."


@needs_recordings
def test_textvqas_prompts_are_those_that_llava_recorded() -> None:
    cases = [json.loads(line) for line in (SCORERS / "textvqa" / "cases.jsonl").read_text().splitlines()]
    real = [case for case in cases if case["suite"].startswith("real") and "Reference OCR token: " in case["prompt"]]
    assert len(real) >= 50
    for case in real:
        tokens = case["prompt"].split("\n")[1].removeprefix("Reference OCR token: ").split(", ")
        assert prompts.textvqa(question(text=case["question"]), tokens) == case["prompt"]
