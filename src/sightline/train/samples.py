"""The samples of a run, all of them checked before a step is taken.

Comes in: the recipe's sources, a processor. Goes out: a `SampleSet`, whose samples are parsed when they are asked for.
Every sample is read, rendered and tokenised, and the header of every picture is read; what cannot be used is counted by
reason, and stops the run unless the recipe allows as much. What is found is kept on disk, see `data.index` and
`data.picture_checks` for when it is looked at again. Opens no picture in full.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from sightline.data.crew import Crew
from sightline.data.data_file import DataFile, FileSamples
from sightline.data.feature_store import StoredPictures
from sightline.data.index import FileIndex, index_file
from sightline.data.picture_checks import Fault, picture_faults
from sightline.data.processor import Example, Processor
from sightline.data.sample import Rejection, Sample, refusal
from sightline.errors import ConfigError, DataError
from sightline.recipe import BadSamples, DataSource


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """N samples with the folders of their pictures.

    Attributes:
        lengths: int32[N]: positions of each sample, pictures included.
        shows_pictures: N bytes, 1 for a sample with pictures, 0 for one without.
        fingerprint: a hash of the data files and of what was left out.
        refused: what that was, and why.
        stored: the pictures that need not be opened.
    """

    processor: Processor
    samples: Sequence[Sample]
    roots: tuple[Path, ...]
    lengths: npt.NDArray[np.int32]
    shows_pictures: bytes
    fingerprint: str
    refused: tuple[Rejection, ...] = ()
    stored: StoredPictures | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def example(self, index: int) -> Example:
        """Ids, labels and pictures of one sample."""
        return self.processor.example(self.samples[index], root=self.roots[index], stored=self.stored)


class _Joined(Sequence[Sample]):
    """The samples of several files behind one another."""

    def __init__(self, parts: Sequence[FileSamples]) -> None:
        self._parts = parts
        self._firsts = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self._firsts[-1]

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self[place] for place in places]
        part = bisect_right(self._firsts, places) - 1
        return self._parts[part][places - self._firsts[part]]


class _Usable(NamedTuple):
    """What one source has to give."""

    samples: FileSamples
    root: Path
    lengths: npt.NDArray[np.int32]
    shows_pictures: npt.NDArray[np.bool_]


def read_sources(
    sources: Sequence[DataSource],
    processor: Processor,
    *,
    bad: BadSamples,
    say: Callable[[str], None],
    key: str = "data",
    processes: int | None = None,
) -> SampleSet:
    """Reads and checks all sources, in order; `key` is the recipe's name for them, for messages.

    Args:
        processes: at most so many check samples where there are thousands; None: one for each core.

    Raises:
        ConfigError: a file or folder is missing.
        DataError: a sample cannot be used and the recipe does not allow it, or none is left.
    """
    digest = hashlib.sha256()
    found: list[_Usable] = []
    refused: list[Rejection] = []
    with Crew(processor, processes=processes) as crew:
        for number, source in enumerate(sources):
            path, root = _locate(source, f"{key}.{number}")
            file = DataFile(path)
            sha256 = file.sha256()
            digest.update(bytes.fromhex(sha256))
            numbered = source.repeated_ids == "number"
            index = index_file(file, processor, sha256=sha256, number_repeated_ids=numbered, crew=crew)
            usable, rejections = _with_pictures(file, index, root, picture_faults(index.pictures, root, crew=crew))
            found.append(usable)
            refused += rejections
    samples = _Joined([each.samples for each in found])
    _judge(refused, good=len(samples), bad=bad, say=say)
    if sources and not samples:
        raise DataError(f"{sources[0].path}: no samples; give a file with at least one", reason="no_samples")
    digest.update("".join(rejection.message for rejection in refused).encode())
    return SampleSet(
        processor=processor,
        samples=samples,
        roots=tuple(each.root for each in found for _ in range(len(each.samples))),
        lengths=np.concatenate([np.empty(0, np.int32), *(each.lengths for each in found)]),
        shows_pictures=b"".join(each.shows_pictures.tobytes() for each in found),
        fingerprint=digest.hexdigest(),
        refused=tuple(refused),
    )


def _with_pictures(
    file: DataFile, index: FileIndex, root: Path, faults: dict[int, Fault]
) -> tuple[_Usable, list[Rejection]]:
    """The samples of a file whose pictures are good as well, and all that are not used: first what is no sample."""
    samples = FileSamples(file, index.places, index.numbers, listed=index.listed)
    shown_bad = np.flatnonzero(np.isin(index.shown, list(faults)))
    bad_rows = np.unique(np.searchsorted(index.shown_from, shown_bad, side="right") - 1)
    unfit = list(index.unfit)
    for row in bad_rows.tolist():
        shown = index.shown[index.shown_from[row] : index.shown_from[row + 1]].tolist()
        message, reason = next(faults[picture] for picture in shown if picture in faults)
        unfit.append((int(index.places[row, 3]), refusal(samples[row], DataError(message, reason=reason))))
    unfit.sort(key=lambda each: each[0])
    good = np.ones(len(samples), np.bool_)
    good[bad_rows] = False
    usable = _Usable(
        samples=FileSamples(file, index.places[good], index.numbers[good], listed=index.listed),
        root=root,
        lengths=index.lengths[good],
        shows_pictures=(np.diff(index.shown_from) > 0)[good],
    )
    return usable, [*index.malformed, *(rejection for _, rejection in unfit)]


def _locate(source: DataSource, key: str) -> tuple[Path, Path]:
    path = Path(source.path)
    if not path.is_file():
        raise ConfigError(f"{key}.path: no file {path}; give a LLaVA JSON or JSONL file")
    root = Path(source.images) if source.images is not None else path.parent
    if not root.is_dir():
        raise ConfigError(f"{key}.images: no folder {root}; give the folder that the pictures' paths start from")
    return path, root


def _judge(refused: Sequence[Rejection], *, good: int, bad: BadSamples, say: Callable[[str], None]) -> None:
    """Stops when more samples are bad than the recipe allows; otherwise says how many are left out and why."""
    if not refused:
        return
    first, count = refused[0], len(refused)
    by_reason = Counter(rejection.reason for rejection in refused).most_common()
    counts = ", ".join(f"{reason} {number}" for reason, number in by_reason)
    if bad.policy == "fail":
        more = f" ({count} bad samples in all: {counts})" if count > 1 else ""
        raise DataError(f"{first.message}{more}; mend the data, or set bad_samples.policy: skip", reason=first.reason)
    if count > bad.max_fraction * (good + count):
        raise DataError(
            f"{count} of {good + count} samples are bad ({counts}), more than bad_samples.max_fraction "
            f"{bad.max_fraction}; the first: {first.message}",
            reason=first.reason,
        )
    say(f"left out {count} of {good + count} samples: {counts}")
