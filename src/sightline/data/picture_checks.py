"""Which pictures of a data set cannot be used.

Comes in: names of pictures, the folder that they lie in. Goes out: a fault for each that cannot be used. The header of
every picture is read once; what is found good is kept on disk with the file's size and its times of content and status
change (mtime, ctime: a change of permissions or a file put in its place changes these). From then on a picture is asked
for these alone, and opened again only if one differs: a picture that has vanished, was replaced, cut short or closed
is found before a step is taken. What changed and shows none of that (a disk gone bad, a clock set back) is found when
the picture is opened for a step. Faults are never kept. Opens a picture in full only where it is asked to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sightline.data import disk_cache
from sightline.data.crew import Crew
from sightline.data.disk_cache import WORTH_KEEPING, code_mark
from sightline.data.held import MARK
from sightline.data.image import check_image, open_image
from sightline.errors import DataError

CHUNK = 1024
"""Pictures of a task: their headers take some tenths of a second."""

_Stamps = npt.NDArray[np.int64]
_ABSENT, _FAULTY = -1, -2  # in place of a size

Fault = tuple[str, str]
"""The message and the reason."""


def picture_faults(names: Sequence[str], root: Path, *, crew: Crew[Any], decode: bool = False) -> dict[int, Fault]:
    """Faults by the place of the picture in `names`, see `check_image`; with `decode` see `open_image`."""
    key = disk_cache.key_of(names=list(names), root=str(root.resolve()), code=code_mark(), decoded=decode)
    worth = len(names) >= WORTH_KEEPING
    kept = disk_cache.recall("pictures", key) if worth else None
    before = np.zeros((len(names), 3), np.int64) if kept is None else kept["stamps"]
    now = _stamps(names, root)
    due = np.flatnonzero((now != before).any(axis=1) | (now[:, 0] < 0))
    faults = {}
    for places, found in _checked(names, due, root, crew, decode):
        for place, fault in zip(places, found, strict=True):
            if fault is not None:
                faults[place] = fault
    now[list(faults), 0] = _FAULTY
    if worth and len(due) > 0:
        disk_cache.keep("pictures", key, {"stamps": now})
    return faults


def _stamps(names: Sequence[str], root: Path) -> _Stamps:
    """int64[P, 3]: size in bytes, mtime and ctime in nanoseconds, taken before any header is read."""
    found = np.empty((len(names), 3), np.int64)
    base = os.fspath(root)
    for place, name in enumerate(names):
        try:
            state = _stat(f"{base}/{name}")
        except (OSError, ValueError):  # `check_image` will say why
            found[place] = _ABSENT
        else:
            found[place] = state.st_size, state.st_mtime_ns, state.st_ctime_ns
    return found


def _stat(path: str) -> os.stat_result:
    """Of a file, or of the one that it lies in, see `held`."""
    try:
        return os.stat(path)  # noqa: PTH116  a Path for each would cost more than the call
    except FileNotFoundError:
        if MARK not in path:
            raise
        return os.stat(path.partition(MARK)[0])  # noqa: PTH116


def _checked(
    names: Sequence[str], due: npt.NDArray[np.int64], root: Path, crew: Crew[Any], decode: bool
) -> Iterator[tuple[list[int], list[Fault | None]]]:
    """Places in `names` with what is found there."""
    chunks = [due[start : start + CHUNK].tolist() for start in range(0, len(due), CHUNK)]
    tasks = ((root, [names[place] for place in places], decode) for places in chunks)
    for places, (_, found) in zip(chunks, crew.map(_check, tasks), strict=True):
        yield places, found


def _check(_: object, task: tuple[Path, Sequence[str], bool]) -> list[Fault | None]:
    root, names, decode = task
    return [_fault(name, root, decode) for name in names]


def _fault(name: str, root: Path, decode: bool) -> Fault | None:
    try:
        if decode:
            open_image(name, root=root)
        else:
            check_image(name, root=root)
    except DataError as error:
        return str(error), error.reason
    return None
