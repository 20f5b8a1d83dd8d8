"""A data file whose records are read in order, or one by one in any order.

Comes in: a path, the places of records. Goes out: records. The file must stay as it was when it was opened first: its
size and time of change are compared at every reading. Goes to other processes by its path. Knows neither samples nor
tokens. What kinds of files there are stands in `layouts`.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline.data.reading import Place, Record, parse_record, read_records
from sightline.errors import DataError

MOST_OPEN = 128
"""Data files that a process keeps open: a mixture may have thousands of shards, a process often 1024 descriptors."""

_open_now: deque[weakref.ref[DataFile]] = deque()


class DataFile(ABC):
    """One data file as it is now; `DataError` where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self.state = self._state_of(self._open())

    @property
    def root(self) -> Path:
        """The folder that the names of pictures start from, unless somebody names another."""
        return self.path.parent

    @property
    def holds_pictures(self) -> bool:
        """Whether the pictures lie in the file itself, so that there is no other folder to name."""
        return False

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """All records, in order. `DataError` where the file cannot be read (further)."""

    def record(self, at: Place) -> Record:
        """The record at a place that `records` has given.

        Raises:
            DataError: `data_changed`: the file is not what it was.
        """
        descriptor = self._open()
        try:
            found = self._record_at(descriptor, at)
        except (ValueError, RecursionError):  # changed within the grain of the file system's clock
            raise self._changed() from None
        finally:
            if self._state_of(descriptor) != self.state:
                raise self._changed()
        return found

    def raw(self, at: Place) -> bytes:
        """The bytes between the ends of a place. `DataError` as in `record`."""
        descriptor = self._open()
        found = os.pread(descriptor, at.end - at.start, at.start)
        if self._state_of(descriptor) != self.state:
            raise self._changed()
        return found

    def sha256(self) -> str:
        """Of its content, in hexadecimal."""
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            same = self._state_of(file.fileno()) == self.state
        if not same:
            raise self._changed()
        return found

    @abstractmethod
    def _record_at(self, descriptor: int, at: Place) -> Record:
        """The record, or `ValueError` if there is none."""

    def _open(self) -> int:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                words = "cannot be opened; check its permissions"
                raise DataError(f"{self.path}: {words}", reason="file_unreadable") from None
            _open_now.append(weakref.ref(self))
            if len(_open_now) > MOST_OPEN:
                oldest = _open_now.popleft()()
                if oldest is not None:
                    oldest.close()
        return self._descriptor

    def _state_of(self, descriptor: int) -> tuple[int, int]:
        found = os.fstat(descriptor)
        return found.st_size, found.st_mtime_ns

    def _changed(self) -> DataError:
        return DataError(
            f"{self.path}: found another content than at the start; put it back, or start again with the new one",
            reason="data_changed",
        )

    def close(self) -> None:
        """Gives the descriptor back; the next reading opens the file again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_descriptor": None}

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            self.close()


class JsonFile(DataFile):
    """A JSON list or JSONL file, see `reading`."""

    def records(self) -> Iterator[Record]:
        return read_records(self.path)

    def _record_at(self, descriptor: int, at: Place) -> Record:
        return parse_record(self.raw(at), file=str(self.path), at=at)
