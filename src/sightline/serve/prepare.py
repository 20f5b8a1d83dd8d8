"""From a request's messages to what the engine takes.

Comes in: messages that the schema let through. Goes out: ids, pixels and the names of pictures, made by the same code
that made the training data, so that a conversation here is the one that `sightline chat` has. Runs in a small pool of
threads: decoding a picture must not hold up the others' streams.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.data.processor import Processor
from sightline.data.sample import ImageRef, Turn, canonical_content
from sightline.data.values import checked_text
from sightline.errors import ConfigError, DataError
from sightline.infer.explain import Told, told
from sightline.serve.limits import CHARACTERS_PER_POSITION, PICTURES
from sightline.serve.pictures import Fetch, picture_at
from sightline.serve.refusals import Refusal
from sightline.serve.schema import AssistantMessage, ImagePart, Message, SystemMessage, TextPart, UserMessage
from sightline.serve.shelf import Pictures, picture_keys


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What was said: `addresses` are those of the pictures, in reading order, with the parameter that held each."""

    system: str | None
    turns: list[Turn]
    addresses: list[tuple[str, str]]

    @property
    def characters(self) -> int:
        """Of all words."""
        words = [part for turn in self.turns for part in turn.content if isinstance(part, str)]
        return sum(map(len, words)) + len(self.system or "")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """See `Request`."""

    ids: list[int]
    pixels: Tensor
    pictures: Pictures


def conversation(messages: Sequence[Message]) -> Conversation:
    """Messages as turns.

    Parts stand on lines of their own. A question's only picture comes first, as in training.

    Raises:
        Refusal: their order, a text or the number of pictures.
    """
    system: str | None = None
    turns: list[Turn] = []
    addresses: list[tuple[str, str]] = []
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        if isinstance(message, SystemMessage) and number == 0:
            system = checked_words(_text(message.content), f"{where}.content")
            continue
        due = UserMessage if len(turns) % 2 == 0 else AssistantMessage
        if not isinstance(message, due):
            raise Refusal("roles_must_alternate", param=f"{where}.role")
        if isinstance(message, UserMessage):
            content = _question(message, f"{where}.content", addresses)
            turns.append(Turn(role="user", content=content))
        else:
            assert isinstance(message, AssistantMessage)
            turns.append(Turn(role="assistant", content=(_text(message.content),)))  # a model may have said anything
        if not any(isinstance(part, ImageRef) or part.strip() for part in turns[-1].content):
            raise Refusal("empty_message", param=f"{where}.content")
    if not turns or turns[-1].role != "user":
        raise Refusal("roles_must_alternate", param="messages")
    return Conversation(system=system, turns=turns, addresses=addresses)


def _question(message: UserMessage, where: str, addresses: list[tuple[str, str]]) -> tuple[str | ImageRef, ...]:
    parts = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
    pieces: list[str | ImageRef] = []
    for place, part in enumerate(parts):
        if place:
            pieces.append("\n")
        if isinstance(part, ImagePart):
            pieces.append(ImageRef(index=len(addresses)))
            addresses.append((part.image_url.url, f"{where}.{place}.image_url.url"))
            if len(addresses) > PICTURES:
                raise Refusal("too_many_images", param=where)
        else:
            pieces.append(checked_words(part.text, where))
    return canonical_content(pieces)


def _text(content: str | list[TextPart]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def checked_words(text: str, where: str) -> str:
    """A text that a data file could hold; `Refusal` where it is none."""
    try:
        return checked_text(text, where)
    except DataError:
        raise Refusal("invalid_text", param=where) from None


class Preparer:
    """Prepares requests for one model."""

    def __init__(self, processor: Processor, *, context: int, fetch: Fetch | None) -> None:
        self._processor, self._context, self._fetch = processor, context, fetch
        self._tokenizer = threading.Lock()  # tokenizers of Rust say "already borrowed" to a second thread

    def __call__(self, talk: Conversation) -> Prepared:
        """Ids first: a conversation that is too long costs no decoding.

        Raises:
            Refusal: with the reason, and the parameter.
        """
        self._check(talk.characters)
        try:
            with self._tokenizer:
                ids = self._processor.prompt(talk.turns, system=talk.system)
        except (DataError, ConfigError):
            raise Refusal("unsupported_conversation", param="messages") from None
        if len(ids) >= self._context:
            raise Refusal("context_length_exceeded", param="messages")
        pixels = self._processor.pixels([])
        if talk.addresses:  # put together by numpy: see `engine` on threads that compute
            pixels = torch.from_numpy(np.concatenate([self._pixels(*address).numpy() for address in talk.addresses]))
        return Prepared(ids=ids, pixels=pixels, pictures=picture_keys(pixels))

    def told(self, talk: Conversation, answer: str) -> tuple[Told, list[Image.Image]]:
        """An answer that is to be explained, and the pictures at their full size. `Refusal` as above."""
        self._check(talk.characters + len(answer))
        try:
            with self._tokenizer:
                asked = told(self._processor, talk.turns, answer, system=talk.system)
        except DataError:
            raise Refusal("unsupported_conversation", param="messages") from None
        except ConfigError:
            raise Refusal("nothing_to_explain", param="answer") from None
        if len(asked.ids) > self._context:
            raise Refusal("context_length_exceeded", param="messages")
        return asked, [self._picture(*address) for address in talk.addresses]

    def _check(self, characters: int) -> None:
        if characters > CHARACTERS_PER_POSITION * self._context:
            raise Refusal("context_length_exceeded", param="messages")

    def _pixels(self, address: str, where: str) -> Tensor:
        """float32[1, 3, H, W]; one picture at a time is held at its full size."""
        return self._processor.pixels([self._picture(address, where)])

    def _picture(self, address: str, where: str) -> Image.Image:
        try:
            return picture_at(address, fetch=self._fetch)
        except Refusal as refusal:
            raise Refusal(refusal.code, param=where) from None
