"""The first sheet of an xlsx file as rows of text, such as what is uploaded to MMBench's server.

Comes in: a path. Goes out: a list of dicts under the heading's names. An xlsx file is a zip of XML (ECMA-376, part 1,
section 18): this reads texts and numbers of cells, and neither formulas nor formats.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from sightline.errors import DataError

SPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
LARGEST = 2**30
"""Bytes that a part of the file may unpack to."""


def read_sheet(path: Path) -> list[dict[str, str]]:
    """The rows below the first one, under its names; empty cells are empty texts.

    Raises:
        DataError: it is no xlsx file, or its sheet is empty.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            sheets = sorted(name for name in names if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name))
            if not sheets:
                raise DataError(f"{path}: no sheet in it; expected an xlsx file", reason="file_invalid")
            shared = _shared(archive) if "xl/sharedStrings.xml" in names else []
            rows = _rows(_part(archive, sheets[0]), shared)
    except (zipfile.BadZipFile, ElementTree.ParseError, IndexError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: not a whole xlsx file ({error})", reason="file_invalid") from error
    if not rows:
        raise DataError(f"{path}: its first sheet is empty", reason="no_answers")
    heading = rows[0]
    return [{name: row.get(column, "") for column, name in heading.items()} for row in rows[1:]]


def _part(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if archive.getinfo(name).file_size > LARGEST:
        raise ValueError(f"{name} is larger than {LARGEST} bytes")
    return ElementTree.fromstring(archive.read(name))


def _shared(archive: zipfile.ZipFile) -> list[str]:
    return [_text(item) for item in _part(archive, "xl/sharedStrings.xml").iter(f"{SPACE}si")]


def _text(item: ElementTree.Element) -> str:
    """All runs of a rich text, but not the phonetic ones (`rPh`)."""
    parts = [part.text or "" for part in item.findall(f"{SPACE}t")]
    parts += [part.text or "" for run in item.findall(f"{SPACE}r") for part in run.findall(f"{SPACE}t")]
    return "".join(parts)


def _rows(sheet: ElementTree.Element, shared: list[str]) -> list[dict[str, str]]:
    """Each row: the column's letters, and its text."""
    found = []
    for row in sheet.iter(f"{SPACE}row"):
        cells: dict[str, str] = {}
        for position, cell in enumerate(row.findall(f"{SPACE}c")):
            column = re.sub(r"\d", "", cell.get("r", "")) or str(position)
            cells[column] = _cell(cell, shared)
        if any(cells.values()):
            found.append(cells)
    return found


def _cell(cell: ElementTree.Element, shared: list[str]) -> str:
    kind = cell.get("t")
    if kind == "inlineStr":
        inline = cell.find(f"{SPACE}is")
        return "" if inline is None else _text(inline)
    value = cell.findtext(f"{SPACE}v", default="")
    if kind == "s":
        return shared[int(value)]
    if kind is None and re.fullmatch(r"-?\d+\.0+", value):  # an id that was kept as a float
        return value.partition(".")[0]
    return value
