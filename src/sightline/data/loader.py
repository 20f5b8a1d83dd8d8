"""From samples to batches of tensors.

Comes in: samples, a processor, the arguments of the order. Goes out: for each step its micro-batches, padded. Does not
know what a step does with them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sightline.data.mixture import batch_indexes
from sightline.data.processor import Example
from sightline.data.tokens import IGNORE
from sightline.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Examples padded on the right to the longest.

    Attributes:
        ids: the samples' ids, B of them.
        input_ids: int64[B, T].
        labels: int64[B, T], `IGNORE` where nothing is learnt.
        attention_mask: int64[B, T], 0 on padding.
        pixels: float32[N, 3, H, W], the pictures of all rows in reading order, or None when there are none.
    """

    ids: tuple[str, ...]
    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor
    pixels: Tensor | None

    @property
    def trained_tokens(self) -> int:
        """Labels that count: the first position predicts nothing, so it has none."""
        return int((self.labels[:, 1:] != IGNORE).sum())

    @property
    def tokens(self) -> int:
        """Positions that are not padding."""
        return int(self.attention_mask.sum())

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch where a GPU can fetch it while computing; `DataLoader` asks for it by this name."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            ids=self.ids,
            input_ids=change(self.input_ids),
            labels=change(self.labels),
            attention_mask=change(self.attention_mask),
            pixels=None if self.pixels is None else change(self.pixels),
        )


def collate(examples: Sequence[Example], *, pad_id: int) -> Batch:
    """Pads examples to one batch; rows keep their order."""
    longest = max(len(example.input_ids) for example in examples)
    input_ids = torch.full((len(examples), longest), pad_id, dtype=torch.int64)
    labels = torch.full((len(examples), longest), IGNORE, dtype=torch.int64)
    attention_mask = torch.zeros((len(examples), longest), dtype=torch.int64)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        input_ids[row, :length] = example.input_ids
        labels[row, :length] = example.labels
        attention_mask[row, :length] = 1
    pictures = [example.pixels for example in examples if len(example.pixels)]
    return Batch(
        ids=tuple(example.id for example in examples),
        input_ids=input_ids,
        labels=labels,
        attention_mask=attention_mask,
        pixels=torch.cat(pictures) if pictures else None,
    )


def micro_batches(examples: Sequence[Example], *, size: int, pad_id: int) -> list[Batch]:
    """Cuts one step's examples into batches of `size`, like lengths together so that little is padded.

    The sum of the losses does not depend on the order within a step, so sorting costs no randomness.
    """
    ordered = sorted(examples, key=lambda example: (len(example.input_ids), example.id))
    return [collate(ordered[start : start + size], pad_id=pad_id) for start in range(0, len(ordered), size)]


class Refusal(NamedTuple):
    """A `DataError` as a value: out of a worker process torch would raise another exception in its place."""

    message: str
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a step trains on: its micro-batches, and why samples of it are missing (a picture broke since the start)."""

    batches: list[Batch]
    lost: tuple[Refusal, ...] = ()

    def pin_memory(self) -> Step:
        """See `Batch.pin_memory`."""
        return Step([batch.pin_memory() for batch in self.batches], self.lost)


class StepMaker:
    """Makes the micro-batches of any step; picklable, so that worker processes can.

    Args:
        skip: leave a sample out whose picture cannot be opened any more, instead of ending the run.
        kinds: see `batch_indexes`.
    """

    def __init__(
        self,
        examples: Callable[[int], Example],
        *,
        num_samples: int,
        batch: int,
        size: int,
        seed: int,
        pad_id: int,
        skip: bool = False,
        kinds: bytes | None = None,
    ) -> None:
        self._examples = examples
        self._num_samples = num_samples
        self._batch = batch
        self._size = size
        self._seed = seed
        self._pad_id = pad_id
        self._skip = skip
        self._kinds = kinds

    def __call__(self, step: int) -> Step:
        """The step of this number; `DataError` when a sample cannot be used that must be, or none can."""
        indexes = batch_indexes(
            step, num_samples=self._num_samples, batch=self._batch, seed=self._seed, kinds=self._kinds
        )
        found, lost = usable(self._examples, indexes, skip=self._skip)
        if not found:
            raise DataError(f"step {step + 1} has no usable sample left: {lost[0].message}", reason=lost[0].reason)
        return Step(micro_batches(found, size=self._size, pad_id=self._pad_id), lost)


def usable(
    examples: Callable[[int], Example], indexes: Iterable[int], *, skip: bool
) -> tuple[list[Example], tuple[Refusal, ...]]:
    """The examples of these indexes, and with `skip` what became of those that cannot be used; else `DataError`."""
    found: list[Example] = []
    lost: list[Refusal] = []
    for index in indexes:
        try:
            found.append(examples(index))
        except DataError as error:
            if not skip:
                raise
            lost.append(Refusal(str(error), error.reason))
    return found, tuple(lost)


class _Steps(Dataset[Step | Refusal]):
    """Step number -> the step, or why there is none."""

    def __init__(self, make: StepMaker) -> None:
        self._make = make

    def __getitem__(self, step: int) -> Step | Refusal:
        try:
            return self._make(step)
        except DataError as error:
            return Refusal(str(error), error.reason)


def steps(
    make: StepMaker, *, start: int, stop: int, workers: int, pin_memory: bool = False
) -> Generator[Step, None, None]:
    """The steps from `start` to `stop`, made ahead by `workers` processes (0: in this one).

    Close the generator to end the workers.

    Raises:
        DataError: at the step that a picture fails in.
    """
    loader = DataLoader(
        _Steps(make),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
    )
    for made in loader:
        if isinstance(made, Refusal):
            raise DataError(made.message, reason=made.reason)
        yield made
