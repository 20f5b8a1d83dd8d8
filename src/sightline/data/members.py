"""The entries of one large JSON document, as public datasets come: one at a time and in bounded memory.

Comes in: a path, and the top-level keys whose entries are meant. Goes out: `Member`s. Where `reading` lets one bad
record pass, here the first trouble ends it: such a file is used whole or not at all. Reasons as in `reading`, and
`json_key_missing`. Knows nothing of what an entry means.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from sightline.data.reading import Window, open_data
from sightline.errors import DataError


class Member(NamedTuple):
    """An entry of a list or object: its number or name, where it starts, and the top-level key that it stands under.

    `section` is "" where the document itself is the list or object.
    """

    section: str
    key: str | int
    line: int
    value: object


class _Document(Window):
    def truncated(self) -> DataError:
        words = f"the file ends inside the entry that starts at byte {self.byte}; download or write it again"
        return self.error("json_truncated", words)


def read_members(path: Path, sections: Collection[str] = ()) -> Iterator[Member]:
    """The entries of one JSON document, in its order and in bounded memory.

    Args:
        sections: keys of the top-level object, whose lists or objects hold the entries; all others are passed over.
            None named: the entries of the document itself.

    Raises:
        DataError: as `read_records`, at the first trouble of an entry too; or a section is not there.
    """
    with open_data(path) as file:
        window = _Document(file, str(path))
        first = window.peek()
        if first not in (("{",) if sections else ("[", "{")):
            found = f"{first!r} at the start" if first else "nothing"
            wanted = f"an object with {' and '.join(sections)}" if sections else "a JSON list or object"
            raise window.error("json_invalid", f"found {found}, expected {wanted}; check that it is the right file")
        yield from _sections(window, sections) if sections else _entries(window, "")
        if window.peek():
            raise window.error("json_invalid", "found text after the end of the document; write the file again")


def _sections(window: Window, wanted: Collection[str]) -> Iterator[Member]:
    """The entries below the wanted keys of the object that starts here."""
    found = []
    for section in map(str, _keys(window)):
        found.append(section)
        if window.peek() in ("[", "{"):
            yield from (entry for entry in _entries(window, section) if section in wanted)
        else:
            window.take()
    missing = [section for section in wanted if section not in found]
    if missing:
        words = f"found no key {missing[0]!r}, only {', '.join(found)[:200] or 'nothing'}"
        raise DataError(f"{window.name}: {words}; check that it is the right file", reason="json_key_missing")


def _entries(window: Window, section: str) -> Iterator[Member]:
    """The entries of the list or object that starts here."""
    for key in _keys(window):
        window.peek()
        _, _, line, value, fault = window.take()
        if fault is not None:
            raise DataError(f"{window.name}:{line}: {section or 'entry'} {key}: {fault}", reason=fault.reason)
        yield Member(section, key, line, value)


def _keys(window: Window) -> Iterator[str | int]:
    """The numbers or names of the entries of the list or object that starts here; it stops before the value of each.

    Whoever asks for the next one has read that value.
    """
    opening = window.peek()
    closing = {"[": "]", "{": "}"}[opening]
    names: set[str] = set()
    mark = ","
    window.skip()
    if window.peek() == closing:
        mark = closing
    number = 0
    while mark == ",":
        if number:
            window.skip()
        yield _name(window, names) if opening == "{" else number
        number += 1
        mark = window.peek()
        if not mark:
            raise window.truncated()
        if mark not in (",", closing):
            raise window.error("json_invalid", f'found text between two entries, expected "," or "{closing}"')
    window.skip()


def _name(window: Window, names: set[str]) -> str:
    """Reads `"name":`, a name that is not yet among `names`."""
    window.peek()
    _, _, line, name, _ = window.take()
    if not isinstance(name, str) or window.peek() != ":":
        raise window.error("json_invalid", 'found no "name": before a value; write the file again')
    if name in names:
        raise DataError(f"{window.name}:{line}: found the key {name[:60]!r} twice", reason="json_duplicate_key")
    names.add(name)
    window.skip()
    return name
