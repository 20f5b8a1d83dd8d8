"""Conversations that exist: what cleaning changes, what it leaves out, what stays word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.convert.official import converted, reasons, refused, said, write

Turns = list[tuple[str, str]]


def chat(identity: str, turns: Turns) -> dict[str, Any]:
    return {"id": identity, "conversations": [{"from": who, "value": text} for who, text in turns]}


def write_sharegpt(folder: Path, *conversations: Turns) -> Path:
    samples = [chat(f"wgByO4Y_{number}", turns) for number, turns in enumerate(conversations)]
    return write(folder, "ShareGPT_V3_unfiltered_cleaned_split.json", samples)


GOOD: Turns = [("human", "Hi"), ("gpt", "Hello.")]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        pytest.param(GOOD, ["Hi", "Hello."], id="as it is"),
        pytest.param([("user", "Hi"), ("chatgpt", "Hello.")], ["Hi", "Hello."], id="other names of speakers"),
        pytest.param([("gpt", "Part two."), *GOOD], ["Hi", "Hello."], id="an answer before the first question"),
        pytest.param([*GOOD, ("human", "And?")], ["Hi", "Hello."], id="a question after the last answer"),
        pytest.param([("human", " Hi\r\nyou\rthere "), ("gpt", "\nYes\n")], ["Hi\nyou\nthere", "Yes"], id="line ends"),
        pytest.param([("human", "你好"), ("gpt", "¿Qué?")], ["你好", "¿Qué?"], id="any language"),
        pytest.param([("human", "What is <image>?"), ("gpt", "A <div>.")], ["What is <image>?", "A <div>."], id="tags"),
        pytest.param([("human", "x"), ("gpt", "<div><p>A &amp; B</p></div>")], ["x", "A & B"], id="a page's piece"),
    ],
)
def test_a_conversation_is_cleaned(turns: Turns, expected: list[str], tmp_path: Path) -> None:
    write_sharegpt(tmp_path, turns)
    samples, tally = converted("sharegpt", tmp_path)
    assert said(samples[0]) == expected
    assert "image" not in samples[0]
    assert (tally.used, len(tally.pictures)) == (1, 0)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        pytest.param([], "no_exchange", id="empty"),
        pytest.param([("gpt", "Only an answer.")], "no_exchange", id="answer alone"),
        pytest.param([("human", "Only a question?")], "no_exchange", id="question alone"),
        pytest.param([("system", "Be nice."), *GOOD], "role_unknown", id="system"),
        pytest.param([*GOOD, *GOOD[1:]], "turn_order", id="two answers"),
        pytest.param([("human", "Hi"), ("gpt", "<div><button>Copy</button></div>")], "turn_empty", id="nothing shown"),
        pytest.param([("human", " "), ("gpt", "Hello.")], "turn_empty", id="blank question"),
        pytest.param([("human", "Hi"), ("gpt", "\x00")], "text_control", id="what the reader refuses"),
        pytest.param([("human", "Hi"), ("gpt", "\ud800")], "text_surrogate", id="what no file can hold"),
    ],
)
def test_a_conversation_that_cannot_be_used_is_counted(turns: Turns, reason: str, tmp_path: Path) -> None:
    write_sharegpt(tmp_path, GOOD, turns, GOOD)
    samples, tally = converted("sharegpt", tmp_path)
    assert [sample["id"] for sample in samples] == ["wgByO4Y_0", "wgByO4Y_2"]
    assert reasons(tally) == {reason: 1}


def test_both_parts_are_read_and_ids_that_repeat_get_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "sg_90k_part1.json", [chat("a", GOOD), chat("a", GOOD)])
    write(tmp_path, "sg_90k_part2.json", [chat("b", GOOD), chat("a", GOOD)])
    assert [sample["id"] for sample in converted("sharegpt", tmp_path)[0]] == ["a", "a#2", "b", "a#3"]
    assert converted("sharegpt", path)[1].samples == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"id": "1", "items": []}], "[0]: found no key 'conversations', only id, items"),
        ([{"id": "1", "conversations": [{"from": "human"}]}], "conversations[0]: found no key 'value'"),
        ([{"id": "1", "conversations": [{"from": "human", "value": None}]}], "value: found None, expected a text"),
        ('[{"id": "1", "conversations": [', "the file ends"),
        ("[]", "found no samples"),
    ],
)
def test_another_file_is_refused_with_its_place(content: object, words: str, tmp_path: Path) -> None:
    path = write(tmp_path, "chats.json", content)
    message = refused("sharegpt", path)
    assert message.startswith(str(path))
    assert words in message


def test_llava_instruct_stays_word_for_word_with_its_pictures_under_the_root(tmp_path: Path) -> None:
    first = chat("000000033471", [("human", "<image>\nWhat is it?"), ("gpt", "A bus.\n\nIt is red."), *GOOD])
    last = chat("000000033471", [("human", "Describe it.\n<image>"), ("gpt", "A bus.")])
    bad = chat("9", [("human", "<image>\n<image>"), ("gpt", "Two.")])
    samples = [{**sample, "image": "000000033471.jpg"} for sample in (first, bad, last)]
    write(tmp_path, "llava_instruct_150k.json", samples)
    made, tally = converted("llava-instruct", tmp_path)
    assert made[0] == {**first, "image": "coco/train2017/000000033471.jpg"}
    assert said(made[1]) == ["<image>\nDescribe it.", "A bus."]
    assert made[1]["id"] == "000000033471#2"
    assert reasons(tally) == {"image_count": 1}
