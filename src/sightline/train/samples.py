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
from sightline.data.data_file import DataFile
from sightline.data.feature_store import StoredPictures
from sightline.data.file_samples import FileSamples
from sightline.data.index import FileIndex, index_file
from sightline.data.layouts import data_files, open_data, root_of
from sightline.data.mixture import Mix, epoch_length, share
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
        mix: how many samples of each source an epoch holds; None: each sample once.
        refused: what that was, and why.
        stored: the pictures that need not be opened.
    """

    processor: Processor
    samples: Sequence[Sample]
    roots: tuple[Path, ...]
    lengths: npt.NDArray[np.int32]
    shows_pictures: bytes
    fingerprint: str
    mix: Mix | None = None
    refused: tuple[Rejection, ...] = ()
    stored: StoredPictures | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def per_epoch(self) -> int:
        """Samples of an epoch."""
        return len(self) if self.mix is None else epoch_length(self.mix)

    def showings(self) -> npt.NDArray[np.float64]:
        """float64[N]: how often each sample comes in an epoch, on average."""
        if self.mix is None:
            return np.ones(len(self))
        return np.concatenate([np.full(size, count / max(1, size)) for size, count in self.mix])

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
    sizes: list[int] = []
    refused: list[Rejection] = []
    with Crew(processor, processes=processes) as crew:
        for number, source in enumerate(sources):
            before = sum(len(each.samples) for each in found)
            for file, root in _locate(source, f"{key}.{number}"):
                sha256 = file.sha256()
                digest.update(bytes.fromhex(sha256))
                numbered = source.repeated_ids == "number"
                index = index_file(file, processor, sha256=sha256, number_repeated_ids=numbered, crew=crew)
                faults = picture_faults(index.pictures, root, crew=crew)
                usable, rejections = _with_pictures(file, index, root, faults)
                found.append(usable)
                refused += rejections
            sizes.append(sum(len(each.samples) for each in found) - before)
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
        mix=mix_of(sources, sizes),
        refused=tuple(refused),
    )


def mix_of(sources: Sequence[DataSource], sizes: Sequence[int]) -> Mix | None:
    """The mixture of sources of which so many samples can be used; None where none of them says how often."""
    if all(source.weight is None and source.count is None for source in sources):
        return None
    pairs = zip(sources, sizes, strict=True)
    return tuple(share(size, weight=source.weight, count=source.count) for source, size in pairs)


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


def _locate(source: DataSource, key: str) -> list[tuple[DataFile, Path]]:
    """The files of a source, and where their pictures are."""
    try:
        files = [open_data(path) for path in data_files(Path(source.path))]
    except DataError as error:
        raise ConfigError(f"{key}.path: {error}") from None
    images = None if source.images is None else Path(source.images)
    if images is not None and not images.is_dir():
        raise ConfigError(f"{key}.images: no folder {images}; give the folder that the pictures' paths start from")
    if images is not None and files[0].holds_pictures:
        raise ConfigError(f"{key}.images: the pictures of {files[0].path} lie in the file itself; remove `images`")
    return [(file, root_of(file, images)) for file in files]


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
