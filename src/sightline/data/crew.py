"""Work on many things by several processes, with results in order.

Comes in: what every process needs, a function, tasks. Goes out: each task with its result, in the order of the tasks,
whatever the number of processes. The first tasks are done in this process: most jobs end before others would have
started. Knows nothing of what the work is.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

ALONE = 64
"""Tasks that are done before others are called in. A new process imports torch and transformers, which takes some five
seconds of a core; a task is meant to take some tenths of one. With 16, checking 12,000 short samples took twice as long
with two processes as with one."""
MOST = 16
"""Processes at most: reading a file, which one process does for all, feeds about thirty."""
AHEAD = 4
"""Tasks that wait for each process, so that none is idle and memory stays bounded."""

_shared: Any = None


class Crew(Generic[S]):
    """Processes that share `state`, which is sent to each of them once. Close it to end them.

    Args:
        processes: how many; None: one for each core that this process may use. No more than `MOST`.
    """

    def __init__(self, state: S, *, processes: int | None = None) -> None:
        self._state = state
        self._count = min(MOST, _cores() if processes is None else max(1, processes))
        self._pool: ProcessPoolExecutor | None = None

    def map(self, work: Callable[[S, T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Tasks and results. `work` is a function of a module; tasks and results can be pickled."""
        tasks = iter(tasks)
        for task in tasks if self._count == 1 else itertools.islice(tasks, ALONE):
            yield task, work(self._state, task)
        pending: deque[tuple[T, Future[R] | None]] = deque()
        for task in tasks:
            pending.append((task, self._submit(work, task)))
            if len(pending) > AHEAD * self._count:
                yield self._finished(work, *pending.popleft())
        while pending:
            yield self._finished(work, *pending.popleft())

    def _submit(self, work: Callable[[S, T], R], task: T) -> Future[R] | None:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._count, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(self._state,)
            )
        try:
            return self._pool.submit(_work, work, task)
        except BrokenProcessPool:
            return None

    def _finished(self, work: Callable[[S, T], R], task: T, future: Future[R] | None) -> tuple[T, R]:
        """The result; done here where the processes cannot start or were killed, as when memory ran out."""
        try:
            return task, work(self._state, task) if future is None else future.result()
        except BrokenProcessPool:
            return task, work(self._state, task)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Those that this process may use, where the system tells (Linux), else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(state: object) -> None:
    """In a new process: keeps what is shared, leaves Ctrl-C to the first process, and ends with it, however it ends."""
    global _shared
    _shared = state
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(work: Callable[[Any, T], R], task: T) -> R:
    return work(_shared, task)
