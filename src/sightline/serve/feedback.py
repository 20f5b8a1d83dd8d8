"""What people think of answers, kept as training data.

Comes in: a conversation, an answer, a judgement, perhaps a correction. Goes out: one line of LLaVA's JSONL, and the
pictures beside it under the SHA-256 of their files. An answer that was judged bad and not corrected teaches nothing, so
it goes to a file of its own: what is in the first one can be trained on as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.atomic import write_atomic
from sightline.data.parsing import IMAGE_MARK, parse_sample
from sightline.data.reading import Place, Record, SampleError
from sightline.data.sample import ImageRef, Turn
from sightline.errors import ConfigError
from sightline.serve.pictures import Fetch, encoded_at, opened, suffix_of
from sightline.serve.prepare import Conversation
from sightline.serve.refusals import Refusal

MOST_BYTES = 2**30
"""Of everything that is kept: a stranger must not fill the disk."""
_SPEAKERS = {"user": "human", "assistant": "gpt"}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What somebody thinks of an answer."""

    model: str
    talk: Conversation
    answer: str
    up: bool
    correction: str | None


class Collection:
    """Appends to one file, from one process.

    Args:
        file: the JSONL; `NAME-pictures/` and `NAME-down.jsonl` lie beside it.

    Raises:
        ConfigError: it cannot be written there.
    """

    def __init__(self, file: Path, *, fetch: Fetch | None = None, most_bytes: int = MOST_BYTES) -> None:
        self._good, self._bad = file, file.with_name(f"{file.stem}-down.jsonl")
        self._pictures = file.with_name(f"{file.stem}-pictures")
        self._fetch, self._most = fetch, most_bytes
        self._lock = threading.Lock()
        try:
            self._pictures.mkdir(parents=True, exist_ok=True)
            file.touch()
            kept = [path for path in (self._good, self._bad, *self._pictures.iterdir()) if path.is_file()]
            self._bytes = sum(path.stat().st_size for path in kept)
        except OSError as error:
            raise ConfigError(
                f"--collect: cannot write {file}: {error.strerror}; name a file in a folder of yours"
            ) from error

    def keep(self, judgement: Judgement) -> None:
        """Keeps one judgement, or nothing of it.

        Raises:
            Refusal: a picture or the words cannot be kept, or there is no room.
        """
        files = [self._picture(*address) for address in judgement.talk.addresses]
        line = json.dumps(_sample(judgement, [name for name, _ in files]), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            fresh = {name: content for name, content in files if not (self._pictures / name).exists()}
            size = len(line) + sum(map(len, fresh.values()))
            if self._bytes + size > self._most:
                raise Refusal("collection_full")
            for name, content in fresh.items():
                write_atomic(self._pictures / name, content)
            self._append(self._good if judgement.up or judgement.correction else self._bad, line)
            self._bytes += size

    def _picture(self, address: str, where: str) -> tuple[str, bytes]:
        """Its name and its file, which was seen to be a picture."""
        try:
            encoded = encoded_at(address, fetch=self._fetch)
            opened(encoded)
        except Refusal as refusal:
            raise Refusal(refusal.code, param=where) from None
        return f"{hashlib.sha256(encoded).hexdigest()}.{suffix_of(encoded)}", encoded

    def _append(self, file: Path, line: bytes) -> None:
        """In one write: a reader sees the whole line or nothing."""
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sample(judgement: Judgement, names: list[str]) -> dict[str, Any]:
    """The line, which `parse_sample` can read. Paths are relative to the folder of pictures."""
    talk = judgement.talk
    said: list[tuple[str, str]] = [] if talk.system is None else [("system", talk.system)]
    said += [(_SPEAKERS[turn.role], _marked(turn, has_pictures=bool(names))) for turn in talk.turns]
    said.append(("gpt", judgement.correction or judgement.answer))
    metadata: dict[str, Any] = {"rating": "up" if judgement.up else "down"}
    if judgement.correction:
        metadata["rejected"] = judgement.answer
    sample: dict[str, Any] = {"id": f"feedback-{secrets.token_hex(8)}"}
    if names:
        sample["image"] = names[0] if len(names) == 1 else names
    sample["conversations"] = [{"from": speaker, "value": words} for speaker, words in said]
    sample |= {"model": judgement.model, "metadata": metadata}
    try:
        parse_sample(Record(file="feedback", at=Place(0, 0, 1, None), value=sample, fault=None))
    except SampleError:
        raise Refusal("feedback_not_usable") from None
    return sample


def _marked(turn: Turn, *, has_pictures: bool) -> str:
    """The words of a turn with a mark for each picture; a mark that somebody typed would be taken for one."""
    if has_pictures and any(isinstance(part, str) and IMAGE_MARK in part for part in turn.content):
        raise Refusal("feedback_not_usable")
    return "".join(IMAGE_MARK if isinstance(part, ImageRef) else part for part in turn.content)
