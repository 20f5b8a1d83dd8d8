"""Reading the files of a benchmark: annotations as they were downloaded, answers in whatever shape the user has them.

Comes in: paths. Goes out: parsed content, or `Row`s: an answer with the fields that stood beside it. What a file is, is
told by its content, not by its name. Every fault is one line that names the file, and the line where there is one.
Knows no benchmark: which field is the id, and which the answer, is told by the task.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sightline.errors import DataError
from sightline.evaluate.sheets import read_sheet

ANSWER_FIELDS = ("text", "prediction", "answer", "caption")
"""Where an answer stands: LLaVA's answer files; GQA, SEED-Bench and MMBench; EvalAI's; COCO's captions."""
ID = "id"
"""The field of a row that came from `{id: answer}`."""

HEADING = 2**16
"""A table's heading is no longer, in bytes."""


class Row(NamedTuple):
    """An answer as a file has it. `place` is `file:line`, or `file` and what leads to the answer."""

    text: str
    fields: Mapping[str, Any]
    place: str


def refuse(path: Path | str, what: str, *, reason: str = "file_invalid") -> DataError:
    """The one line about a file."""
    return DataError(f"{path}: {what}", reason=reason)


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        DataError: it is missing, or not UTF-8.
    """
    if not path.is_file():
        raise refuse(path, "no such file", reason="file_missing")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise refuse(
            f"{path}:{line}",
            f"not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}; save the file as UTF-8",
            reason="not_utf8",
        ) from error


def whole(text: str, path: Path) -> Any:
    """The one JSON value of a file; None where it is JSON lines, or empty.

    Raises:
        DataError: it is neither; the message names the line.
    """
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # a whole value and then more: lines
            return None
        raise refuse(f"{path}:{error.lineno}", f"not JSON ({error.msg})") from error
    except RecursionError as error:
        raise refuse(path, "nested too deeply to be a benchmark's file") from error


def numbered_lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """The values of JSON lines with their line numbers; empty lines are passed over."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise refuse(f"{path}:{number}", f"not JSON ({error})") from error


def object_lines(path: Path, *needed: str) -> list[dict[str, Any]]:
    """The objects of a JSON lines file, each of which has the needed keys. `DataError` names the line that has not."""
    found = []
    for number, entry in numbered_lines(read_text(path), path):
        if not isinstance(entry, dict) or not set(needed) <= set(entry):
            raise refuse(f"{path}:{number}", f"expected an object with {', '.join(needed)}")
        found.append(entry)
    return found


def read_json(path: Path) -> Any:
    """A JSON file, or JSON lines as a list; an empty file is an empty list."""
    text = read_text(path)
    content = whole(text, path)
    return [value for _, value in numbered_lines(text, path)] if content is None else content


def read_table(path: Path) -> list[dict[str, str]]:
    """A table with a heading: TSV, CSV, or the first sheet of an xlsx file. All cells are text, absent ones empty.

    Raises:
        DataError: it is no such table.
    """
    if not path.is_file():
        raise refuse(path, "no such file", reason="file_missing")
    if zipfile.is_zipfile(path):
        return read_sheet(path)
    text = read_text(path)
    heading = text.partition("\n")[0]
    csv.field_size_limit(2**30)  # a picture in base64 is one cell
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in heading else ",", restval="")
    return [{str(key): value or "" for key, value in row.items()} for row in reader]


def looks_like_table(path: Path) -> bool:
    """Whether a file's first line is a heading of a table, or it is an xlsx file."""
    if not path.is_file() or zipfile.is_zipfile(path):
        return path.is_file()
    with path.open("rb") as file:
        first = file.readline(HEADING).decode("utf-8-sig", errors="replace").strip()
    return bool(first) and first[0] not in "[{" and ("\t" in first or "," in first)


def read_rows(paths: Sequence[Path], *, answer_fields: Sequence[str] = ANSWER_FIELDS) -> list[Row]:
    """The answers of one or several files, in their order: JSON lines, a JSON list, `{id: answer}`, or a table.

    Raises:
        DataError: a file cannot be read, holds something else, or all of them hold no answer.
    """
    rows: list[Row] = []
    for path in paths:
        if looks_like_table(path):
            rows += [
                _row(fields, answer_fields, f"{path}:{number}") for number, fields in enumerate(read_table(path), 2)
            ]
        else:
            rows += _json_rows(path, answer_fields)
    if not rows:
        raise refuse(", ".join(str(path) for path in paths), "no answers in it", reason="no_answers")
    return rows


def _json_rows(path: Path, answer_fields: Sequence[str]) -> list[Row]:
    text = read_text(path)
    content = whole(text, path)
    if content is None:
        return [_row(fields, answer_fields, f"{path}:{number}") for number, fields in numbered_lines(text, path)]
    if isinstance(content, list):
        return [_row(fields, answer_fields, f"{path}: element {number}") for number, fields in enumerate(content)]
    if not isinstance(content, dict):
        raise refuse(path, f"expected answers, found {_short(content)}")
    if any(field in content for field in answer_fields):  # one row
        return [_row(content, answer_fields, f"{path}:1")]
    return [_named(path, key, value) for key, value in content.items()]


def _named(path: Path, key: str, value: object) -> Row:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise refuse(path, f"expected answers as {{id: text}}, found {_short(value)} under {key!r}")
    return Row(str(value), {ID: key}, f"{path}: {key}")


def _row(fields: object, answer_fields: Sequence[str], place: str) -> Row:
    if not isinstance(fields, dict):
        raise refuse(place, f"expected an answer with its id, found {_short(fields)}")
    for name in answer_fields:
        if name in fields:
            answer = fields[name]
            if isinstance(answer, list) and len(answer) == 1:
                answer = answer[0]
            if not isinstance(answer, str):
                raise refuse(place, f"{name}: expected a text, found {_short(answer)}")
            return Row(answer, fields, place)
    raise refuse(
        place, f"no answer: none of {', '.join(answer_fields)} among {', '.join(map(str, fields)) or 'nothing'}"
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
