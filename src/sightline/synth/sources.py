"""Where contexts come from: the formats, and which one a path holds.

Comes in: a path and perhaps the name of its format. Goes out: a `Source`. What a file is, its content decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from sightline.data.reading import read_records
from sightline.data.values import show
from sightline.errors import ConfigError, DataError, nearest
from sightline.synth.source import Place, Source
from sightline.synth.source_coco import read_coco, splits_of
from sightline.synth.source_contexts import read_contexts
from sightline.synth.source_flickr import read_flickr
from sightline.synth.source_genome import read_genome


class Reader(Protocol):
    def __call__(self, path: Path, *, images: Path | None, split: str | None) -> Source: ...


FORMATS: dict[str, Reader] = {
    "coco": read_coco,
    "genome": read_genome,
    "flickr30k": read_flickr,
    "contexts": read_contexts,
}


def read_source(
    path: Path, *, format: str | None = None, images: Path | None = None, split: str | None = None
) -> Source:
    """All contexts of a path.

    Args:
        format: a key of `FORMATS`; None to look.
        images: the folder of the pictures: their headers tell sizes that annotations lack.
        split: for COCO's folders with several, such as `train2017`.

    Raises:
        ConfigError: the path or the format is not there, or nothing tells which it is.
        DataError: a file is not what it should be; the message names file and line or key.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder; give annotations, such as COCO's folder `annotations`")
    if format is not None and format not in FORMATS:
        raise ConfigError(f"--format: found {format!r}, expected {', '.join(FORMATS)}{nearest(format, FORMATS)}")
    found = format or recognise(path)
    source = FORMATS[found](path, images=images, split=split)
    if not source.contexts:
        raise DataError(f"{path}: no captions and no boxes in it; expected {found} annotations", reason="source_empty")
    seen = Counter(context.id for context in source.contexts)
    twice = next((identity for identity, count in seen.items() if count > 1), None)
    if twice is not None:
        raise DataError(
            f"{path}: id {twice!r} stands there {seen[twice]} times; give each picture its own", reason="id_duplicate"
        )
    return source


def recognise(path: Path) -> str:
    """The format of a path, by what is in it."""
    if path.is_dir():
        if (path / "Sentences").is_dir():
            return "flickr30k"
        if any((path / name).is_file() for name in ("region_descriptions.json", "objects.json")):
            return "genome"
        if splits_of(path):
            return "coco"
        raise ConfigError(
            f"{path}: none of captions_*.json, instances_*.json (COCO), region_descriptions.json, objects.json (Visual "
            "Genome), Sentences/ (Flickr30k Entities) in it; name the file or folder, or --format"
        )
    first = _first_record(path)
    if "instances" in first or ("captions" in first and "image" in first):
        return "contexts"
    if "annotations" in first and "images" in first:
        return "coco"
    if "regions" in first or "objects" in first:
        return "genome"
    raise ConfigError(f"{path}: found keys {show(sorted(first))}, which are of no known format; name it with --format")


def _first_record(path: Path) -> Mapping[str, Any]:
    """The first object of a file. COCO's files are one object, too long for a reader of samples: their head tells."""
    with path.open("rb") as file:
        head = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    coco = any(key in head for key in (b'"annotations"', b'"images"', b'"licenses"', b'"info"'))
    if head.startswith(b"{") and coco and b'"instances"' not in head:
        return {"annotations": [], "images": []}
    record = next(iter(read_records(path)))
    if not isinstance(record.value, dict):
        raise Place(file=record.place).error(record.value, "an object {...}")
    return record.value
