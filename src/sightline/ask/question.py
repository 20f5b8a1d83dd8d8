"""What is asked, and what came back.

Comes in: chat messages and how they are to be answered. Goes out: a `Question` under a key that stands for everything
that decides its answer, the JSON body of its request, and a `Reply` read from the raw bytes that a teacher returned.
Pure: reads no network and no ledger. Pictures are read from their files when a body is made, never decoded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sightline.errors import DataError

Role = Literal["system", "user", "assistant"]

# The first bytes of the formats that OpenAI's and vLLM's image_url take: the PNG signature, JPEG's SOI and a marker,
# RIFF WEBP.
_MARKS = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "webp": re.compile(rb"RIFF....WEBP", re.S),
}


@dataclass(frozen=True)
class Picture:
    """A picture that a message shows.

    Attributes:
        path: its file, PNG, JPEG or WebP.
        sha256: of the file's content. The key depends on it, not on the path.
    """

    path: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Picture:
        """The picture in a file."""
        with path.open("rb") as file:
            return cls(str(path), hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True)
class Message:
    """One message of an OpenAI chat: text, and before it the pictures that it shows."""

    role: Role
    content: str
    images: tuple[Picture, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Question:
    """One thing to be asked, once. Made by `Question.of`, which computes the key.

    Attributes:
        key: `key_of` everything below: 64 hexadecimal digits.
        messages: the chat so far; the last one is the user's.
        max_tokens: the most tokens of the reply.
        temperature: 0 for the likeliest reply.
        model: the teacher's name for itself, such as `gpt-4o-mini`.
        kind: what is counted together, such as `conversation`.
        subject: what it is about, in the words of whoever asks (a picture's name, say). It stands in the ledger beside
            the reply, so that whoever exports needs the ledger alone.
        version: of the prompts, such as their hash. See `edition`.
    """

    key: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float
    model: str
    kind: str
    subject: str
    version: str

    @classmethod
    def of(
        cls,
        messages: Sequence[Message],
        *,
        model: str,
        kind: str,
        max_tokens: int,
        temperature: float = 0.0,
        subject: str = "",
        version: str = "",
    ) -> Question:
        """A question under its key."""
        fields: dict[str, Any] = {
            "messages": tuple(messages),
            "max_tokens": max_tokens,
            "temperature": float(temperature),
            "model": model,
            "kind": kind,
            "subject": subject,
            "version": version,
        }
        return cls(key=key_of(**fields), **fields)

    @property
    def images(self) -> tuple[Picture, ...]:
        """All pictures that it shows, in their order."""
        return tuple(image for message in self.messages for image in message.images)

    @property
    def edition(self) -> str:
        """Stands for everything but the subject: answers of two editions are not to be mixed. 12 hexadecimal digits."""
        return _digest([self.model, self.version, self.max_tokens, self.temperature])[:12]


@dataclass(frozen=True)
class Reply:
    """What a teacher said.

    Attributes:
        text: the reply, never empty.
        finish_reason: `stop` for one that came to its end.
        prompt_tokens, completion_tokens: as billed; None where the server does not say.
        raw: the body as it came.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    raw: bytes


def request_body(
    question: Question, ask: int, *, seeded: bool = True, tokens_field: str = "max_tokens"
) -> dict[str, Any]:
    """The JSON body of a chat-completions request; reads the pictures' files.

    Args:
        ask: the how-manieth asking, from 0. As the `seed` it tells a second asking from a repetition of the first.
        seeded: whether the server takes a `seed`.
        tokens_field: `max_tokens`, or `max_completion_tokens` for models that insist on it.

    Raises:
        DataError: a picture is gone, has changed, or is of another format.
    """
    body = {
        "model": question.model,
        "messages": [_message_body(message) for message in question.messages],
        tokens_field: question.max_tokens,
        "temperature": question.temperature,
    }
    return body | {"seed": ask} if seeded else body


def _message_body(message: Message) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.content}
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(i)}} for i in message.images]
    return {"role": message.role, "content": [*parts, {"type": "text", "text": message.content}]}


def _data_url(picture: Picture) -> str:
    try:
        content = Path(picture.path).read_bytes()
    except OSError as error:
        raise DataError(f"{picture.path}: cannot be read: {error.strerror}", reason="image_missing") from error
    if hashlib.sha256(content).hexdigest() != picture.sha256:
        raise DataError(f"{picture.path}: has changed since the question was made: start again", reason="image_changed")
    kind = next((name for name, mark in _MARKS.items() if mark.match(content)), None)
    if kind is None:
        raise DataError(f"{picture.path}: not PNG, JPEG or WebP, which servers take: convert it", reason="image_format")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def key_of(
    *,
    messages: tuple[Message, ...],
    max_tokens: int,
    temperature: float,
    model: str,
    kind: str,
    subject: str,
    version: str,
) -> str:
    """The SHA-256 over everything that decides the answer to a question, in hexadecimal."""
    chat = [[message.role, message.content, [image.sha256 for image in message.images]] for message in messages]
    return _digest([chat, max_tokens, temperature, model, kind, subject, version])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()
