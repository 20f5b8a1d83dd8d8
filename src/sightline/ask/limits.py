"""How fast one may ask, and how long to wait when the server says no.

Comes in: rates, a clock, what became of each call. Goes out: when the next call may leave. One `Gate` for all tasks of
a run: whatever slows one down slows down all. Its parts (`Bucket`, `Circuit`, `pause`, `retry_after`) are plain
arithmetic on times that are given to them. Knows nothing of questions.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol

from sightline.errors import ConfigError, TeacherError

LONGEST_WAIT = 300.0
"""Seconds: what a server asks for beyond them is cut. The `openai` client ignores what is beyond two minutes."""
_BURST = 1 / 12
"""Of a minute's allowance that may be spent at once: providers look at shorter spans than a minute, too."""
_JITTER = 0.1
"""Of a wait that the server asked for, at most, on top: not everybody shall come back at the same moment."""
_CIRCUIT_PAUSES = (30.0, 60.0, 120.0, 240.0, 300.0)
"""Seconds without calls before the 1st, 2nd, ... probe of a service that is down; after the last the run stops."""
_NO_TIME = 1e-6
"""Seconds that are not worth waiting for: what rounding leaves of a delay."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a run keeps to.

    Attributes:
        concurrency: the most requests in flight.
        requests_per_minute, tokens_per_minute: what the server grants; None for no limit.
        attempts: how often one asking is tried before its question is given up as `dead`.
        backoff_first, backoff_last: seconds of the first and the longest pause between tries.
        circuit_failures: so many failures in a row stop all asking for a while.
        warn_share, stop_share: of the replies that one reason rejects: more is worth a warning, or stops the run.
        stop_after: replies that must have been judged before a share of them stops the run.
    """

    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    attempts: int = 6
    backoff_first: float = 0.5
    backoff_last: float = 60.0
    circuit_failures: int = 20
    warn_share: float = 0.05
    stop_share: float = 0.20
    stop_after: int = 200

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts", "circuit_failures"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)} found, a number from 1 expected")
        for name in ("requests_per_minute", "tokens_per_minute"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}: {getattr(self, name)} found, a number above 0 expected, or none")


