"""What the tests of asking share: questions, a teacher without a network, and time that passes as it is told to."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sightline.ask.question import Message, Question, Reply
from sightline.ask.teacher import completion_body

MODEL = "painter-1"


def question(number: int = 0, *, kind: str = "detail", max_tokens: int = 20, **fields: Any) -> Question:
    """One of many."""
    messages = (Message("system", "You describe pictures."), Message("user", f"Describe picture {number}."))
    return Question.of(messages, model=MODEL, kind=kind, max_tokens=max_tokens, subject=f"picture-{number}", **fields)


def questions(number: int, **fields: Any) -> list[Question]:
    return [question(one, **fields) for one in range(number)]


def content(asked: Question, reply: Reply) -> str | None:
    """A judge that takes everything."""
    return None


@dataclass
class PlainTeacher:
    """Answers with what `script` returns for a question, the asking's number and the how-manieth try of it this is.

    Attributes:
        latency: seconds for each answer.
        calls: when each came, and for which key.
    """

    script: Callable[[Question, int, int], str | bytes | Exception] = lambda asked, ask, attempt: "A red bus waits."
    latency: float = 0.0
    tokens: tuple[int, int] = (10, 5)
    calls: list[tuple[float, str]] = field(default_factory=list)
    tries: Counter[tuple[str, int]] = field(default_factory=Counter)
    closed: int = 0

    async def reply(self, asked: Question, ask: int) -> bytes:
        self.calls.append((asyncio.get_running_loop().time(), asked.key))
        attempt = self.tries[asked.key, ask]
        self.tries[asked.key, ask] += 1
        if self.latency:
            await asyncio.sleep(self.latency)
        said = self.script(asked, ask, attempt)
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, bytes) else completion_body(said, model=asked.model, tokens=self.tokens)

    async def close(self) -> None:
        self.closed += 1


class FastClock:
    """The machine's clock, some times faster."""

    def __init__(self, speed: float) -> None:
        self.speed = speed

    def now(self) -> float:
        return time.monotonic() * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


class LoopClock:
    """The clock of the running loop: with `virtual_time`, one that jumps."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _VirtualLoop(asyncio.SelectorEventLoop):
    """Whenever everybody sleeps, it is later at once."""

    def __init__(self) -> None:
        self.later = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.later


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: _VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits for somebody else"
        self._loop.later += max(0.0, timeout)
        return super().select(0)


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _VirtualLoop()


@contextmanager
def virtual_time() -> Iterator[None]:
    """Inside, `asyncio.run` lets no real time pass."""
    asyncio.set_event_loop_policy(_Policy())
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(None)
