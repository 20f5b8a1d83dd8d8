"""Official files: where they are, and their entries with every field checked.

Comes in: the folder or file that the user named, the names that datasets are downloaded with. Goes out: `Row`s, or
`DataError` with file, line and key. Knows nothing of what a dataset means.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NoReturn, TypeGuard

from sightline.data.members import read_members
from sightline.data.reading import open_data, read_records
from sightline.data.values import show
from sightline.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """An object in a file: its place for messages, its number or name, the top-level key that it stands under."""

    place: str
    key: str
    section: str
    value: dict[str, object]

    def text(self, key: str) -> str:
        value = self._required(key)
        return value if isinstance(value, str) else self._refuse(key, value, "a text")

    def optional_text(self, key: str) -> str:
        """A text, or "" where it is null or not there."""
        return "" if self.value.get(key) is None else self.text(key)

    def integer(self, key: str) -> int:
        value = self._required(key)
        return value if _is_integer(value) else self._refuse(key, value, "a whole number")

    def name(self, key: str) -> str:
        """An id: a text that is not blank, or a whole number as text."""
        value = self._required(key)
        if _is_integer(value):
            return str(value)
        return value.strip() if isinstance(value, str) and value.strip() else self._refuse(key, value, "a name")

    def side(self, key: str) -> int:
        """Width or height of a picture, in pixels."""
        value = self.integer(key)
        return value if value > 0 else self._refuse(key, value, "a number of pixels")

    def numbers(self, key: str, count: int) -> tuple[Fraction, ...]:
        value = self._required(key)
        if not isinstance(value, list) or len(value) != count or not all(_is_number(item) for item in value):
            self._refuse(key, value, f"{count} numbers")
        return tuple(Fraction(item) for item in value)

    def texts(self, key: str) -> list[str]:
        value = self._required(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._refuse(key, value, "a list of texts")
        return value

    def rows(self, key: str) -> list[Row]:
        value = self._required(key)
        if not isinstance(value, list):
            self._refuse(key, value, "a list of objects")
        return [row_of(f"{self.place}: {key}[{number}]", str(number), key, item) for number, item in enumerate(value)]

    def _required(self, key: str) -> object:
        if key not in self.value:
            keys = ", ".join(self.value)[:200] or "nothing"
            raise _wrong(f"{self.place}: found no key {key!r}, only {keys}", "json_key_missing")
        return self.value[key]

    def _refuse(self, key: str, value: object, expected: str) -> NoReturn:
        raise _wrong(f"{self.place}: {key}: found {show(value)}, expected {expected}", "field_invalid")


@dataclass(frozen=True, slots=True)
class Source:
    """The folder with a dataset's official files, or one file of it."""

    root: Path
    used: list[Path] = field(default_factory=list)
    """What was asked for so far: nobody may write there."""

    @property
    def folder(self) -> Path:
        return self.root.parent if self.root.is_file() else self.root

    def file(self, *names: str) -> Path:
        """The first of the names that is in the folder, or beside the named file."""
        found = self.find(*names)
        if found is None:
            raise self.missing(*names)
        return found

    def find(self, *names: str) -> Path | None:
        """As `file`, or None."""
        found = next((self.folder / name for name in names if (self.folder / name).is_file()), None)
        self.used.extend([found] if found else [])
        return found

    def main(self, *names: str) -> Path:
        """The named file whatever it is called, or the first of the names in the folder."""
        if not self.root.is_file():
            return self.file(*names)
        self.used.append(self.root)
        return self.root

    def missing(self, *names: str, fix: str = "check the folder and --split") -> DataError:
        if self.folder.is_dir():
            there = sorted(path.name for path in self.folder.iterdir() if path.name[0] != ".")
            held = f"it holds {', '.join(there[:5])[:200] or 'nothing'}"
        else:
            held = "there is no such folder"
        words = f"{self.folder}: found no {' or '.join(names)}; {held}; {fix}"
        return DataError(words, reason="file_missing")


def rows(path: Path, sections: Collection[str] = ()) -> Iterator[Row]:
    """The objects of a JSON document, or below these keys of it; see `read_members`."""
    for section, key, line, value in read_members(path, sections):
        yield row_of(f"{path}:{line}: {section or 'entry'} {key}", str(key), section, value)


def samples(path: Path) -> Iterator[Row]:
    """The objects of a JSON list or JSONL file."""
    for number, record in enumerate(read_records(path)):
        if record.fault is not None:
            raise DataError(f"{record.place}: {record.fault}", reason=record.fault.reason)
        yield row_of(record.place, str(number), "", record.value)


def columns(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines of a table with tabs, as (place, columns). Blank lines are none."""
    with open_data(path) as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                words = "found bytes that are not UTF-8; save the file as UTF-8"
                raise DataError(f"{path}:{number}: {words}", reason="not_utf8") from None
            if line.strip():
                yield f"{path}:{number}", line.split("\t")


def row_of(place: str, key: str, section: str, value: object) -> Row:
    """An entry that is an object; anything else is refused."""
    if not isinstance(value, dict):
        raise _wrong(f"{place}: found {show(value)}, expected an object", "field_invalid")
    return Row(place, key, section, value)


def _wrong(words: str, reason: str) -> DataError:
    return DataError(f"{words}; check that it is this dataset's official file", reason=reason)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