class Clock(Protocol):
    """Time as the gate sees it; tests bring their own."""

    def now(self) -> float:
        """Seconds since some moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Returns after so many of these seconds, or later."""


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that a server asks to wait: at most `LONGEST_WAIT`; None where it asks for nothing usable.

    `retry-after-ms` (OpenAI, Azure) goes before `retry-after`, which holds seconds or an HTTP date (RFC 9110, 10.2.3).
    A date is compared with the response's own `date`, so that clocks need not agree.

    Args:
        headers: of the response, names in lower case.
        now: seconds since the epoch, for a response without a date.
    """
    seconds = _number(headers.get("retry-after-ms"), 1e-3)
    if seconds is None:
        seconds = _number(headers.get("retry-after"), 1.0)
    if seconds is None:
        until, sent = (_epoch(headers.get(name)) for name in ("retry-after", "date"))
        seconds = None if until is None else until - (now if sent is None else sent)
    return min(seconds, LONGEST_WAIT) if seconds is not None and seconds > 0 else None


def _number(text: str | None, unit: float) -> float | None:
    try:
        seconds = float(text or "") * unit
    except ValueError:
        return None
    return seconds if seconds == seconds else None  # "nan" is a number to Python


def _epoch(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def pause(failures: int, *, first: float, last: float, asked: float | None, chance: float) -> float:
    """Seconds to wait after so many failures of one asking.

    Doubles from `first` to `last`, less up to a half by chance. Where the server asked for a time, it is that time, and
    up to a tenth more by chance.

    Args:
        failures: from 1.
        asked: see `retry_after`.
        chance: from 0 to 1.
    """
    if asked is not None:
        return min(asked * (1 + _JITTER * chance), max(asked, LONGEST_WAIT))
    return min(last, first * 2.0 ** min(failures - 1, 64)) * (1 - chance / 2)


class Bucket:
    """A token bucket: what is spent comes back at a steady rate.

    No span of a minute ever sees more than the limit: a full bucket holds a twelfth of it, the rest flows in over a
    minute. Where a twelfth is less than one request, they are spaced evenly, which comes to the same. What is larger
    than the bucket passes when it is full, and is paid back afterwards.
    """

    def __init__(self, per_minute: float, *, now: float) -> None:
        self.size = max(per_minute * _BURST, min(1.0, per_minute))
        self.rate = (per_minute - self.size if self.size > 1 else per_minute) / 60
        self._level = self.size
        self._at = now

    def delay(self, amount: float, *, now: float) -> float:
        """Seconds until `amount` may be spent: 0 for now."""
        self._flow(now)
        missing = min(amount, self.size) - self._level
        return max(0.0, missing / self.rate)

    def spend(self, amount: float, *, now: float) -> None:
        self._flow(now)
        self._level -= amount

    def _flow(self, now: float) -> None:
        self._level = min(self.size, self._level + (now - self._at) * self.rate)
        self._at = now


class Circuit:
    """Stops all calls after many failures in a row, then lets one at a time through to see whether the service is back.

    Attributes:
        open: whether calls are stopped, or leave one at a time.
    """

    def __init__(self, failures: int) -> None:
        self._most = failures
        self._failures = self._pauses = 0
        self._until = 0.0
        self._ever = False

    @property
    def open(self) -> bool:
        return self._failures >= self._most

    def delay(self, *, now: float) -> float:
        """Seconds until the next call may leave: 0 for now."""
        return max(0.0, self._until - now) if self.open else 0.0

    def succeeded(self) -> None:
        self._failures = self._pauses = 0
        self._ever = True

    def failed(self, reason: str, *, now: float, busy: bool = False) -> None:
        """
        Raises:
            TeacherError: no call has ever succeeded, or the service did not come back after all pauses.
        """
        stopped = self.open and now < self._until
        self._failures += 1
        if not self.open or stopped:  # the latter left before calls were stopped
            return
        if (not self._ever and not busy) or self._pauses == len(_CIRCUIT_PAUSES):
            since = f"{self._pauses} pauses have not helped" if self._pauses else "none has succeeded yet"
            raise TeacherError(
                f"{self._failures} calls in a row have failed, the last one with {reason}, and {since}: is the address "
                "right, and the service up? All replies are kept: the same command continues"
            )
        self._until = now + _CIRCUIT_PAUSES[self._pauses]
        self._pauses += 1


class Gate:
    """Where every call of a run passes, one after the other.

    Each refusal for being too fast (429) halves the number of calls that may be in flight, each success lets it grow
    again by the inverse of itself, as TCP does (RFC 5681, 3.1).
    """

    def __init__(self, limits: Limits, clock: Clock, chance: random.Random) -> None:
        self._limits, self._clock, self._chance = limits, clock, chance
        now = clock.now()
        rates = (limits.requests_per_minute, limits.tokens_per_minute)
        self._buckets = [None if rate is None else Bucket(rate, now=now) for rate in rates]
        self._circuit = Circuit(limits.circuit_failures)
        self._allowed = float(limits.concurrency)
        self._in_flight = 0
        self._not_before = now
        self._turn = asyncio.Lock()  # first come, first served
        self._changed = asyncio.Event()

    async def enter(self, tokens: int) -> None:
        """Returns when one call, of a size of so many tokens, may leave at once. `leave` must follow."""
        async with self._turn:
            while (delay := self._delay(tokens)) > 0:
                await self._wait(delay)
            now = self._clock.now()
            for bucket, amount in zip(self._buckets, (1, tokens), strict=True):
                if bucket:
                    bucket.spend(amount, now=now)
            self._in_flight += 1

    def _delay(self, tokens: int) -> float:
        if self._in_flight >= (1 if self._circuit.open else int(self._allowed)):
            return float("inf")
        now = self._clock.now()
        waits = [bucket.delay(n, now=now) for bucket, n in zip(self._buckets, (1, tokens), strict=True) if bucket]
        delay = max(self._not_before - now, self._circuit.delay(now=now), *waits, 0.0)
        return delay if delay > _NO_TIME else 0.0

    async def _wait(self, delay: float) -> None:
        """Until the delay is over, or a call ends (which may make it longer or shorter)."""
        self._changed.clear()
        ended = asyncio.ensure_future(self._changed.wait())
        slept = asyncio.ensure_future(self._clock.sleep(delay)) if delay < float("inf") else None
        both = [ended] if slept is None else [ended, slept]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()

    def leave(self) -> None:
        """A call has ended, whatever became of it."""
        self._in_flight -= 1
        self._changed.set()

    def succeeded(self) -> None:
        """A call brought a reply."""
        self._circuit.succeeded()
        self._allowed = min(float(self._limits.concurrency), self._allowed + 1 / self._allowed)

    def failed(self, reason: str, failures: int, *, asked: float | None, busy: bool) -> float:
        """A call brought none: seconds that its asking is to wait. What the server asks for, all wait for.

        Args:
            failures: of this asking so far, with this one.
            asked: see `retry_after`.
            busy: the server wants fewer calls.

        Raises:
            TeacherError: it is no use to go on.
        """
        now = self._clock.now()
        self._circuit.failed(reason, now=now, busy=busy)
        limits, chance = self._limits, self._chance.random()
        wait = pause(failures, first=limits.backoff_first, last=limits.backoff_last, asked=asked, chance=chance)
        if busy and now >= self._not_before:  # those that were in flight together slow down once
            self._allowed = max(1.0, self._allowed / 2)
        if busy or asked is not None:
            self._not_before = max(self._not_before, now + wait)
        return wait
