"""The samples of a run, all of them checked before a step is taken.

Comes in: the recipe's sources, a processor. Goes out: a `SampleSet`. Every sample is read, rendered and tokenised, and
the header of every picture is read; what cannot be used is counted by reason, and stops the run unless the recipe
allows as much. Opens no picture in full.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.data.image import check_image
from sightline.data.parsing import read_samples
from sightline.data.processor import Example, Processor
from sightline.data.sample import Rejection, Sample
from sightline.errors import ConfigError, DataError
from sightline.recipe import BadSamples, DataSource


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """Samples with the folder of their pictures. `fingerprint` is a hash of the data files and of what was left out."""

    processor: Processor
    samples: tuple[Sample, ...]
    roots: tuple[Path, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.samples)

    def example(self, index: int) -> Example:
        """Ids, labels and pixels of one sample."""
        return self.processor.example(self.samples[index], root=self.roots[index])


def read_sources(
    sources: Sequence[DataSource], processor: Processor, *, bad: BadSamples, say: Callable[[str], None]
) -> SampleSet:
    """Reads and checks all sources, in order.

    Raises:
        ConfigError: a file or folder is missing.
        DataError: a sample cannot be used and the recipe does not allow it, or none is left.
    """
    digest = hashlib.sha256()
    samples: list[Sample] = []
    roots: list[Path] = []
    reasons: Counter[str] = Counter()
    first: DataError | None = None
    for number, source in enumerate(sources):
        path, root = _locate(source, number)
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        rejected: list[Rejection] = []
        for sample in read_samples(
            path, on_reject=rejected.append, number_repeated_ids=source.repeated_ids == "number"
        ):
            try:
                _check(sample, processor, root)
            except DataError as error:
                first = first or DataError(f"{sample.source}: id {sample.id}: {error}", reason=error.reason)
                reasons[error.reason] += 1
                continue
            samples.append(sample)
            roots.append(root)
        if rejected:
            first = first or DataError(rejected[0].message, reason=rejected[0].reason)
            reasons.update(rejection.reason for rejection in rejected)
    _judge(reasons, first, good=len(samples), bad=bad, say=say)
    if sources and not samples:
        raise DataError(f"{sources[0].path}: no samples; give a file with at least one", reason="no_samples")
    digest.update(repr(sorted(reasons.items())).encode())
    return SampleSet(processor=processor, samples=tuple(samples), roots=tuple(roots), fingerprint=digest.hexdigest())


def _locate(source: DataSource, number: int) -> tuple[Path, Path]:
    path = Path(source.path)
    if not path.is_file():
        raise ConfigError(f"data.{number}.path: no file {path}; give a LLaVA JSON or JSONL file")
    root = Path(source.images) if source.images is not None else path.parent
    if not root.is_dir():
        raise ConfigError(
            f"data.{number}.images: no folder {root}; give the folder that the pictures' paths start from"
        )
    return path, root


def _check(sample: Sample, processor: Processor, root: Path) -> None:
    processor.encode(sample)
    for path in sample.images:
        check_image(path, root=root)


def _judge(
    reasons: Counter[str], first: DataError | None, *, good: int, bad: BadSamples, say: Callable[[str], None]
) -> None:
    """Stops when more samples are bad than the recipe allows; otherwise says how many were left out and why."""
    if first is None:
        return
    count = reasons.total()
    counts = ", ".join(f"{reason} {number}" for reason, number in reasons.most_common())
    if bad.policy == "fail":
        more = f" ({count} bad samples in all: {counts})" if count > 1 else ""
        raise DataError(f"{first}{more}; mend the data, or set bad_samples.policy: skip", reason=first.reason)
    if count > bad.max_fraction * (good + count):
        raise DataError(
            f"{count} of {good + count} samples are bad ({counts}), more than bad_samples.max_fraction "
            f"{bad.max_fraction}; the first: {first}",
            reason=first.reason,
        )
    say(f"left out {count} of {good + count} samples: {counts}")
