"""LLaVA-1.5's mixture of 665,298 samples, from the parts at hand.

Comes in: a folder with the official files, each dataset's in a folder of its own or all in one. Goes out: one file, and
for each part how many samples it has beside how many are published. Knows nothing of how a dataset is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from sightline.convert.core import Tally, stream, write_samples
from sightline.convert.dialogue import Item
from sightline.convert.source import Source
from sightline.errors import DataError

MIXTURE = "llava-665k"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A line of the published table: the datasets that it is made of, its samples, how many dialogues are drawn."""

    name: str
    published: int
    formats: tuple[str, ...]
    sample: int | None = None


PARTS = (
    Part(name="LLaVA-Instruct", published=157_712, formats=("llava-instruct",)),
    Part(name="ShareGPT", published=40_688, formats=("sharegpt",)),
    Part(name="VQAv2", published=82_783, formats=("vqav2",)),
    Part(name="GQA", published=72_140, formats=("gqa",)),
    Part(name="OK-VQA", published=8_998, formats=("okvqa",)),
    Part(name="OCR-VQA", published=80_000, formats=("ocrvqa",), sample=80_000),
    Part(name="A-OKVQA", published=66_160, formats=("aokvqa",)),
    Part(name="TextCaps", published=21_953, formats=("textcaps",)),
    Part(name="RefCOCO", published=48_447, formats=("refcoco", "refcoco+", "refcocog")),
    Part(name="Visual Genome", published=86_417, formats=("vg",)),
)
"""The table of LLaVA-1.5's mixture: haotian-liu/LLaVA issue 702, a maintainer's count. The sum is 665,298.

OCR-VQA is drawn to 80,000 there, and Visual Genome to 10 regions a picture (arXiv 2310.03744, A.2).
"""


@dataclass(kw_only=True, slots=True)
class Line:
    """What a part came to: its tally, and which datasets of it are not there, with the words for it."""

    part: Part
    tally: Tally = field(default_factory=Tally)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def difference(self) -> int:
        return self.tally.samples - self.part.published

    def as_json(self) -> dict[str, object]:
        counts = {"published": self.part.published, "difference": self.difference, "missing": self.missing}
        return {"part": self.part.name, **counts, **self.tally.as_json()}

    def line(self) -> str:
        if len(self.missing) == len(self.part.formats):
            state = "missing"
        elif self.missing:
            state = f"without {', '.join(self.missing)}"
        else:
            state = "as published" if self.difference == 0 else f"{self.difference:+,} against the published count"
        return f"{self.part.name:<14} {self.tally.samples:>9,} of {self.part.published:>9,}  {state}"


def report_json(lines: list[Line]) -> dict[str, object]:
    """The table with its sums."""
    samples, published = _sums(lines)
    return {"samples": samples, "published": published, "parts": [line.as_json() for line in lines]}


def report_lines(lines: list[Line]) -> list[str]:
    """The same for people: what is missing, and what was left out, below each part."""
    told = []
    for line in lines:
        told += [line.line(), *(f"  {words}" for words in (*line.missing.values(), *line.tally.lines()[1:]))]
    samples, published = _sums(lines)
    return [*told, f"{'together':<14} {samples:>9,} of {published:>9,}"]


def _sums(lines: list[Line]) -> tuple[int, int]:
    return sum(line.tally.samples for line in lines), sum(line.part.published for line in lines)


def write_mixture(root: Path, path: Path, *, seed: int, images: Path | None) -> list[Line]:
    """Writes what is there of the mixture, in the table's order.

    Raises:
        DataError: as `stream` for a part whose files are there; no part is.
    """
    lines = [Line(part=part) for part in PARTS]
    sources: list[Source] = []

    def streams() -> Iterator[tuple[Tally, Iterator[Item]]]:
        for line in lines:
            for name in line.part.formats:
                source = Source(_folder(root, name, flat=len(line.part.formats) == 1))
                sources.append(source)
                items = stream(name, source, {"seed": seed}, sample=line.part.sample, images=images)
                found = _begun(line, name, items)
                if found is not None:
                    yield line.tally, found

    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; name the one with the official files", reason="file_missing")
    write_samples(path, streams(), sources)
    return lines


def _folder(root: Path, name: str, *, flat: bool) -> Path:
    """The dataset's own folder. Without one: all files lie together, which RefCOCO's three cannot."""
    own = root / name
    return own if own.is_dir() or not flat else root


def _begun(line: Line, name: str, items: Iterator[Item]) -> Iterator[Item] | None:
    """The stream from its first item on; None, and a word in `line`, when the dataset's files are not there."""
    try:
        first = next(items, None)
    except DataError as error:
        if error.reason != "file_missing":
            raise
        line.missing[name] = str(error)
        return None
    return chain([] if first is None else [first], items)
