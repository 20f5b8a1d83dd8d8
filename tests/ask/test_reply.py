"""What may come back, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sightline.ask.reply import LARGEST_REPLY, Unusable, read_reply, read_usage
from sightline.ask.teacher import completion_body


def body(*, finish_reason: Any = "stop", content: Any = "A red bus.", usage: Any = None, **message: Any) -> bytes:
    choice = {"finish_reason": finish_reason, "message": {"content": content, **message}}
    return json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()


def test_a_reply_is_its_text_and_what_it_cost() -> None:
    raw = completion_body("A red bus.", model="m", tokens=(7, 4))
    reply = read_reply(raw, model="m")
    assert (reply.text, reply.finish_reason, reply.raw) == ("A red bus.", "stop", raw)
    assert (reply.prompt_tokens, reply.completion_tokens) == (7, 4) == read_usage(raw)


@pytest.mark.parametrize(
    ("raw", "reason", "cut"),
    [
        (b"", "not_json", True),
        (b'{"choices": [{"mess', "not_json", True),
        (b"<html>", "not_json", True),
        (b"\xff\xfe", "not_json", True),
        (b"[" * 100_000, "not_json", True),
        (b'{"choices": ' + b"9" * 5000 + b"}", "not_json", True),
        (b"[]", "not_a_completion", True),
        (b'{"error": {"message": "busy"}}', "not_a_completion", True),
        (b'{"choices": {}}', "not_a_completion", True),
        (b'{"choices": ["hello"]}', "not_a_completion", True),
        (b'{"choices": [{"message": "hello"}]}', "not_a_completion", True),
        (b'{"choices": []}', "no_choices", False),
        (body(content=None), "no_text", False),
        (body(content=" \n"), "no_text", False),
        (body(content=["A", "list"]), "no_text", False),
        (body(content=None, refusal="I would rather not."), "refusal", False),
        (body(finish_reason="length"), "length", False),
        (body(finish_reason="length", content=None), "length", False),
        (body(finish_reason="content_filter", content=""), "content_filter", False),
        (body(content="half \ud83d of a pair"), "bad_text", False),
        (b" " * LARGEST_REPLY + b"{}", "too_large", False),
    ],
)
def test_what_is_no_reply_has_a_reason(raw: bytes, reason: str, cut: bool) -> None:
    with pytest.raises(Unusable) as caught:
        read_reply(raw, model="m")
    assert (caught.value.reason, caught.value.cut) == (reason, cut)


@pytest.mark.parametrize(
    ("asked", "said", "same"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4", "gpt-4-0613", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("gpt-4o-mini", "gpt-4o", False),
        ("openai/gpt-4o", "gpt-4o", True),
        ("Llama-3", "meta/llama-3", True),
        ("/models/llama", "/models/llama", True),
        ("m", "", True),
        ("m", None, True),
        ("m", 7, True),
    ],
)
def test_the_model_that_answers_must_be_the_one_that_was_asked(asked: str, said: Any, same: bool) -> None:
    raw = json.dumps({"model": said, "choices": [{"message": {"content": "Yes."}}]}).encode()
    if same:
        assert read_reply(raw, model=asked).text == "Yes."
    else:
        with pytest.raises(Unusable, match="other_model"):
            read_reply(raw, model=asked)


@pytest.mark.parametrize(
    "usage",
    [None, {}, "much", {"prompt_tokens": 5}, {"prompt_tokens": -1, "completion_tokens": 1}]
    + [{"prompt_tokens": wrong, "completion_tokens": 1} for wrong in (True, 1.5, "3", 10**9)],
)
def test_nonsense_instead_of_counts_is_no_count(usage: Any) -> None:
    assert read_usage(body(usage=usage)) is None
    assert read_reply(body(usage=usage), model="m").prompt_tokens is None
