"""Answers on disk as they come, so that a killed run continues where it stood.

Comes in: answers by number. Goes out: all that were given, by this process or another. Each process appends to a file
of its own; a line that a kill cut short is as if it had not been written. What made the answers stands beside them, and
answers of another making do not join them.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sightline.atomic import fault_point, fsync_dir, write_atomic
from sightline.errors import ConfigError, DataError

MAKING = "run.json"
FOLDER = "journal"
SYNC_SECONDS = 1.0
"""The most that a power cut takes; a kill takes only the line that was being written."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone with the files of a run that its processes share."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def claim(folder: Path, making: Mapping[str, Any]) -> None:
    """Writes down what makes the answers in this folder.

    Raises:
        ConfigError: there are answers of another making; the message names what differs.
    """
    path = folder / MAKING
    with locked(folder):
        if not path.exists():
            write_atomic(path, json.dumps(making, indent=2) + "\n")
            return
        try:
            before = json.loads(path.read_text())
        except ValueError as error:
            raise ConfigError(f"{path}: not JSON ({error}); remove {folder} to start over") from error
        changed = [key for key in {**making, **before} if before.get(key) != making.get(key)]
        if changed:
            was, now = (_brief(found.get(changed[0])) for found in (before, making))
            raise ConfigError(
                f"{folder}: its answers were made with {changed[0]} {was}, now it is {now}: give another --out, or "
                "remove that folder to start over"
            )


def given(folder: Path) -> dict[int, str]:
    """Every answer in the folder, of all its processes.

    Raises:
        DataError: a file in it is not one of answers.
    """
    found: dict[int, str] = {}
    for path in sorted((folder / FOLDER).glob("*.jsonl")):
        content = path.read_bytes()
        for place, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
            try:
                entry = json.loads(line)
                found[entry["number"]] = entry["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}:{place}: not an answer ({error}); remove the line, and it is asked again",
                    reason="file_invalid",
                ) from error
    return found


class Journal:
    """The file that one process appends to."""

    def __init__(self, folder: Path, *, name: str) -> None:
        """
        Raises:
            ConfigError: another process has it.
        """
        self._path = folder / FOLDER / f"{name}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ConfigError(f"{self._path}: another process is answering this; wait for it, or use --shard") from None
        self._drop_torn_line()
        fsync_dir(self._path.parent)
        self._synced = time.monotonic()

    def _drop_torn_line(self) -> None:
        whole = self._path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sync()
        self._file.close()

    def add(self, answers: Mapping[int, str]) -> None:
        """Appends a batch's answers."""
        lines = (json.dumps({"number": number, "text": text}, ensure_ascii=False) for number, text in answers.items())
        self._file.write("".join(f"{line}\n" for line in lines).encode())
        self._file.flush()
        fault_point("answers")
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
