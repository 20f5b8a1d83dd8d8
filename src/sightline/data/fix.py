"""The clean samples of checked files, and beside them the others.

Comes in: what `checks` found. Goes out: for each data file one with the samples that have no problem, and one with the
rest, each whole or absent. Samples keep their bytes (in Parquet, which has no bytes of a row, their values) and order.
Changes no file that it read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from sightline.atomic import replacing
from sightline.data.checks import FileFindings, Findings
from sightline.data.parquet_file import ParquetFile, copy_rows
from sightline.data.reading import Place
from sightline.data.tar_file import END_OF_TAR, TarFile
from sightline.errors import ConfigError

CHUNK = 2**20
"""Bytes that are copied at once: a sample of a tar is as large as its pictures."""


def write_fixed(findings: Findings, out: Path, *, say: Callable[[str], None]) -> list[Path]:
    """Writes clean and rejected samples; the paths that were written.

    Args:
        out: for one data file the name of the clean one; the rejected samples go to `NAME.rejected.jsonl` beside it.
            For several a folder for files of the same names, and `OUT.rejected` beside it. Tars stay tars, and Parquet
            stays Parquet.
        say: told where a file has no clean sample: none is written.

    Raises:
        ConfigError: it would write over what it reads.
    """
    single = len(findings.files) == 1
    written: list[Path] = []
    for each in findings.files:
        if each.file is None:
            continue  # it could not even be opened
        clean = out if single else out / each.path.name
        kind = each.path.suffix if isinstance(each.file, ParquetFile | TarFile) else ".jsonl"
        folder = out.parent if single else out.with_name(f"{out.name}.rejected")
        rejected = folder / f"{clean.stem}.rejected{kind}"
        for target in (clean, rejected):
            if target.resolve() == each.file.path.resolve():
                raise ConfigError(f"--fix: {target} is the data itself; give another name")
        good = [number for number in range(len(each)) if number not in each.bad]
        if not good:
            say(f"{each.path}: no clean sample, so {clean} is not written")
        for target, numbers in ((rejected, sorted(each.bad)), (clean, good)):
            broken = each.broken_at if target == rejected else None
            if numbers or broken is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target) as temporary:
                    _write(temporary, each, numbers, listed=each.listed and target == clean, rest=broken)
                written.append(target)
            else:
                target.unlink(missing_ok=True)  # of an earlier fix
    return written


def _write(path: Path, found: FileFindings, numbers: Iterable[int], *, listed: bool, rest: int | None) -> None:
    """Some of a file's records; `rest`: and all bytes from there on."""
    assert found.file is not None
    if isinstance(found.file, ParquetFile):
        copy_rows(found.file, path, {found.place(number).start for number in numbers})
        return
    places = (found.place(number) for number in numbers)
    start, between, end = (b"[\n", b",\n", b"\n]\n") if listed else (b"", b"\n", b"\n")
    if isinstance(found.file, TarFile):
        start, between, end = b"", b"", END_OF_TAR
    broken = () if rest is None else (Place(rest, found.file.state[0], 0, None),)
    with path.open("wb") as file:
        file.write(start)
        for number, place in enumerate(chain(places, broken)):
            file.write(between if number else b"")
            _copy(found, place, file)
        file.write(end)


def _copy(found: FileFindings, place: Place, file: BinaryIO) -> None:
    assert found.file is not None
    for part in _stretches(place):
        file.write(found.file.raw(part))


def _stretches(place: Place) -> Iterator[Place]:
    for start in range(place.start, place.end, CHUNK):
        yield place._replace(start=start, end=min(place.end, start + CHUNK))
