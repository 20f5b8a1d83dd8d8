"""JSON and JSONL files, one record at a time and in bounded memory.

Comes in: a path. Goes out: `Record`s, each with its place in the file, by which `parse_record` makes it again. Whether
the file is one JSON list or JSONL (one JSON value after another) is decided by its first character, never by its name.
Knows nothing of what a record means.

Two kinds of trouble, because after the second kind nobody knows where the next record starts:

- Trouble of one record: `Record.fault`, a `SampleError`. Reasons `json_duplicate_key`, `json_not_finite`.
- Trouble of the file: `DataError` at once, a `FileError` where a line is known. Reasons `file_missing`,
  `file_unreadable`, `file_empty`, `not_utf8`, `json_invalid`, `json_truncated`, `json_too_deep`, `sample_too_long`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sightline.errors import DataError

MAX_RECORD_CHARS = 32 * 2**20
"""Longest record, in characters. The largest samples of the public sets are thousands of times shorter, and a file
that is one endless line is refused after reading this much of it (at most twice, as the window doubles)."""

CHUNK_BYTES = 2**20
"""How much is read at a time: some hundred samples of the usual length."""

_BLANK = re.compile(r"[ \t\r\n]*")


class SampleError(DataError):
    """What is wrong with one sample: at which key, a stable reason code, and one line in words."""

    def __init__(self, key: str, reason: str, *, found: str, expected: str, fix: str) -> None:
        where = f"{key}: " if key else ""
        super().__init__(f"{where}found {found}, expected {expected}; {fix}", reason=reason)
        self.key = key


class FileError(DataError):
    """What is wrong with a file from some line on."""

    def __init__(self, file: str, line: int, words: str, *, reason: str) -> None:
        super().__init__(f"{file}:{line}: {words}", reason=reason)
        self.line = line


class Place(NamedTuple):
    """Where a record lies: its bytes from `start` to before `end`, its line, the element of the list that it is."""

    start: int
    end: int
    line: int
    element: int | None

    def within(self, file: str) -> str:
        """`data.jsonl:12`, or `data.json:1[12]` for element 12 of a list that starts it on line 1."""
        return f"{file}:{self.line}" + ("" if self.element is None else f"[{self.element}]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One value of the file. `line` counts from 1; `index` counts the elements of a JSON list from 0, None in JSONL."""

    file: str
    at: Place
    value: object
    fault: SampleError | None

    @property
    def line(self) -> int:
        return self.at.line

    @property
    def index(self) -> int | None:
        return self.at.element

    @property
    def place(self) -> str:
        """See `Place.within`."""
        return self.at.within(self.file)


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a JSON list or a JSONL file.

    Raises:
        DataError: the file is missing, unreadable, empty, not UTF-8, not JSON, or cut off.
    """
    name = str(path)
    with open_data(path) as file:
        window = Window(file, name)
        first = window.peek()
        if first and first not in "[{":
            raise window.error("json_invalid", 'found text that is not JSON, expected "[" or "{"; check the path')
        count = 0
        for start, end, line, value, fault in _list_elements(window) if first == "[" else _lines(window):
            at = Place(start, end, line, count if first == "[" else None)
            yield Record(file=name, at=at, value=value, fault=fault)
            count += 1
    if not count:
        raise DataError(
            f"{name}: found no samples, expected at least one; check how the file was made", reason="file_empty"
        )


def parse_record(raw: bytes, *, file: str, at: Place) -> Record:
    """A record that `read_records` has found in `file`, from its bytes. `ValueError` when they are not a record's."""
    text = raw.decode()
    json_reader = _StrictJSON()
    value, end = json_reader.decode(text, 0)
    if end != len(text):
        raise ValueError(f"{len(text) - end} characters after the record")
    return Record(file=file, at=at, value=value, fault=json_reader.fault)


def open_data(path: Path) -> BinaryIO:
    """Open a regular file. Whatever else has that name (a directory, a pipe that never answers) is refused."""
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: found no regular file, expected JSON or JSONL", reason="file_unreadable")
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such data file; check the path", reason="file_missing") from None
    except (OSError, ValueError):  # ValueError: a path with a NUL
        raise DataError(f"{path}: cannot be opened; check its permissions", reason="file_unreadable") from None


_Item = tuple[int, int, int, object, SampleError | None]
"""First byte, the byte after the last, line, value, fault."""


def _lines(window: Window) -> Iterator[_Item]:
    """JSONL: values up to the end of the file, blank lines between them allowed."""
    while window.peek():
        yield window.take()


