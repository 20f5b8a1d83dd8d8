"""What one training sample is: a conversation about pictures.

Comes in: nothing but what `parsing` found. Goes out: frozen types that every later stage reads. Knows nothing of files,
tokens, templates or pixels: a picture is a path here, and nobody has opened it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sightline.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRef:
    """A place in a turn where `Sample.images[index]` is seen."""

    index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What one speaker says: texts and pictures in reading order."""

    role: Literal["user", "assistant"]
    content: tuple[str | ImageRef, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A conversation about pictures. Turns alternate from user to assistant; references count up from 0.

    `images` are paths relative to the image root (absolute only where the user named the file on the command line);
    `source` is the place in the data file, for messages.
    """

    id: str
    images: tuple[str, ...]
    turns: tuple[Turn, ...]
    system: str | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Why a sample is not used: where it is, at which key, a stable code to count by, one line for people."""

    file: str
    line: int
    index: int | None = None
    key: str
    reason: str
    message: str
    id: str | None = None
    """The sample's own name, where it has a readable one."""


def refusal(sample: Sample, error: DataError) -> Rejection:
    """The rejection of a sample that could be read, but not used."""
    file, _, place = sample.source.rpartition(":")
    line = place.split("[")[0]
    told = str(error)
    if not sample.source or not told.startswith(sample.source):
        told = f"{sample.source}: id {sample.id}: {told}"
    return Rejection(
        file=file,
        line=int(line) if line.isdigit() else 0,
        key="",
        reason=error.reason,
        message=told,
        id=sample.id,
    )


def canonical_content(pieces: Sequence[str | ImageRef]) -> tuple[str | ImageRef, ...]:
    """Put a turn's only picture in front of its words, as LLaVA's `preprocess_multimodal` does.

    One picture: `(picture, "\\n" + stripped words)`, without the words when there are none. No picture or several:
    everything stays where it is; neighbouring texts are joined, empty ones left out.
    """
    images = [piece for piece in pieces if isinstance(piece, ImageRef)]
    if len(images) == 1:
        words = "".join(piece for piece in pieces if isinstance(piece, str)).strip()
        return (images[0], "\n" + words) if words else (images[0],)
    content: list[str | ImageRef] = []
    for piece in pieces:
        if isinstance(piece, str) and content and isinstance(content[-1], str):
            content[-1] += piece
        elif piece != "":
            content.append(piece)
    return tuple(content)
