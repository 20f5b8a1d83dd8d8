"""One request between the engine's thread and the event loop.

Comes in: events from the engine's thread, and the client's leaving from the connection. Goes out: the events on the
loop, as many at once as have come. The place in the queue is given back when the engine is done with the request, not
when the client stops listening.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from starlette.types import Receive

from sightline.serve.engine import Engine
from sightline.serve.refusals import Refusal
from sightline.serve.request import End, Event, Fault, Piece, Request


class Seats:
    """Requests that an engine has or may have to wait for."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def claim(self, *, wait: Callable[[], int]) -> None:
        """Takes one.

        Args:
            wait: seconds after which there may be another.

        Raises:
            Refusal: there is none.
        """
        if self.taken >= self.most:
            raise Refusal("queue_full", retry_after=wait())
        self.taken += 1

    def release(self) -> None:
        """Gives it back."""
        self.taken -= 1


class Answer:
    """What comes of one request. Made on the event loop; from then on it looks whether the client is still there.

    Attributes:
        left: nobody listens any more.
    """

    def __init__(self, receive: Receive, *, release: Callable[[], None]) -> None:
        self.left = False
        self._loop = asyncio.get_running_loop()
        self._release = release
        self._events: list[Event] = []
        self._bell = asyncio.Event()
        self._request: Request | None = None
        self._watch = asyncio.create_task(self._wait_for_leaving(receive))

    def deliver(self, event: Event) -> None:
        """Called from the engine's thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._take, event)

    def begin(self, engine: Engine, request: Request) -> None:
        """Hands the request to the engine."""
        self._request = request
        request.cancelled = self.left
        engine.submit(request)

    def leave(self) -> None:
        """Nobody will listen any more."""
        self._watch.cancel()
        self._gone()

    async def events(self) -> AsyncIterator[list[Piece] | End]:
        """Everything since the last time, at least one piece; the end by itself.

        Raises:
            Refusal: what the engine's fault means to a client.
        """
        while True:
            await self._bell.wait()
            self._bell.clear()
            events, self._events = self._events, []
            pieces = [event for event in events if isinstance(event, Piece)]
            if pieces:
                yield pieces
            for event in events:
                if isinstance(event, End):
                    yield event
                    return
                if isinstance(event, Fault):
                    raise Refusal(event.code, retry_after=5 if event.code in ("memory", "stopping") else None)

    def _take(self, event: Event) -> None:
        if not isinstance(event, Piece):
            self._release()
        self._events.append(event)
        self._bell.set()

    async def _wait_for_leaving(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone()

    def _gone(self) -> None:
        self.left = True
        if self._request is not None:
            self._request.cancelled = True
