"""From samples to batches of tensors.

Comes in: examples by index, the arguments of the order, how rows are cut. Goes out: for each step its batches. Does not
know what a step does with them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from torch.utils.data import DataLoader, Dataset

from sightline.data.batch import Batch, RowPlan
from sightline.data.mixture import Mix, batch_indexes
from sightline.data.processor import Example
from sightline.data.shares import Share
from sightline.errors import DataError


class Refusal(NamedTuple):
    """A `DataError` as a value: out of a worker process torch would raise another exception in its place."""

    message: str
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a step trains on: its batches, and why samples of it are missing (a picture broke since the start)."""

    batches: list[Batch]
    lost: tuple[Refusal, ...] = ()

    def pin_memory(self) -> Step:
        """See `Batch.pin_memory`."""
        return Step([batch.pin_memory() for batch in self.batches], self.lost)


class StepMaker:
    """Makes the batches of any step; picklable, so that worker processes can.

    Args:
        rows: how the samples of a step are cut into batches.
        skip: leave a sample out whose picture cannot be opened any more, instead of ending the run.
        kinds, mix: see `batch_indexes`.
        share: of a step's samples, where several processes take it together; None: all.
    """

    def __init__(
        self,
        examples: Callable[[int], Example],
        *,
        num_samples: int,
        batch: int,
        rows: RowPlan,
        seed: int,
        skip: bool = False,
        kinds: bytes | None = None,
        mix: Mix | None = None,
        share: Share | None = None,
    ) -> None:
        self._examples = examples
        self._num_samples = num_samples
        self._batch = batch
        self._rows = rows
        self._seed = seed
        self._skip = skip
        self._kinds = kinds
        self._mix = mix
        self._share = share

    def __call__(self, step: int) -> Step:
        """The step of this number, or this process's share of it.

        Raises:
            DataError: a sample cannot be used that must be, or none can.
        """
        indexes = batch_indexes(
            step,
            num_samples=self._num_samples,
            batch=self._batch,
            seed=self._seed,
            kinds=self._kinds,
            mix=self._mix,
        )
        if self._share is not None:
            indexes = self._share.of(indexes)
        found, lost = usable(self._examples, indexes, skip=self._skip)
        if not found and self._share is None:
            raise DataError(f"step {step + 1} has no usable sample left: {lost[0].message}", reason=lost[0].reason)
        return Step(self._rows.batches(found), lost)


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
