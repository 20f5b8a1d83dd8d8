"""A request's body, counted while it arrives.

Comes in: the connection. Goes out: bytes, or a `Refusal` before more than the limit was kept. Does not know what the
bytes mean.
"""

from __future__ import annotations

import asyncio
from email.message import Message

from starlette.requests import ClientDisconnect, Request

from sightline.serve.limits import BODY_BYTES
from sightline.serve.refusals import Refusal


class Budget:
    """Bytes that all requests that are being received may hold together."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, count: int) -> None:
        """Raises: Refusal: there are not so many left."""
        if count > self._left:
            raise Refusal("queue_full", retry_after=5)
        self._left -= count

    def give_back(self, count: int) -> None:
        """When the bytes are gone."""
        self._left += count


async def read_body(request: Request, *, seconds: float, budget: Budget) -> bytes:
    """The whole body.

    Raises:
        Refusal: it is no JSON by its headers, too large, too slow, or there is no room for it now.
        ClientDisconnect: it ended early.
    """
    _check_headers(request)
    parts: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(seconds):
            more = True
            while more:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise ClientDisconnect
                part, more = message.get("body", b""), message.get("more_body", False)
                if total + len(part) > BODY_BYTES:
                    raise Refusal("body_too_large")
                budget.take(len(part))
                total += len(part)
                parts.append(part)
    except TimeoutError:
        raise Refusal("request_timeout") from None
    finally:
        budget.give_back(total)
    return b"".join(parts)


def _check_headers(request: Request) -> None:
    kind = Message()
    kind["content-type"] = request.headers.get("content-type", "")
    coded = request.headers.get("content-encoding", "identity").lower() != "identity"
    if coded or kind.get_content_type() != "application/json" or kind.get_param("charset", "utf-8") not in _CHARSETS:
        raise Refusal("unsupported_media_type")
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or len(length) > 18 or int(length) > BODY_BYTES:
        raise Refusal("body_too_large")


_CHARSETS = ("utf-8", "UTF-8", "utf8", "UTF8")
