"""The raw body of a chat completion, read.

Comes in: bytes that a server, a batch file or a teacher of our own gave. Goes out: a `Reply`, or the reason why there
is none; and what it cost. The bytes are not trusted: anything may stand in them. Pure.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeGuard

from sightline.ask.question import Reply

LARGEST_REPLY = 512 * 1024
"""Bytes of a body that are read. 4096 tokens of text take some 20 KB; a body that is larger is no reply to us."""

# What OpenAI adds to a model's name in its replies: "gpt-4o" answers as "gpt-4o-2024-08-06", "gpt-4" as "gpt-4-0613".
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})")
_MOST_TOKENS = 10**9


class Unusable(Exception):  # noqa: N818 - a kind of reply, not a mistake of anybody
    """A body that holds no reply.

    Attributes:
        reason: a stable code to count by.
        cut: it is no completion at all but was lost on its way; the same request is to be sent again.
    """

    def __init__(self, reason: str, *, cut: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cut = cut


def read_reply(raw: bytes, *, model: str) -> Reply:
    """The reply in a body.

    Raises:
        Unusable: `not_json`, `not_a_completion` (both cut), `too_large`, `no_choices`, `refusal` (the server says that
            the model refused), `content_filter`, `length` (`max_tokens` cut it), `no_text`, `bad_text` (half a
            surrogate pair), `other_model`.
    """
    if len(raw) > LARGEST_REPLY:
        raise Unusable("too_large")
    body = _parsed(raw)
    if not isinstance(body, dict) or not isinstance(body.get("choices"), list):
        raise Unusable("not_a_completion" if body is not None else "not_json", cut=True)
    if not body["choices"]:
        raise Unusable("no_choices")
    choice = body["choices"][0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise Unusable("not_a_completion", cut=True)
    if not _same_model(body.get("model"), model):
        raise Unusable("other_model")
    if message.get("refusal"):
        raise Unusable("refusal")
    finish_reason = choice.get("finish_reason")
    if finish_reason in ("content_filter", "length"):
        raise Unusable(finish_reason)
    text = message.get("content")
    if not isinstance(text, str) or not text.strip():
        raise Unusable("no_text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Unusable("bad_text")
    prompt, completion = _usage(body) or (None, None)
    return Reply(text, str(finish_reason or ""), prompt, completion, raw)


def read_usage(raw: bytes) -> tuple[int, int] | None:
    """Tokens of the prompt and of the reply, as billed; None where the body does not say."""
    body = _parsed(raw) if len(raw) <= LARGEST_REPLY else None
    return _usage(body) if isinstance(body, dict) else None


def _parsed(raw: bytes) -> Any:
    """What a JSON text holds; None for anything else."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, a number of 5000 digits; nested too deeply
        return None


def _usage(body: dict[str, Any]) -> tuple[int, int] | None:
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (prompt, completion) if _is_count(prompt) and _is_count(completion) else None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS


def _same_model(said: object, asked: str) -> bool:
    """Whether a reply's model is the one that was asked: its name, perhaps dated, perhaps without its provider.

    A server that says nothing is believed.
    """
    if not isinstance(said, str) or not said:
        return True
    last_said, last_asked = (name.rstrip("/").rpartition("/")[2].casefold() for name in (said, asked))
    rest = last_said.removeprefix(last_asked)
    return last_said == last_asked or (rest != last_said and _DATED.fullmatch(rest) is not None)
