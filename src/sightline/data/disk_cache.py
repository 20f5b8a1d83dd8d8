"""Arrays that were expensive to make, kept on disk for the next time.

Comes in: arrays under a key that says all that they depend on. Goes out: the same arrays, or None. What is damaged,
cut short or of another version counts as not there; nothing here ever fails: a disk that takes nothing costs time only.

The files lie in `checks` below `$SIGHTLINE_CACHE`, or else below `sightline` in `$XDG_CACHE_HOME` or in `~/.cache`;
who has no home has no cache. They may be deleted at any time. Each is a SHA-256 and the safetensors bytes that it is
of. Together they take `LIMIT` at most: those that were not used for longest go first.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sightline.atomic import write_atomic

VARIABLE = "SIGHTLINE_CACHE"
LIMIT = 4 * 2**30
"""Bytes of all files; the index of a million samples takes about 100 MB."""

WORTH_KEEPING = 4096
"""Samples, or pictures, from which on what was found about them is kept: fewer are checked again within seconds."""

Arrays = Mapping[str, npt.NDArray[Any]]


@functools.cache
def code_mark() -> str:
    """Stands for all code that decides about samples and pictures: another version of it decides anew."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    libraries = [f"{name} {version(name)}" for name in ("tokenizers", "transformers", "pillow")]
    return f"{digest.hexdigest()} {' '.join(libraries)}"


def cache_directory() -> Path | None:
    """Where the files lie, if they can lie anywhere; it need not exist."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]) / "checks"
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "sightline" / "checks" if base.is_absolute() else None


def key_of(**ingredients: object) -> str:
    """The key of what depends on these, which JSON can write: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def recall(kind: str, key: str) -> Arrays | None:
    """What `keep` has kept under this name, if it is there and whole."""
    directory = cache_directory()
    if directory is None:
        return None
    path = directory / f"{kind}-{key}"
    try:
        raw = path.read_bytes()
        if hashlib.sha256(memoryview(raw)[32:]).digest() != raw[:32]:
            return None
        os.utime(path)
        found: Arrays = load(raw[32:])
    except (OSError, SafetensorError):
        return None
    return found


def keep(kind: str, key: str, arrays: Arrays) -> None:
    """Keeps arrays for `recall`. A reader sees the old file or the new one; a process killed in here harms nothing."""
    directory = cache_directory()
    if directory is None:
        return
    payload = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(directory / f"{kind}-{key}", hashlib.sha256(payload).digest() + payload)
        _make_room(directory)


def _make_room(directory: Path) -> None:
    """Deletes what was not used for longest, unfinished files of killed processes among it."""
    known = [(path, path.stat()) for path in directory.iterdir() if path.is_file()]
    total = sum(state.st_size for _, state in known)
    for path, state in sorted(known, key=lambda each: each[1].st_mtime):
        if total <= LIMIT:
            return
        path.unlink(missing_ok=True)
        total -= state.st_size
