"""What the API answers, in OpenAI's form.

Comes in: what the engine said of one request. Goes out: JSON. Sends nothing.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from sightline.serve.refusals import Refusal
from sightline.serve.request import Chance, End, Piece


class Reply:
    """One answer, whole or in chunks.

    Args:
        bytes_of: what a token adds to a text.
        chances: whether `logprobs` were asked for.
        usage: whether the chunks end with the counts of tokens.
    """

    def __init__(self, model: str, *, bytes_of: Callable[[int], bytes], chances: bool, usage: bool) -> None:
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._bytes_of, self._chances, self._usage = bytes_of, chances, usage

    def whole(self, pieces: Sequence[Piece], end: End) -> dict[str, Any]:
        """The answer of a request that is not streamed."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(piece.text for piece in pieces), "refusal": None},
            "logprobs": self._logprobs(pieces),
            "finish_reason": end.reason,
        }
        return self._head | {"object": "chat.completion", "choices": [choice], "usage": usage_of(end)}

    def opening(self) -> bytes:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def said(self, pieces: Sequence[Piece]) -> bytes:
        """A chunk of whatever came since the last; nothing, where there is nothing to tell."""
        text = "".join(piece.text for piece in pieces)
        return self._chunk({"content": text}, self._logprobs(pieces)) if text or (self._chances and pieces) else b""

    def closing(self, end: End) -> bytes:
        """The last chunks, and the mark after which nothing comes."""
        last = self._chunk({}, finish=end.reason)
        if self._usage:
            last += event(self._head | {"object": "chat.completion.chunk", "choices": [], "usage": usage_of(end)})
        return last + b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], logprobs: Any = None, *, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        chunk = self._head | {"object": "chat.completion.chunk", "choices": [choice]}
        return event(chunk | ({"usage": None} if self._usage else {}))

    def _logprobs(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        if not self._chances:
            return None
        content = []
        for piece in pieces:
            own, *likeliest = map(self._chance, piece.chances)
            content.append(own | {"top_logprobs": likeliest})
        return {"content": content, "refusal": None}

    def _chance(self, chance: Chance) -> dict[str, Any]:
        own = self._bytes_of(chance.token)
        return {"token": own.decode(errors="replace"), "logprob": max(chance.logprob, -9999.0), "bytes": list(own)}


def broken_off(refusal: Refusal) -> bytes:
    """The last event of a stream that failed on the way: no mark comes after it."""
    return event(refusal.body())


def event(content: dict[str, Any]) -> bytes:
    """One server-sent event (HTML standard, section 9.2)."""
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def usage_of(end: End) -> dict[str, Any]:
    """The counts of tokens; a picture counts as the positions it takes."""
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.tokens,
        "total_tokens": end.prompt_tokens + end.tokens,
        "prompt_tokens_details": {"cached_tokens": end.reused},
    }
