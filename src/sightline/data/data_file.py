"""A data file from which samples are read one by one, in any order.

Comes in: a path, the places of records. Goes out: samples. The file must stay as it was when it was opened first: its
size and time of change are compared at every reading. Goes to other processes by its path. Knows no tokens.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from sightline.data.ids import numbered
from sightline.data.parsing import parse_sample
from sightline.data.reading import Place, Record, parse_record
from sightline.data.sample import Sample
from sightline.errors import DataError


class DataFile:
    """One data file as it is now; `DataError` where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._state = self._state_of(self._open())

    def sha256(self) -> str:
        """Of its content, in hexadecimal."""
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            same = self._state_of(file.fileno()) == self._state
        if not same:
            raise self._changed()
        return found

    def record(self, at: Place) -> Record:
        """The record at a place that `read_records` has given.

        Raises:
            DataError: `data_changed`: the file is not what it was.
        """
        descriptor = self._open()
        raw = os.pread(descriptor, at.end - at.start, at.start)
        if self._state_of(descriptor) != self._state:
            raise self._changed()
        try:
            return parse_record(raw, file=str(self.path), at=at)
        except (ValueError, RecursionError):  # changed within the grain of the file system's clock
            raise self._changed() from None

    def _open(self) -> int:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                words = "cannot be opened; check its permissions"
                raise DataError(f"{self.path}: {words}", reason="file_unreadable") from None
        return self._descriptor

    def _state_of(self, descriptor: int) -> tuple[int, int]:
        found = os.fstat(descriptor)
        return found.st_size, found.st_mtime_ns

    def _changed(self) -> DataError:
        return DataError(
            f"{self.path}: found another content than at the start; put it back, or start again with the new one",
            reason="data_changed",
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_descriptor": None}

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            os.close(self._descriptor)  # type: ignore[arg-type]


class FileSamples(Sequence[Sample]):
    """Samples of one file, parsed when they are asked for: some 50 bytes of memory each.

    Args:
        places: int64[N, 4]: for each sample its bytes, line and number in the file, see `Place`.
        numbers: int32[N]: what stands behind a repeated id, see `numbered`.
        listed: whether the file is one JSON list.
    """

    def __init__(
        self, file: DataFile, places: npt.NDArray[np.int64], numbers: npt.NDArray[np.int32], *, listed: bool
    ) -> None:
        self._file = file
        self._places = places
        self._numbers = numbers
        self._listed = listed

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        start, end, line, ordinal = (int(value) for value in self._places[index])
        sample = parse_sample(self._file.record(Place(start, end, line, ordinal if self._listed else None)))
        return replace(sample, id=numbered(sample.id, int(self._numbers[index])))
