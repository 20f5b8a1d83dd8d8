"""Who may ask: the door in front of every route.

Comes in: a connection. Goes out: the same with a request id, or a refusal. On this machine alone the `Host` must be one
of its own names, so that a page from elsewhere cannot reach the server under a name of its own (DNS rebinding); a page
may only call the server that it came from; with an API key, everything but the page, its files and the health check
needs it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline.serve.limits import BODY_BYTES
from sightline.serve.refusals import Refusal

LINGER = 2.0
"""Seconds."""
HEADERS, HEADER_BYTES = 100, 2**16
"""Of one request, in number and together."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, kw_only=True)
class Door:
    """What the guard asks for.

    Attributes:
        hosts: names, without port, under which the server may be called; None: any.
        key: the API key; None: none is needed.
        open_paths: what needs no key.
    """

    hosts: Collection[str] | None = LOOPBACK_NAMES
    key: str | None = None
    open_paths: Collection[str] = ("/health",)


class Guard:
    """ASGI middleware. `refused` is told each refusal."""

    def __init__(self, app: ASGIApp, *, door: Door, refused: Callable[[Refusal], None]) -> None:
        self._app, self._door, self._refused = app, door, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = f"req_{secrets.token_hex(12)}"

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = identity
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            self._check(Headers(scope=scope), scope["path"])
        except Refusal as refusal:
            self._refused(refusal)
            await refused(refusal)(scope, receive, signed)
        else:
            await self._app(scope, receive, signed)

    def _check(self, headers: Headers, path: str) -> None:
        if len(headers.raw) > HEADERS or sum(len(name) + len(value) for name, value in headers.raw) > HEADER_BYTES:
            raise Refusal("headers_too_large")
        host = headers.get("host", "")
        if self._door.hosts is not None and _without_port(host) not in self._door.hosts:
            raise Refusal("foreign_host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refusal("foreign_host")
        if self._door.key is not None and path not in self._door.open_paths:
            given = headers.get("authorization", "")
            # Digests are of one length: the comparison tells nothing of the key's.
            pair = (hashlib.sha256(text.encode()).digest() for text in (given, f"Bearer {self._door.key}"))
            if not hmac.compare_digest(*pair):
                raise Refusal("invalid_api_key")


def refused(refusal: Refusal) -> JSONResponse:
    """The response of a refusal."""
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.status in (408, 413):
        headers["connection"] = "close"
    kind = Lingering if refusal.status == 413 else JSONResponse
    return kind(refusal.body(), status_code=refusal.status, headers=headers)


class Lingering(JSONResponse):
    """The response to a body that is not wanted: a little more of it is thrown away before the connection closes.

    Most clients listen only when all was sent; to a connection that closes before, they know of no response.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        left, more = BODY_BYTES, True
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while more and left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() and not name.endswith(":") else host).lower()
