"""What data files hold, in numbers: lengths, pictures, turns, sources, kinds of answers.

Comes in: data files, perhaps a processor, which counts tokens as training does. Goes out: `Statistics`. Samples that
cannot be read are counted by reason (`checks` says more about them). Opens no picture. Without a processor neither
torch nor transformers is imported.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sightline.data.check_tasks import Lines, Places, tasks
from sightline.data.crew import Crew
from sightline.data.held import MARK
from sightline.data.layouts import open_data
from sightline.data.parsing import parse_sample
from sightline.data.reading import SampleError
from sightline.data.sample import Sample, Turn
from sightline.data.text_checks import BOX
from sightline.data.tokens import IGNORE
from sightline.errors import DataError

if TYPE_CHECKING:
    from sightline.data.processor import Processor

SHORT_WORDS = 5
"""Words of a short answer at most: "a single word or phrase", as LLaVA-1.5 asks for."""
ANSWERS = ("yes/no", "number", "letter", "box", "short", "long")
_NO_PICTURE = "(no picture)"
_KINDS = {
    "yes/no": re.compile(r"(?:yes|no)[.!]?", re.IGNORECASE),
    "number": re.compile(r"-?\d+(?:[.,]\d+)*\s?%?\.?"),
    "letter": re.compile(r"\(?[A-Z]\)?[.)]?"),
    "box": BOX,
}


@dataclass(kw_only=True)
class Statistics:
    """Sums over samples, which can be added up.

    Attributes:
        samples: those that can be read.
        refused: the others, by reason; with a processor also those that cannot be trained on.
        cut: samples of which trained tokens lie beyond `max_length`.
        tokens: positions of each sample, pictures in full, after that cut; empty without a processor.
        trained: trained positions of each sample, likewise.
        words: words of each answer.
        images, turns: samples by their number of pictures, of exchanges.
        sources: samples by the first folder of their first picture, or by the file that it lies in.
        answers: answers by kind, see `answer_kind`.
    """

    samples: int = 0
    cut: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    tokens: array[int] = field(default_factory=lambda: array("i"))
    trained: array[int] = field(default_factory=lambda: array("i"))
    words: array[int] = field(default_factory=lambda: array("i"))
    images: Counter[int] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    def add(self, other: Statistics) -> None:
        """Takes the samples of another."""
        self.samples += other.samples
        self.cut += other.cut
        for name in ("refused", "images", "turns", "sources", "answers"):
            getattr(self, name).update(getattr(other, name))
        for name in ("tokens", "trained", "words"):
            getattr(self, name).extend(getattr(other, name))

    def to_json(self) -> dict[str, Any]:
        """As `sightline stats --json` prints it."""
        return {
            "samples": self.samples,
            "refused": dict(self.refused.most_common()),
            "tokens": summary(self.tokens),
            "trained_tokens": summary(self.trained),
            "cut": self.cut,
            "answer_words": summary(self.words),
            "images": {str(number): self.images[number] for number in sorted(self.images)},
            "turns": {str(number): self.turns[number] for number in sorted(self.turns)},
            "sources": dict(self.sources.most_common()),
            "answers": {kind: self.answers[kind] for kind in ANSWERS},
        }


def summary(values: Sequence[int]) -> dict[str, float] | None:
    """What people ask of many lengths; None of none. Percentiles are values that occur (numpy's `inverted_cdf`)."""
    if not len(values):
        return None
    found: npt.NDArray[np.int64] = np.array(values, np.int64)
    shares = {"median": 50, "p95": 95, "p99": 99}
    return {
        "total": int(found.sum()),
        "mean": round(float(found.mean()), 3),
        "min": int(found.min()),
        **{name: int(np.percentile(found, share, method="inverted_cdf")) for name, share in shares.items()},
        "max": int(found.max()),
    }


def answer_kind(text: str) -> str:
    """Which of `ANSWERS` an answer is: a form that the whole of it has, else short or long by its words."""
    words = text.strip()
    for kind, pattern in _KINDS.items():
        if pattern.fullmatch(words):
            return kind
    return "short" if len(words.split()) <= SHORT_WORDS else "long"


def source_of(sample: Sample) -> str:
    """The first folder of a sample's first picture, or the file that it lies in."""
    if not sample.images:
        return _NO_PICTURE
    outer, mark, _ = sample.images[0].partition(MARK)
    return outer if mark else outer.rpartition("/")[0].split("/")[0] or "."


def measure_files(paths: Sequence[Path], processor: Processor | None, *, processes: int | None = None) -> Statistics:
    """The statistics of data files.

    Raises:
        DataError: a file cannot be read to its end.
    """
    found = Statistics()
    with Crew(processor, processes=processes) as crew:
        for path in paths:
            broken: list[DataError] = []
            for _, part in crew.map(_measure, tasks(open_data(path), on_broken=broken.append)):
                found.add(part)
            for error in broken:
                raise error
    return found


def _measure(processor: Processor | None, task: Lines | Places) -> Statistics:
    found = Statistics()
    for record in task.records():
        try:
            sample = parse_sample(record)
        except SampleError as error:
            found.refused[error.reason] += 1
            continue
        _count(found, sample)
        if processor is None:
            continue
        try:
            encoded = processor.encode(sample)
        except DataError as error:
            found.refused[error.reason] += 1
            continue
        found.tokens.append(len(encoded.ids))
        found.trained.append(len(encoded.labels) - encoded.labels.count(IGNORE))
        found.cut += encoded.lost > 0
    return found


def _count(found: Statistics, sample: Sample) -> None:
    found.samples += 1
    found.images[len(sample.images)] += 1
    found.turns[len(sample.turns) // 2] += 1
    found.sources[source_of(sample)] += 1
    for turn in sample.turns:
        if turn.role == "assistant":
            words = _words(turn)
            found.answers[answer_kind(words)] += 1
            found.words.append(len(words.split()))


def _words(turn: Turn) -> str:
    return "".join(part for part in turn.content if isinstance(part, str))
