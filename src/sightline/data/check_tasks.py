"""A data file in pieces that several processes judge, going on behind what is broken.

Comes in: a `DataFile`. Goes out: tasks, and what each record of a task is. Of a JSONL file with one sample on each line
only the line that is broken is lost; this process does not even parse it, it looks for ends of lines. Any other file is
read in order, up to where nobody knows how it goes on.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sightline.data.data_file import DataFile, JsonFile
from sightline.data.reading import MAX_RECORD_CHARS, Place, Record, SampleError, parse_record, read_records
from sightline.errors import DataError

BLOCK = 2**18
"""Bytes of lines of a task: some hundred samples, which take some hundredths of a second."""
RECORDS = 256
"""Records of a task, where they are found by reading."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a JSONL file: bytes from `start` to `end`, the first of them line `line`; `last`: up to its end."""

    file: DataFile
    start: int
    end: int
    line: int
    last: bool

    def records(self) -> Iterator[Record]:
        """A record for each line that is not blank; what is no JSON has a fault."""
        raw = self.file.raw(Place(self.start, self.end, self.line, None))
        at = 0
        for number, text in enumerate(raw.split(b"\n")):
            stripped = text.strip(b" \t\r")
            if stripped:
                start = self.start + at + len(text) - len(text.lstrip(b" \t\r"))
                place = Place(start, start + len(stripped), self.line + number, None)
                yield _line(stripped, str(self.file.path), place, cut=self.last and at + len(text) == len(raw))
            at += len(text) + 1


@dataclass(frozen=True, slots=True)
class Places:
    """Records that were found by reading the file in order."""

    file: DataFile
    places: list[Place]

    def records(self) -> Iterator[Record]:
        """The records."""
        return map(self.file.record, self.places)


def tasks(file: DataFile, *, on_broken: Callable[[DataError], None]) -> Iterator[Lines | Places]:
    """All of a file, or all up to where it cannot be read any further: `on_broken` is told, behind the last task."""
    if isinstance(file, JsonFile) and _is_lined(file.path):
        yield from _lines(file)
        return
    places: list[Place] = []
    records = file.records()
    broken = record = None
    while True:
        try:
            record = next(records, None)
        except DataError as error:
            broken, record = error, None
        if record is not None:
            places.append(record.at)
        if places and (record is None or len(places) == RECORDS):
            yield Places(file, places)
            places = []
        if record is None:
            break
    if broken is not None:
        on_broken(broken)


def _is_lined(path: Path) -> bool:
    """Whether each line is a sample: the first one is a JSON value, or nothing that goes on for several lines."""
    with path.open("rb") as file:
        blank = itertools.takewhile(lambda line: not line.strip(), iter(lambda: file.readline(BLOCK), b""))
        skipped = sum(len(line) for line in blank)
        file.seek(skipped)
        first = file.readline(4 * MAX_RECORD_CHARS).removeprefix(_BOM).strip()
    if not first or first.startswith(b"["):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        pass
    else:
        return True
    try:
        next(read_records(path))
    except DataError:
        return first.startswith(b"{")
    return False


def _lines(file: DataFile) -> Iterator[Lines]:
    with file.path.open("rb") as opened:
        start = len(_BOM) if opened.read(len(_BOM)) == _BOM else 0
        opened.seek(start)
        line = 1
        while block := opened.read(BLOCK):
            if not block.endswith(b"\n"):
                block += opened.readline(4 * MAX_RECORD_CHARS)
            end = start + len(block)
            yield Lines(file, start, end, line, last=end >= file.state[0])
            start, line = end, line + block.count(b"\n")


def _line(raw: bytes, file: str, at: Place, *, cut: bool) -> Record:
    expected, fix = "one sample in JSON on each line", "mend the line or drop it"
    try:
        if len(raw) > MAX_RECORD_CHARS and len(raw.decode()) > MAX_RECORD_CHARS:
            found, reason = f"more than {MAX_RECORD_CHARS} characters", "sample_too_long"
        else:
            return parse_record(raw, file=file, at=at)
    except UnicodeDecodeError:
        found, reason = "bytes that are not UTF-8", "not_utf8"
    except RecursionError:
        found, reason = "brackets nested too deeply", "json_too_deep"
    except json.JSONDecodeError as error:
        found, reason = f"no JSON ({error.msg.lower()} at column {error.colno})", "json_invalid"
        if cut:
            found, reason = f"a line that breaks off (it starts at byte {at.start})", "json_truncated"
    except ValueError:
        found, reason = "more than one value, or a number with thousands of digits", "json_invalid"
    fault = SampleError("", reason, found=found, expected=expected, fix=fix)
    return Record(file=file, at=at, value=None, fault=fault)
