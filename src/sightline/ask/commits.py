"""Commits that tasks share.

Comes in: a ledger that tasks of one event loop write to. Goes out: for each of them, when what it has written is on the
disk. Each commit waits about as long as the last one took, so that on a slow disk more tasks share one, and half of the
time is left for asking.
"""

from __future__ import annotations

import asyncio
import time

from sightline.ask.ledger import Ledger

_LONGEST_GATHERING = 0.05
"""Seconds that writes wait for others to share a commit with."""


class Commits:
    """Of one ledger, in one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next: asyncio.Task[None] | None = None
        self._seconds = 0.0

    async def durable(self) -> None:
        """Returns when what was written so far is on the disk.

        Raises:
            StorageError: it is not.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._commit())
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())  # if nobody is left to ask
        await asyncio.shield(self._next)

    async def _commit(self) -> None:
        await asyncio.sleep(self._seconds)
        self._next = None
        started = time.perf_counter()
        self._ledger.commit()
        self._seconds = min(time.perf_counter() - started, _LONGEST_GATHERING)
