"""Entries of large JSON documents: what is one, and what is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.data import reading
from sightline.data.members import read_members
from sightline.errors import DataError


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "data.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "sections", "members"),
    [
        pytest.param('[{"a": 1}, 2]', (), [("", 0, 1, {"a": 1}), ("", 1, 1, 2)], id="list"),
        pytest.param('{"x": {"a": 1},\n "y": []}', (), [("", "x", 1, {"a": 1}), ("", "y", 2, [])], id="object"),
        pytest.param('{"info": {"v": [1]}, "q": [5,\n6]}', ("q",), [("q", 0, 1, 5), ("q", 1, 2, 6)], id="section"),
        pytest.param(
            '{"b": {"k": 1}, "n": 7, "a": [2]}', ("a", "b"), [("b", "k", 1, 1), ("a", 0, 1, 2)], id="sections"
        ),
        pytest.param("[]", (), [], id="empty list"),
        pytest.param(' {"q": []} \n', ("q",), [], id="empty section"),
        pytest.param('\ufeff["ä"]', (), [("", 0, 1, "ä")], id="byte order mark"),
    ],
)
def test_entries_come_in_the_files_order_with_their_lines(
    content: str, sections: tuple[str, ...], members: list[object], tmp_path: Path
) -> None:
    assert list(read_members(written(tmp_path, content), sections)) == members


@pytest.mark.parametrize(
    ("content", "sections", "reason", "words"),
    [
        pytest.param('{"a": [1, 2', ("a",), "json_truncated", "byte 11; download", id="cut in a section"),
        pytest.param('{"a": [1, 2]', ("a",), "json_truncated", ":1: the file ends", id="cut after it"),
        pytest.param('{"a": [1]}', ("q",), "json_key_missing", "found no key 'q', only a", id="missing section"),
        pytest.param("[1]", ("q",), "json_invalid", "expected an object with q", id="list for an object"),
        pytest.param("[1,]", (), "json_invalid", "column 4", id="comma at the end"),
        pytest.param("[1 2]", (), "json_invalid", 'expected "," or "]"', id="no comma"),
        pytest.param('{"a" 1}', (), "json_invalid", 'no "name":', id="no colon"),
        pytest.param('{"a": 1,\n"a": 2}', (), "json_duplicate_key", ":2: found the key 'a' twice", id="name twice"),
        pytest.param('[1,\n{"a": 1, "a": 2}]', (), "json_duplicate_key", ":2: entry 1", id="key twice in an entry"),
        pytest.param('{"q": [NaN]}', ("q",), "json_not_finite", ":1: q 0", id="NaN"),
        pytest.param("[1] 2", (), "json_invalid", "after the end", id="text behind"),
        pytest.param("", (), "json_invalid", "found nothing", id="empty file"),
        pytest.param("<html>", (), "json_invalid", "found '<' at the start", id="web page"),
        pytest.param(b'["\xff"]', (), "not_utf8", "not UTF-8", id="latin-1"),
    ],
)
def test_a_document_that_is_none_is_refused_with_its_place(
    content: str | bytes, sections: tuple[str, ...], reason: str, words: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as refused:
        list(read_members(path, sections))
    assert refused.value.reason == reason
    assert str(refused.value).startswith(str(path))
    assert words in str(refused.value)


def test_a_large_document_is_read_a_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", 64)
    held: list[int] = []
    grow = reading.Window._grow

    def noted(window: reading.Window) -> None:
        grow(window)
        held.append(len(window.text))

    monkeypatch.setattr(reading.Window, "_grow", noted)
    passed = {f"k{number}": "é" * 20 for number in range(200)}
    content = {"passed over": passed, "entries": [{"n": number} for number in range(500)]}
    path = written(tmp_path, json.dumps(content, ensure_ascii=False))
    assert [one.value for one in read_members(path, ["entries"])] == content["entries"]
    assert max(held) < 300
