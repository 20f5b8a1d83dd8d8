"""Files of records: what is one, and what is refused with its place. Params are named after the bad input."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sightline.data import reading
from sightline.data.reading import Record, parse_record, read_records
from sightline.errors import DataError


def written(folder: Path, content: str | bytes, name: str = "data.json") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def records(folder: Path, content: str | bytes) -> list[Record]:
    """The records; each is found again by its bytes."""
    path = written(folder, content)
    found, raw = list(read_records(path)), path.read_bytes()
    again = [parse_record(raw[one.at.start : one.at.end], file=one.file, at=one.at).value for one in found]
    assert repr(again) == repr([one.value for one in found])  # by their spelling, as NaN is not NaN
    return found


@pytest.mark.parametrize(
    ("content", "places"),
    [
        pytest.param('[{"a": 1}, {"a": 2}]', ["1[0]", "1[1]"], id="list on one line"),
        pytest.param('[\n {"a": 1},\n {"a":\n 2}\n]\n', ["2[0]", "3[1]"], id="list over lines"),
        pytest.param('{"a": 1}\n{"a": 2}\n', ["1", "2"], id="jsonl"),
        pytest.param('{"a": 1}\n{"a": 2}', ["1", "2"], id="jsonl without a last line end"),
        pytest.param('\n{"a": 1}\n\n  {"a": 2}  \n\n', ["2", "4"], id="jsonl with blank lines"),
        pytest.param('{"a": 1}\r\n{"a": 2}\r\n', ["1", "2"], id="CRLF"),
        pytest.param('\ufeff[{"a": 1}, {"a": 2}]', ["1[0]", "1[1]"], id="byte order mark, list"),
        pytest.param('\ufeff{"a": 1}\n{"a": 2}', ["1", "2"], id="byte order mark, jsonl"),
    ],
)
@pytest.mark.parametrize("chunk", [3, 7, 2**20])
def test_the_content_decides_the_format_and_every_record_knows_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, places: list[str], chunk: int
) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", chunk)
    found = records(tmp_path, content)
    assert [record.value for record in found] == [{"a": 1}, {"a": 2}]
    assert [record.place for record in found] == [f"{tmp_path / 'data.json'}:{place}" for place in places]


@pytest.mark.parametrize(
    ("content", "reason", "line"),
    [
        pytest.param("", "file_empty", None, id="empty file"),
        pytest.param(" \n\n ", "file_empty", None, id="blank file"),
        pytest.param("\ufeff", "file_empty", None, id="only a byte order mark"),
        pytest.param(" [ ] ", "file_empty", None, id="empty list"),
        pytest.param("id,image\n1,a.jpg", "json_invalid", 1, id="no JSON at all"),
        pytest.param('[{"a": 1}]\n{"a": 2}\n', "json_invalid", 2, id="list, then jsonl"),
        pytest.param('{"a": 1},\n{"a": 2}\n', "json_invalid", 1, id="jsonl with commas"),
        pytest.param('[{"a": 1}\n{"a": 2}]', "json_invalid", 2, id="list without a comma"),
        pytest.param('[{"a": 1},\n]', "json_invalid", 2, id="list with a comma too many"),
        pytest.param('{"a": 1}\n{"a": 2 "b": 3}\n{"a": 3}\n', "json_invalid", 2, id="broken line"),
        pytest.param("{'a': 1}\n", "json_invalid", 1, id="single quotes"),
        pytest.param('{"a": "b\tc"}\n{"a": 1}\n', "json_invalid", 1, id="raw tab in a string"),
        pytest.param(b'{"a": 1}\n{"a": "\xff"}\n', "not_utf8", 2, id="invalid UTF-8"),
        pytest.param(b'{"a": 1}\n{"a": "\xe2\x82', "not_utf8", 2, id="UTF-8 cut in a character"),
        pytest.param('[{"a": 1}]'.encode("utf-16"), "not_utf8", 1, id="UTF-16"),
        pytest.param('{"a": ' + "[" * 50_000, "json_too_deep", 1, id="nesting of 50 000"),
        pytest.param("[" * 50_000, "json_too_deep", 1, id="lists in lists"),
        pytest.param('{"a": ' + "9" * 6000 + "}", "json_invalid", 1, id="number of 6000 digits"),
    ],
)
def test_a_file_that_is_not_to_be_read_is_refused_with_the_line(
    tmp_path: Path, content: str | bytes, reason: str, line: int | None
) -> None:
    with pytest.raises(DataError) as caught:
        records(tmp_path, content)
    assert caught.value.reason == reason
    place = f"{tmp_path / 'data.json'}:" + ("" if line is None else f"{line}:")
    assert str(caught.value).startswith(place)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "tail",
    ['{"a": "b', '{"a": "b}', '{"a"', '{"a": tru', '{"a": "\\u12', '{"a": {"b": 1}', "{", '{"a": [1, 2'],
)
@pytest.mark.parametrize("head", ['{"a": "é"}\n', '[{"a": "é"},\n'])
def test_a_file_cut_off_by_a_killed_writer_is_refused_with_the_byte_where_the_last_sample_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, tail: str
) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", 5)
    with pytest.raises(DataError, match=f"byte {len(head.encode())}\\b") as caught:
        records(tmp_path, head + tail)
    assert caught.value.reason == "json_truncated"


@pytest.mark.parametrize("content", ['[{"a": 1}', '[{"a": 1},', "["])
def test_a_list_without_its_end_is_cut_off(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError) as caught:
        records(tmp_path, content)
    assert caught.value.reason == "json_truncated"


@pytest.mark.parametrize(
    "content", ['{"a": "' + "x" * 5000, '{"a": "' + "x" * 5000 + '"}', '[{"a": 1}, {"a": "' + "x" * 5000]
)
def test_a_giant_line_is_refused_after_reading_a_little_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", 64)
    monkeypatch.setattr(reading, "MAX_RECORD_CHARS", 1000)
    with pytest.raises(DataError) as caught:
        records(tmp_path, content + "y" * 20_000)
    assert caught.value.reason == "sample_too_long"


def test_a_whole_record_above_the_limit_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_RECORD_CHARS", 1000)
    assert len(records(tmp_path, json.dumps({"a": "x" * 991}))) == 1
    with pytest.raises(DataError) as caught:
        records(tmp_path, json.dumps({"a": "x" * 1001}))
    assert caught.value.reason == "sample_too_long"


def test_the_line_of_a_bad_byte_counts_what_is_still_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", 8)
    with pytest.raises(DataError, match=r"data\.json:3: .*UTF-8"):
        records(tmp_path, b'{"a": 1}\n{"b":\n "cccccccccccccccc\xff"}')


def test_a_number_cut_by_the_end_of_the_window_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", 3)
    assert [record.value for record in records(tmp_path, "[12345, 67890]")] == [12345, 67890]


def test_the_window_does_not_keep_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", 256)
    sizes: list[int] = []
    grow = reading.Window._grow

    def noted(window: reading.Window) -> None:
        grow(window)
        sizes.append(len(window.text))

    monkeypatch.setattr(reading.Window, "_grow", noted)
    assert len(records(tmp_path, json.dumps([{"a": number} for number in range(2000)]))) == 2000
    assert max(sizes) < 600


@pytest.mark.parametrize(
    ("content", "reason", "key"),
    [
        pytest.param('{"a": NaN}', "json_not_finite", "", id="NaN"),
        pytest.param('{"a": [1, -Infinity]}', "json_not_finite", "", id="Infinity"),
        pytest.param('{"a": 1, "a": 2}', "json_duplicate_key", "a", id="duplicate key"),
        pytest.param('{"b": {"a\\n": 1, "c": 2, "a\\n": 2}}', "json_duplicate_key", "a\\n", id="duplicate key inside"),
    ],
)
@pytest.mark.parametrize("form", ["{},\n[1]", "{}\n[1]"])
def test_what_json_forgives_is_a_fault_of_that_record_alone(
    tmp_path: Path, content: str, reason: str, key: str, form: str
) -> None:
    content = form.replace("{}", content).replace("[1]", '{"fine": 1}')
    bad, good = records(tmp_path, f"[{content}]" if "," in form else content)
    assert bad.fault is not None
    assert (bad.fault.reason, bad.fault.key) == (reason, key)
    assert "\n" not in str(bad.fault)
    assert good.fault is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json") as caught:
        list(read_records(tmp_path / "nowhere.json"))
    assert caught.value.reason == "file_missing"


@pytest.mark.parametrize("kind", ["folder", "pipe", "name with a NUL", "no permission"])
def test_what_is_no_readable_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / ("thing\0" if kind == "name with a NUL" else "thing")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "no permission":
        path.write_text("[]")

        def denied(*_: object) -> None:
            raise PermissionError(13, "words of the system")

        monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError) as caught:
        list(read_records(path))
    assert caught.value.reason == "file_unreadable"
    assert "\n" not in str(caught.value)
