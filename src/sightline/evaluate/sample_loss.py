"""The mean loss over the trained tokens of a data file, and of each of its samples.

Comes in: a checkpoint's model and processor, a data file, the folder of its pictures. Goes out: a `LossReport`. Ids,
masks and the loss itself are training's. Holds a window of samples at a time, so the file may be of any size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from sightline.data.batch import Batch, pad
from sightline.data.parsing import located_samples
from sightline.data.processor import Example, Processor
from sightline.data.sample import Rejection, Sample, refusal
from sightline.errors import DataError, SightlineError
from sightline.model.vlm import VisionLanguageModel
from sightline.train.loss import token_losses

WINDOW = 8
"""Batches whose samples are sorted by length together, so that little is padded."""
ROWS = 20
"""Most samples in the table for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleLoss:
    """The mean loss over a sample's trained tokens, in nats, and how many they are."""

    id: str
    loss: float
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LossReport:
    """`mean` is over all trained tokens, whichever sample they are of; `refused` counts samples by reason."""

    mean: float
    tokens: int
    samples: tuple[SampleLoss, ...]
    refused: dict[str, int]

    @property
    def perplexity(self) -> float:
        """e to the mean; infinite where a float cannot hold it."""
        return math.exp(self.mean) if self.mean < 700 else math.inf

    def to_json(self) -> dict[str, Any]:
        """As `sightline loss --json` prints it."""
        return {
            "mean": self.mean,
            "tokens": self.tokens,
            "samples": [{"id": one.id, "loss": one.loss, "tokens": one.tokens} for one in self.samples],
            "refused": self.refused,
        }


def measure(
    model: VisionLanguageModel,
    processor: Processor,
    data: Path,
    *,
    root: Path | None,
    batch: int,
    limit: int | None,
    say: Callable[[str], None],
) -> LossReport:
    """Measures the samples of a file; those that cannot be used are named, one line each, and counted.

    Args:
        root: folder that the pictures' paths start from; None: the data file's own.
        batch: samples that go through the model at once; changes speed and memory, not the result.
        limit: only the first so many of the file.

    Raises:
        DataError: the file cannot be read, or none of its samples can be used.
        SightlineError: a loss is not finite.
    """
    refused: Counter[str] = Counter()
    samples: list[SampleLoss] = []
    total = 0.0

    def refuse(rejection: Rejection) -> None:
        refused[rejection.reason] += 1
        say(f"{rejection.reason}: {rejection.message}")

    found = islice(located_samples(data, root, number_repeated_ids=True), limit)
    examples = _examples(found, processor, refuse)
    while window := list(islice(examples, WINDOW * batch)):
        measured: dict[int, SampleLoss] = {}
        ordered = sorted(range(len(window)), key=lambda place: len(window[place].input_ids))
        for start in range(0, len(ordered), batch):
            places = ordered[start : start + batch]
            losses = _batch_losses(model, pad([window[place] for place in places], pad_id=processor.pad_id))
            for place, (sample, summed) in zip(places, losses, strict=True):
                measured[place] = sample
                total += summed
        samples += [measured[place] for place in range(len(window))]
        say(f"measured {len(samples)} samples")
    if not samples:
        raise DataError(f"{data}: none of its samples can be used ({_counts(refused)})", reason="no_samples")
    tokens = sum(sample.tokens for sample in samples)
    return LossReport(mean=total / tokens, tokens=tokens, samples=tuple(samples), refused=dict(refused))


def _examples(
    found: Iterator[tuple[Sample | Rejection, Path]], processor: Processor, refuse: Callable[[Rejection], None]
) -> Iterator[Example]:
    for one, root in found:
        if isinstance(one, Rejection):
            refuse(one)
            continue
        try:
            yield processor.example(one, root=root)
        except DataError as error:
            refuse(refusal(one, error))


@torch.inference_mode()
def _batch_losses(model: VisionLanguageModel, batch: Batch) -> list[tuple[SampleLoss, float]]:
    """Each sample of a batch with the sum of its losses."""
    losses, rows = token_losses(model, batch.to(next(model.parameters()).device))
    sums = torch.zeros(len(batch.ids), dtype=torch.float64)
    sums.index_add_(0, rows.cpu(), losses.double().cpu())
    counts = torch.bincount(rows.cpu(), minlength=len(batch.ids))
    found = []
    for name, summed, count in zip(batch.ids, sums.tolist(), counts.tolist(), strict=True):
        if not math.isfinite(summed):
            raise SightlineError(f"sample {name}: its loss is {summed}; the checkpoint's weights are not usable")
        found.append((SampleLoss(id=name, loss=summed / count, tokens=count), summed))
    return found


def table(report: LossReport) -> str:
    """For people: the samples (where there are many, those of the highest loss), the mean, the perplexity."""
    shown: Sequence[SampleLoss] = report.samples
    lines = []
    if len(shown) > ROWS:
        lines.append(f"the {ROWS} highest of {len(shown):,} samples")
        shown = sorted(shown, key=lambda sample: -sample.loss)[:ROWS]
    width = max(10, *(len(sample.id) for sample in shown))
    lines.append(f"{'sample':<{width}}{'tokens':>10}{'loss':>10}")
    lines += [f"{sample.id:<{width}}{sample.tokens:>10,}{sample.loss:>10.4f}" for sample in shown]
    lines.append(f"{'mean':<{width}}{report.tokens:>10,}{report.mean:>10.4f}")
    lines.append(f"{'perplexity':<{width}}{report.perplexity:>20,.2f}")
    if report.refused:
        lines.append(f"left out: {_counts(report.refused)}")
    return "\n".join(lines)


def _counts(refused: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(refused.items()))
