"""The key of a question, and the body of its request."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from sightline.ask.question import Message, Picture, Question, request_body
from sightline.errors import DataError

PNG = b"\x89PNG\r\n\x1a\n and so on"
FIELDS: dict[str, Any] = {
    "messages": (Message("system", "Be brief."), Message("user", "What is it?", (Picture("a.png", "00"),))),
    "model": "m",
    "kind": "detail",
    "max_tokens": 10,
    "temperature": 0.5,
    "subject": "a.png",
    "version": "1",
}


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (*FIELDS["messages"], Message("user", ""))},
        {"messages": (Message("user", "Be brief."), FIELDS["messages"][1])},
        {"messages": (FIELDS["messages"][0], Message("user", "What is it?", (Picture("a.png", "01"),)))},
        {"messages": (FIELDS["messages"][0], Message("user", "What is it?"))},
        {"model": "n"},
        {"kind": "reasoning"},
        {"max_tokens": 11},
        {"temperature": 0.6},
        {"subject": "b.png"},
        {"version": "2"},
    ],
)
def test_whatever_decides_the_answer_changes_the_key(change: dict[str, Any]) -> None:
    assert Question.of(**FIELDS).key != Question.of(**{**FIELDS, **change}).key


def test_the_key_is_the_same_everywhere_and_does_not_depend_on_where_a_picture_lies() -> None:
    moved = (FIELDS["messages"][0], Message("user", "What is it?", (Picture("elsewhere/a.png", "00"),)))
    assert Question.of(**{**FIELDS, "messages": moved}).key == Question.of(**FIELDS).key
    assert Question.of(**{**FIELDS, "temperature": 1}).key == Question.of(**{**FIELDS, "temperature": 1.0}).key
    # Recorded: a ledger of an earlier version of the program must be found answered.
    assert Question.of(**FIELDS).key == "0c90dad3d315350c56cd54107478b61fb2707b0ea0c57ebb6d4df55c1cb8ecee"


def test_two_questions_are_of_one_edition_when_only_what_they_are_about_differs() -> None:
    edition = Question.of(**FIELDS).edition
    other = {"messages": (Message("user", "And this?"),), "subject": "b.png", "kind": "reasoning"}
    assert Question.of(**{**FIELDS, **other}).edition == edition
    for change in ({"model": "n"}, {"version": "2"}, {"max_tokens": 11}, {"temperature": 0.6}):
        assert Question.of(**{**FIELDS, **change}).edition != edition


def test_the_body_holds_what_the_protocol_wants(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    asked = Question.of(
        [Message("system", "Be brief."), Message("user", "What is it?", (Picture.of(path),))],
        model="m",
        kind="detail",
        max_tokens=10,
    )
    assert asked.images == (Picture(str(path), hashlib.sha256(PNG).hexdigest()),)
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert request_body(asked, 2) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": url}},
                    {"type": "text", "text": "What is it?"},
                ],
            },
        ],
        "max_tokens": 10,
        "temperature": 0.0,
        "seed": 2,
    }
    plain = request_body(asked, 2, seeded=False, tokens_field="max_completion_tokens")
    assert "seed" not in plain
    assert "max_tokens" not in plain
    assert plain["max_completion_tokens"] == 10


@pytest.mark.parametrize(
    ("content", "kind"),
    [(PNG, "png"), (b"\xff\xd8\xff\xe0", "jpeg"), (b"RIFF\n\0\0\0WEBPVP8 ", "webp"), (b"GIF89a", None), (b"", None)],
)
def test_a_picture_is_sent_as_what_it_is(tmp_path: Path, content: bytes, kind: str | None) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    asked = dataclasses.replace(Question.of(**FIELDS), messages=(Message("user", "?", (Picture.of(path),)),))
    if kind is None:
        with pytest.raises(DataError, match=r"picture\.png: not PNG, JPEG or WebP"):
            request_body(asked, 0)
    else:
        url = request_body(asked, 0)["messages"][0]["content"][0]["image_url"]["url"]
        assert url.startswith(f"data:image/{kind};base64,")


def test_a_picture_that_is_gone_or_has_changed_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    asked = dataclasses.replace(Question.of(**FIELDS), messages=(Message("user", "?", (Picture.of(path),)),))
    path.write_bytes(PNG + b"!")
    with pytest.raises(DataError, match="has changed") as changed:
        request_body(asked, 0)
    assert changed.value.reason == "image_changed"
    path.unlink()
    with pytest.raises(DataError, match="cannot be read") as gone:
        request_body(asked, 0)
    assert gone.value.reason == "image_missing"
