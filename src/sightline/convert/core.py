"""From what converters found to a file that trains: checked, drawn, numbered, counted, and written whole or not at all.

Comes in: dialogues and what was left out. Goes out: LLaVA JSON, and a `Tally` of it. Every sample that is written has
been accepted by the project's own reader. Knows nothing of any dataset.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sightline.atomic import new_file
from sightline.convert.catalogue import FORMATS
from sightline.convert.dialogue import Dialogue, Item, LeftOut, drawn, llava_sample
from sightline.convert.source import Source
from sightline.data.ids import Ids, numbered
from sightline.data.parsing import parse_sample
from sightline.data.reading import Place, Record, SampleError
from sightline.errors import DataError, StorageError, nearest

Given = Mapping[str, str | int | None]


@dataclass(kw_only=True, slots=True)
class Tally:
    """What became of the units of the official files (see `dialogue`), and where the first of each reason stands."""

    samples: int = 0
    turns: int = 0
    used: int = 0
    pictures: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    @property
    def units(self) -> int:
        return self.used + self.left_out.total()

    def leave(self, item: LeftOut) -> None:
        self.left_out[item.reason] += item.units
        self.first.setdefault(item.reason, item.place)

    def keep(self, made: Dialogue) -> None:
        self.samples += 1
        self.turns += len(made.turns)
        self.used += made.units
        if made.image is not None:
            self.pictures.add(made.image)

    def as_json(self) -> dict[str, object]:
        reasons = {name: {"count": count, "first": self.first[name]} for name, count in self.left_out.most_common()}
        counts = {"samples": self.samples, "pictures": len(self.pictures), "exchanges": self.turns}
        return {**counts, "units": self.units, "used": self.used, "left_out": reasons}

    def lines(self) -> list[str]:
        """The same for people."""
        made = f"{self.samples} samples about {len(self.pictures)} pictures, {self.turns} exchanges"
        told = [f"{made}; {self.used} of {self.units} units used"]
        told += [f"left out: {count} {name}, first {self.first[name]}" for name, count in self.left_out.most_common()]
        return told


def stream(
    name: str,
    source: Source,
    given: Given,
    *,
    sample: int | None = None,
    images: Path | None = None,
) -> Iterator[Item]:
    """What the dataset `name` holds, checked; of `sample` dialogues drawn by the seed the file is read twice.

    Raises:
        ConfigError: an option that the dataset does not take.
        DataError: there is no such dataset, an official file is missing, or one is not what its name says.
    """
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise DataError(f"found {name!r}, expected one of {known}{nearest(name, FORMATS)}", reason="format_unknown")
    options = FORMATS[name].options(name, given)

    def read() -> Iterator[Item]:
        yield from _usable(FORMATS[name].read(source, options), images)

    return read() if sample is None else _drawn(read, sample, f"sample/{options.seed}")


def write_samples(path: Path, streams: Iterable[tuple[Tally, Iterator[Item]]], sources: Iterable[Source]) -> None:
    """Writes a JSON list, or JSONL by the name's ending, a sample a line; ids that repeat get numbers.

    Raises:
        DataError: as the streams; nothing is left to write; the path is one of the official files.
        StorageError: the file cannot be written. Whatever was there before is as it was.
    """
    if path.is_dir() or not path.parent.is_dir():
        found = "is a folder" if path.is_dir() else f"lies in {path.parent}, which is no folder"
        raise DataError(f"{path}: {found}; name a file to write, such as train.json", reason="path_invalid")
    ids, tallies, lines = Ids(number_repeated=True), [], path.suffix == ".jsonl"
    try:
        with new_file(path) as file:
            written = 0
            for tally, items in streams:
                tallies.append(tally)
                for made in _counted(items, tally):
                    identity = numbered(made.id, ids.claim(made.id, place=""))
                    line = json.dumps(llava_sample(made, identity), ensure_ascii=False)
                    before = "" if lines else (",\n" if written else "[\n")
                    file.write((before + line + ("\n" if lines else "")).encode())
                    written += 1
            if not written:
                raise _nothing(tallies, sources)
            file.write(b"" if lines else b"\n]\n")
            taken = next((used for source in sources for used in source.used if _same(used, path)), None)
            if taken is not None:
                raise DataError(f"{path}: is the official file {taken}; name another one", reason="path_invalid")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}; make room or name another file") from error


def _counted(items: Iterator[Item], tally: Tally) -> Iterator[Dialogue]:
    for item in items:
        if isinstance(item, LeftOut):
            tally.leave(item)
        else:
            tally.keep(item)
            yield item


def _usable(items: Iterator[Item], images: Path | None) -> Iterator[Item]:
    """Dialogues that the reader accepts and whose pictures are there, the others as left out."""
    for item in items:
        if isinstance(item, Dialogue) and (reason := _fault(item, images)) is not None:
            yield LeftOut(reason=reason, place=item.image or item.id, units=item.units)
        else:
            yield item


def _fault(made: Dialogue, images: Path | None) -> str | None:
    if images is not None and made.image is not None and not (images / made.image).is_file():
        return "image_missing"
    try:
        parse_sample(Record(file="", at=Place(0, 0, 0, None), value=llava_sample(made, made.id), fault=None))
    except SampleError as error:
        return error.reason
    return None


def _drawn(read: Callable[[], Iterator[Item]], wanted: int, seed: str) -> Iterator[Item]:
    """`wanted` of the dialogues, in their order."""
    kept = drawn(sum(isinstance(item, Dialogue) for item in read()), wanted, seed)
    number = 0
    for item in read():
        if isinstance(item, LeftOut):
            yield item
            continue
        chosen = number in kept
        number += 1
        yield item if chosen else LeftOut(reason="not_drawn", place=item.image or item.id, units=item.units)


def _nothing(tallies: list[Tally], sources: Iterable[Source]) -> DataError:
    found = sum((tally.left_out for tally in tallies), Counter[str]())
    empty = f"nothing is in {', '.join(str(path) for source in sources for path in source.used)}"
    reasons = ", ".join(f"{count} {reason}" for reason, count in found.most_common()) or empty
    first = next((place for tally in tallies for place in tally.first.values()), "")
    return DataError(f"no sample is left: {reasons}{first and f', first {first}'}; nothing was written", reason="empty")


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)
