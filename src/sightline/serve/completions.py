"""`POST /v1/chat/completions`.

Comes in: a request. Goes out: the answer in OpenAI's form, whole or as a stream of events. Until the first token is
there a failure is an ordinary error; later it is the stream's last event.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sightline.infer.chat import stop_rule
from sightline.infer.sampling import Sampling
from sightline.infer.token_bytes import token_bytes
from sightline.serve.answer import Answer
from sightline.serve.limits import DEFAULT_TOKENS
from sightline.serve.prepare import Prepared, conversation
from sightline.serve.refusals import Refusal
from sightline.serve.replies import Reply, broken_off
from sightline.serve.request import End, Piece, Request
from sightline.serve.schema import ChatRequest, parse
from sightline.serve.service import Served, Service


async def complete(http: HttpRequest) -> Response:
    """The route."""
    service: Service = http.app.state.service
    arrived = time.monotonic()
    asked = parse(ChatRequest, await service.body(http))
    served = service.named(asked.model)
    _check(asked)
    talk = conversation(asked.messages)

    def make(prepared: Prepared, answer: Answer) -> Request:
        return _request(asked, served, prepared, answer, arrived=arrived, deadline=arrived + service.limits.answer)

    answer = await service.ask(served, talk, make, http)
    reply = Reply(
        served.name,
        bytes_of=partial(token_bytes, served.processor.tokenizer),
        chances=bool(asked.logprobs),
        usage=bool(asked.stream_options and asked.stream_options.include_usage),
    )
    events = answer.events()
    with ExitStack() as undo:
        undo.callback(answer.leave)
        first = await anext(events)
        if not asked.stream:
            return JSONResponse(await _whole(reply, first, events))
        undo.pop_all()
    return EventStream(_chunks(reply, first, events, service), leave=answer.leave)


class EventStream(Response):
    """Server-sent events, each sent as soon as it is there. `leave` is called however it ends."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[bytes], *, leave: Callable[[], None]) -> None:
        super().__init__()
        self._chunks, self._leave = chunks, leave
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for chunk in self._chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._leave()


Events = AsyncIterator[list[Piece] | End]


async def _whole(reply: Reply, first: list[Piece] | End, events: Events) -> dict[str, Any]:
    pieces: list[Piece] = []
    found = first
    while not isinstance(found, End):
        pieces += found
        found = await anext(events)
    return reply.whole(pieces, found)


async def _chunks(reply: Reply, first: list[Piece] | End, events: Events, service: Service) -> AsyncIterator[bytes]:
    yield reply.opening()
    found = first
    try:
        while not isinstance(found, End):
            if chunk := reply.said(found):
                yield chunk
            found = await anext(events)
        yield reply.closing(found)
    except Refusal as refusal:
        service.count(refusal)
        yield broken_off(refusal)


def _check(asked: ChatRequest) -> None:
    """What one parameter means for another."""
    if asked.top_logprobs is not None and not asked.logprobs:
        raise Refusal("invalid_value", param="top_logprobs")
    if asked.stream_options is not None and not asked.stream:
        raise Refusal("invalid_value", param="stream_options")


def _request(
    asked: ChatRequest, served: Served, prepared: Prepared, answer: Answer, *, arrived: float, deadline: float
) -> Request:
    temperature = asked.temperature or 0.0
    tokens = asked.max_completion_tokens or asked.max_tokens or DEFAULT_TOKENS
    sampling = Sampling(
        temperature=temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        top_k=asked.top_k or 0,
        max_new_tokens=tokens,
        seed=secrets.randbits(63) if asked.seed is None else asked.seed,
    )
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    stop = stop_rule(served.processor)
    return Request(
        ids=prepared.ids,
        pixels=prepared.pixels,
        pictures=prepared.pictures,
        sampling=sampling,
        stop=replace(stop, texts=(*stop.texts, *stops)),
        top=(asked.top_logprobs or 0) if asked.logprobs else None,
        deliver=answer.deliver,
        arrived=arrived,
        deadline=deadline,
    )
