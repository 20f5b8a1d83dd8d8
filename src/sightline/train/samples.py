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
from sightline.data.sample import Rejection, Sample, refusal
from sightline.errors import ConfigError, DataError
from sightline.recipe import BadSamples, DataSource


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """Samples with the folder of their pictures.

    `fingerprint` is a hash of the data files and of what was left out; `refused` says what that was, and why.
    """

    processor: Processor
    samples: tuple[Sample, ...]
    roots: tuple[Path, ...]
    fingerprint: str
    refused: tuple[Rejection, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def example(self, index: int) -> Example:
        """Ids, labels and pixels of one sample."""
        return self.processor.example(self.samples[index], root=self.roots[index])


def read_sources(
    sources: Sequence[DataSource],
    processor: Processor,
    *,
    bad: BadSamples,
    say: Callable[[str], None],
    key: str = "data",
) -> SampleSet:
    """Reads and checks all sources, in order; `key` is the recipe's name for them, for messages.

    Raises:
        ConfigError: a file or folder is missing.
        DataError: a sample cannot be used and the recipe does not allow it, or none is left.
    """
    digest = hashlib.sha256()
    samples: list[Sample] = []
    roots: list[Path] = []
    refused: list[Rejection] = []
    for number, source in enumerate(sources):
        path, root = _locate(source, f"{key}.{number}")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        for sample in read_samples(path, on_reject=refused.append, number_repeated_ids=source.repeated_ids == "number"):
            fault = _fault(sample, processor, root)
            if fault is None:
                samples.append(sample)
                roots.append(root)
            else:
                refused.append(fault)
    _judge(refused, good=len(samples), bad=bad, say=say)
    if sources and not samples:
        raise DataError(f"{sources[0].path}: no samples; give a file with at least one", reason="no_samples")
    digest.update("".join(rejection.message for rejection in refused).encode())
    return SampleSet(
        processor=processor,
        samples=tuple(samples),
        roots=tuple(roots),
        fingerprint=digest.hexdigest(),
        refused=tuple(refused),
    )


def _locate(source: DataSource, key: str) -> tuple[Path, Path]:
    path = Path(source.path)
    if not path.is_file():
        raise ConfigError(f"{key}.path: no file {path}; give a LLaVA JSON or JSONL file")
    root = Path(source.images) if source.images is not None else path.parent
    if not root.is_dir():
        raise ConfigError(f"{key}.images: no folder {root}; give the folder that the pictures' paths start from")
    return path, root


def _fault(sample: Sample, processor: Processor, root: Path) -> Rejection | None:
    """Why the sample cannot be trained on, if it cannot: its tokens, or the header of a picture."""
    try:
        processor.encode(sample)
        for path in sample.images:
            check_image(path, root=root)
    except DataError as error:
        return refusal(sample, error)
    return None


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
