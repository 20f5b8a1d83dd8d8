from __future__ import annotations

import pytest

from sightline.synth.grammar import GrammarError, Pair, parse_answers, parse_pairs, write_pairs

ONE = "Question:\nWhat is there?\n===\nAnswer:\nA dog."


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(ONE, id="plain"),
        pytest.param(f"\n{ONE}\n===\n", id="a rule at the end"),
        pytest.param("===\n" + ONE, id="a rule in front"),
        pytest.param("Question: What is there?\n===\nAnswer: A dog.", id="on one line"),
        pytest.param("**Question:** What is there?\n=====\n**Answer:** A dog.", id="in bold, a longer rule"),
        pytest.param("QUESTION 1:\nWhat is there?\n===\nanswer 1:\nA dog.", id="numbered, in other letters"),
        pytest.param(ONE.replace("\n", "\r\n"), id="other line ends"),
    ],
)
def test_forms_of_the_same_reply(reply: str) -> None:
    assert parse_pairs(reply) == [Pair("What is there?", "A dog.")]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        pytest.param("", "no blocks", id="nothing"),
        pytest.param("===\n===", "no blocks", id="only rules"),
        pytest.param("There is a dog.", "block 1", id="prose"),
        pytest.param("Question:\nWhat is there?", "no answer", id="cut off"),
        pytest.param(f"{ONE}\n===\nQuestion:\nAnd", "no answer", id="cut off in a question"),
        pytest.param("Question:\n\n===\nAnswer:\nA dog.", "question is empty", id="no words in a question"),
        pytest.param("Answer:\nA dog.\n===\nQuestion:\nWhat?", "block 1", id="answer first"),
        pytest.param("Question:\nWhat?\n===\nQuestion:\nWho?", "block 2", id="two questions"),
        pytest.param("Question:\nWhat?\nAnswer:\nA dog.\n===\nAnswer:\nA cat.", "missing", id="a rule is missing"),
        pytest.param(f"Here you are:\n{ONE}", "block 1", id="words in front"),
    ],
)
def test_what_is_not_in_the_form_is_refused(reply: str, words: str) -> None:
    with pytest.raises(GrammarError, match=words):
        parse_pairs(reply)


def test_an_empty_answer_is_left_to_the_checks() -> None:
    assert parse_pairs("Question:\nWhat?\n===\nAnswer:\n") == [Pair("What?", "")]


def test_what_is_written_is_parsed_to_the_same_pairs() -> None:
    pairs = [Pair("What is\nthere?", "A dog.\n\nAnd a cat."), Pair("Where?", "On the left: by the door.")]
    assert parse_pairs(write_pairs(pairs)) == pairs


@pytest.mark.parametrize("reply", ["A dog.", '{"a": 1}', "[1]", '["a"', '"a"'])
def test_answers_of_an_interview_are_a_list_of_texts(reply: str) -> None:
    assert parse_answers('["A dog. ", "no"]') == ["A dog.", "no"]
    with pytest.raises(GrammarError):
        parse_answers(reply)
