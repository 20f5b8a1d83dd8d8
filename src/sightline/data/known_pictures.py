"""Which pictures are the same files as pictures of an evaluation.

Comes in: folders, names of pictures. Goes out: digests to compare. Only files of a size that occurs among the known
ones are read. The same picture saved anew has other bytes, and is not recognised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sightline.data.crew import Crew
from sightline.data.image import image_file_size, read_image_file
from sightline.errors import DataError

CHUNK = 256
"""Pictures of a task that are hashed."""


def known_pictures(folders: Sequence[Path], crew: Crew[Any]) -> dict[bytes, str]:
    """Size and SHA-256 of every file below the folders -> its path. The size comes first, in eight bytes."""
    known: dict[bytes, str] = {}
    for folder in folders:
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        for name, digest in zip(names, digests(names, folder, None, crew), strict=True):
            known.setdefault(digest, f"{folder}/{name}")
    known.pop(b"", None)
    return known


def digests(names: Sequence[str], root: Path, known: frozenset[bytes] | None, crew: Crew[Any]) -> Iterator[bytes]:
    """Size and SHA-256 of pictures; b"" for one that cannot be read, or has the size of none that is known."""
    sizes = None if known is None else frozenset(digest[:8] for digest in known)
    chunks = (names[start : start + CHUNK] for start in range(0, len(names), CHUNK))
    for _, found in crew.map(_hash, ((root, chunk, sizes) for chunk in chunks)):
        yield from found


def _hash(_: object, task: tuple[Path, Sequence[str], frozenset[bytes] | None]) -> list[bytes]:
    root, names, sizes = task
    found = []
    for name in names:
        digest = b""
        try:
            size = image_file_size(name, root=root).to_bytes(8, "big")
            if sizes is None or size in sizes:
                digest = size + hashlib.sha256(read_image_file(name, root=root)).digest()
        except DataError:  # said elsewhere, or no picture of the evaluation
            pass
        found.append(digest)
    return found
