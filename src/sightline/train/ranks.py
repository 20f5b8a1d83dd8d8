"""Several processes that take every step of a run together, each on a device of its own.

Comes in: what `torchrun` puts into the environment. Goes out: `Ranks`: sums over all of them, and an order among them.
Every rank holds the whole model (all but what `shard` cuts), trains on its share of a step's samples, and adds its
gradient to the others'. A run of one process is the same with one rank, for which nothing here does anything. Does not
know what is trained.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from sightline.errors import ConfigError, TrainingError

STEP_TIMEOUT = timedelta(minutes=10)
"""After which a rank that the others wait for in a step counts as hung."""
PREPARATION_TIMEOUT = timedelta(days=2)
"""The same while one rank alone checks samples or fills a feature cache."""
BUCKET_BYTES = 2**26
"""Gradients that are added up at once: large enough for a network's full speed, small beside the gradients."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process among `size`; `rank` counts from 0. Every method must be called by all ranks, in the same order."""

    rank: int = 0
    size: int = 1
    patient: distributed.ProcessGroup | None = None
    """The ranks again, for what may take hours."""

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.size == 1

    def totals(self, *values: float) -> list[float]:
        """Each value, added up over the ranks; exact for integers up to 2**53."""
        if self.alone:
            return list(values)
        found = torch.tensor(values, dtype=torch.float64)
        self._reduce(found)
        return [float(value) for value in found]

    def largest(self, value: int) -> int:
        """The largest value of any rank."""
        if self.alone:
            return value
        found = torch.tensor([value])
        self._reduce(found, distributed.ReduceOp.MAX, group=self.patient)
        return int(found)

    def joined(self, names: Sequence[str]) -> list[str]:
        """The lists of all ranks behind one another."""
        if self.alone:
            return list(names)
        found: list[list[str]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(found, list(names))
        return [name for each in found for name in each]

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """The first rank goes through the body before the others, which then find its files, and waits for them.

        An error ends them all.
        """
        if not self.first:
            self.largest(0)
        yield
        if self.first:
            self.largest(0)
        self.largest(0)  # to find the files may take longer than a step ever should

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every gradient becomes the sum over the ranks. One that no rank has stays None: AdamW leaves it alone."""
        if self.alone:
            return
        every = list(parameters)
        present = torch.tensor([parameter.grad is not None for parameter in every], dtype=torch.uint8)
        self._reduce(present, distributed.ReduceOp.MAX)
        due = [parameter for parameter, there in zip(every, present.tolist(), strict=True) if there]
        for bucket in buckets(due, most=BUCKET_BYTES):
            flat = torch.cat([_gradient(parameter).flatten() for parameter in bucket])
            self._reduce(flat)
            parts = torch.split(flat, [parameter.numel() for parameter in bucket])
            for parameter, part in zip(bucket, parts, strict=True):
                parameter.grad = part.view_as(parameter)

    def _reduce(
        self,
        tensor: Tensor,
        operation: distributed.ReduceOp.RedOpType = distributed.ReduceOp.SUM,
        group: distributed.ProcessGroup | None = None,
    ) -> None:
        try:
            distributed.all_reduce(tensor, operation, group=group)
        except RuntimeError as error:  # whoever went first says why, in words of its own
            raise TrainingError(
                f"process {self.rank} of {self.size} (counted from 0): another one ended or hangs; see its message"
            ) from error


ALONE = Ranks()
"""A run of one process."""


def join() -> Ranks:
    """The ranks that `torchrun` has started, or the one process that there is otherwise."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=STEP_TIMEOUT)
    patient = distributed.new_group(backend="gloo", timeout=PREPARATION_TIMEOUT)
    return Ranks(rank=distributed.get_rank(), size=distributed.get_world_size(), patient=patient)


def check_batch(batch: int, processes: int) -> None:
    """`ConfigError` where a step has too few samples for all processes to have one."""
    if batch < processes:
        raise ConfigError(
            f"train.batch: found {batch}, expected at least one sample for each of the {processes} processes; "
            "take fewer of them"
        )


def own_device(device: torch.device) -> torch.device:
    """Of the GPUs of a machine that which `torchrun` numbers as this process's; every other device as it is."""
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise ConfigError(
            f"{os.environ['WORLD_SIZE']} processes, but torch sees {there} GPUs here; start one for each "
            "(torchrun --nproc-per-node)"
        )
    own = torch.device("cuda", number)
    torch.cuda.set_device(own)
    return own


def buckets(parameters: Sequence[nn.Parameter], *, most: int) -> list[list[nn.Parameter]]:
    """The parameters in order, in groups of at most `most` bytes of one type and device; a larger one is alone."""
    found: list[list[nn.Parameter]] = []
    room = 0
    for parameter in parameters:
        size = parameter.numel() * parameter.element_size()
        alike = found and (found[-1][0].dtype, found[-1][0].device) == (parameter.dtype, parameter.device)
        if not alike or size > room:
            found.append([])
            room = most
        found[-1].append(parameter)
        room -= size
    return found


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
