"""Official files in small, and a conversion whose every sample goes through the project's own reader and renderer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.convert.core import Tally, stream, write_samples
from sightline.convert.source import Source
from sightline.data.legacy_templates import V0Template
from sightline.data.parsing import read_samples
from sightline.errors import SightlineError

Sample = dict[str, Any]


def write(folder: Path, name: str, content: object) -> Path:
    """A file: text as it is, anything else as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    return path


def converted(
    name: str, source: Path, *, sample: int | None = None, images: Path | None = None, **given: str | int | bool
) -> tuple[list[Sample], Tally]:
    """The samples that are written, as JSON has them, and the counts."""
    target = (source if source.is_dir() else source.parent) / "out" / "made.json"
    target.parent.mkdir(exist_ok=True)
    found, tally = Source(source), Tally()
    write_samples(target, [(tally, stream(name, found, given, sample=sample, images=images))], [found])
    accepted = read_samples(target)  # raises at the first sample that is refused
    for one in accepted:
        assert V0Template(eos="</s>").render(one)
    made = json.loads(target.read_text())
    assert len(made) == len(accepted) == tally.samples
    return made, tally


def refused(name: str, source: Path, **given: str | int | bool) -> str:
    """The one line with which a conversion is refused; nothing is written."""
    folder = source if source.is_dir() else source.parent
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SightlineError) as error:
        converted(name, source, **given)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return str(error.value)


def said(sample: Sample) -> list[str]:
    """All that is said, question and answer in turn."""
    assert [turn["from"] for turn in sample["conversations"]] == ["human", "gpt"] * (len(sample["conversations"]) // 2)
    return [turn["value"] for turn in sample["conversations"]]


def reasons(tally: Tally) -> dict[str, int]:
    return dict(tally.left_out)