def _list_elements(window: Window) -> Iterator[_Item]:
    """One JSON list: elements between commas, nothing after the closing bracket."""
    window.skip()
    if window.peek() == "]":
        return
    while True:
        window.peek()
        yield window.take()
        mark = window.peek()
        if not mark:
            raise window.truncated()
        if mark not in ",]":
            raise window.error("json_invalid", 'found text between two samples, expected "," or "]"')
        window.skip()
        if mark == "]":
            break
    if window.peek():
        raise window.error(
            "json_invalid", "found text after the end of the list; keep one list, or one sample per line"
        )


class Window:
    """The stretch of the file that is in memory. `text[at:]` is yet to be read; `text[at]` is at `byte`, in `line`."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.text, self.at, self.line = "", 0, 1
        self.ended = False
        self._file = file
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._json = _StrictJSON()
        self._grow()
        self.byte = 0
        if self.text.startswith("\ufeff"):  # a byte order mark, as Windows editors leave it
            self._advance(1)

    def peek(self) -> str:
        """Go past white space; the character found there, or "" at the end of the file."""
        while True:
            blank = _BLANK.match(self.text, self.at)
            assert blank is not None
            self._advance(blank.end())
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._grow()

    def skip(self) -> None:
        """Go past one character, which is no line end."""
        self._advance(self.at + 1)

    def take(self) -> _Item:
        """Read the JSON value at `at`: its line, the value, and its fault if it has one."""
        while True:
            try:
                value, end = self._json.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                # What looks broken may only be cut by the end of the window.
                if self.ended or len(self.text) - self.at > MAX_RECORD_CHARS:
                    raise self._broken(error) from None
            except RecursionError:
                raise self.error("json_too_deep", "found brackets nested too deeply, expected a sample") from None
            except ValueError:
                # Python converts no decimal number of more than 4300 digits.
                raise self.error("json_invalid", "found a number with thousands of digits, expected a sample") from None
            else:
                if end - self.at > MAX_RECORD_CHARS:
                    raise self._too_long()
                if end < len(self.text) or self.ended:
                    start, line = self.byte, self.line
                    self._advance(end)
                    return start, self.byte, line, value, self._json.fault
            self._grow()

    def error(self, reason: str, words: str) -> DataError:
        return FileError(self.name, self.line, words, reason=reason)

    def truncated(self) -> DataError:
        words = f"the file ends inside the sample that starts at byte {self.byte}; write it again, or drop what follows"
        return self.error("json_truncated", f"{words} byte {self.byte}")

    def _too_long(self) -> DataError:
        return self.error(
            "sample_too_long", f"found a sample of more than {MAX_RECORD_CHARS} characters; check the file"
        )

    def _broken(self, error: json.JSONDecodeError) -> DataError:
        """Cut off, too long, or plainly wrong: told apart by where the decoder gave up."""
        tail = self.text.rstrip()
        unfinished = len(tail) - error.pos < len("-Infinity") and not tail.endswith(("]", "}"))
        if unfinished or error.pos >= len(tail) or error.msg.startswith("Unterminated string"):
            return self.truncated() if self.ended else self._too_long()
        line = self.line + self.text.count("\n", self.at, error.pos)
        column = error.pos - self.text.rfind("\n", 0, error.pos)
        return self.error(
            "json_invalid", f"not JSON: {error.msg.lower()} at line {line}, column {column}; mend it or write it again"
        )

    def _advance(self, end: int) -> None:
        passed = self.text[self.at : end]
        self.line += passed.count("\n")
        self.byte += len(passed) if passed.isascii() else len(passed.encode())
        self.at = end

    def _grow(self) -> None:
        """Forget what was read; read as much again as is left, so that a long record costs a logarithm of reads."""
        rest = self.text[self.at :]
        wanted = max(CHUNK_BYTES, len(rest))
        raw = self._file.read(wanted)
        self.ended = len(raw) < wanted
        try:
            self.text, self.at = rest + self._utf8.decode(raw, final=self.ended), 0
        except UnicodeDecodeError as error:
            line = self.line + rest.count("\n") + error.object[: error.start].count(b"\n")
            words = "found bytes that are not UTF-8; save the file as UTF-8"
            raise FileError(self.name, line, words, reason="not_utf8") from None


class _StrictJSON:
    """`json` without its two leniencies: it keeps the last of two equal keys, and it reads NaN and Infinity."""

    def __init__(self) -> None:
        self.fault: SampleError | None = None
        self._json = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant)

    def decode(self, text: str, start: int) -> tuple[object, int]:
        """The value at `start` and where it ends; `fault` then holds what was wrong with it, or None."""
        self.fault = None
        return self._json.raw_decode(text, start)

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            self.fault = SampleError(
                ascii(twice)[1:-1][:60], "json_duplicate_key", found="this key twice", expected="once", fix="keep one"
            )
        return value

    def _constant(self, name: str) -> None:
        self.fault = SampleError(
            "", "json_not_finite", found=name, expected="a finite number", fix="write a number or null"
        )
