"""Features of pictures on disk, so that a frozen encoder need look at each picture only once.

Comes in: what the features depend on beside the picture, and features under the SHA-256 of their picture's file. Goes
out: the same features, or nothing where there are none or they are damaged. Does not know encoders, and not whether
reading is faster than encoding.

A directory `ROOT/KEY` for each origin holds `features.bin`, records of one size; `index.bin`, an entry for each record;
`damaged.bin`, the numbers of records that failed their check; `origin.json`, for people. The first three only grow and
nothing in them ever moves, so that reading needs no lock. A record is written before its entry, and both have a CRC-32:
a killed writer leaves whole records or nothing, and what a power cut spoils is not read. One process at a time writes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sightline.atomic import fault_point, write_atomic

FORMAT = 1
"""Part of every key: raised when records or entries change, or the pixels that the same file becomes."""

_ENTRY = struct.Struct("<32sQII")  # SHA-256 of the picture's file, number and CRC-32 of the record, CRC-32 of these
_SIGNED = _ENTRY.size - 4
_NUMBER = struct.Struct("<Q")

Bytes = npt.NDArray[np.uint8]


class FeatureStore:
    """The features of one encoder under one preprocessing, by picture.

    Args:
        root: the cache's directory, for any number of encoders.
        origin: all that the features depend on beside the picture, as JSON has it.
        shape, dtype: of one picture's features, [K, C].

    Raises:
        OSError: the directory cannot be made or read.
    """

    def __init__(self, root: Path, origin: Mapping[str, Any], *, shape: tuple[int, int], dtype: torch.dtype) -> None:
        self.shape = shape
        self.dtype = dtype
        known = {"format": FORMAT, **origin, "shape": shape, "type": str(dtype)}
        self._origin = json.dumps(known, sort_keys=True, indent=2) + "\n"
        self.key = hashlib.sha256(self._origin.encode()).hexdigest()[:32]
        self.directory = root / self.key
        self._mapped: mmap.mmap | None = None
        self._places: dict[bytes, tuple[int, int]] = {}
        self._next = 0  # behind all that was ever written: a killed writer's records, whole or not, may lie at the end
        self.directory.mkdir(parents=True, exist_ok=True)
        self.load()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, picture: bytes) -> bool:
        return picture in self._places

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}  # worker processes map the file themselves

    @property
    def record_bytes(self) -> int:
        """What one picture takes on disk, but for its entry."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def load(self) -> None:
        """Reads the index anew: what other processes have added is there then. A later entry replaces an earlier."""
        index, damaged = self._content("index.bin"), self._content("damaged.bin")
        struck = {number for (number,) in _NUMBER.iter_unpack(damaged[: len(damaged) // 8 * 8])}
        there = self._size("features.bin") // self.record_bytes
        self._mapped = None
        self._places.clear()
        self._next = -(-self._size("features.bin") // self.record_bytes)
        for start in range(0, len(index) - _ENTRY.size + 1, _ENTRY.size):
            picture, number, check, own_check = _ENTRY.unpack_from(index, start)
            if zlib.crc32(index[start : start + _SIGNED]) != own_check:
                continue
            self._next = max(self._next, number + 1)
            if number < there and number not in struck:
                self._places[picture] = number, check

    def read(self, picture: bytes) -> Tensor | None:
        """The features [K, C] of a picture; None where there are none, or damaged ones, which then count as missing."""
        place = self._places.get(picture)
        if place is None:
            return None
        number, check = place
        if self._mapped is None:
            with (self.directory / "features.bin").open("rb") as file:
                self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        features = torch.empty(self.shape, dtype=self.dtype)
        if copy_record(self._mapped, number, bytes_of(features)) == check:  # what is checked is what is used
            return features
        del self._places[picture]
        with suppress(OSError):  # a directory that may not be written to: the next run finds it damaged again
            descriptor = os.open(self.directory / "damaged.bin", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                file.write(_NUMBER.pack(number))
        return None

    @contextmanager
    def writing(self, *, wait: Callable[[], None]) -> Iterator[Callable[[Sequence[bytes], Tensor], None]]:
        """Inside, this process alone may write, and knows what others have written.

        Args:
            wait: called before this waits for another process.

        Yields:
            A function that adds features [n, K, C], on the CPU, under the digests of their n pictures.

        Raises:
            OSError: the disk is full, or cannot be written to. What was there before, and was added so far, stays.
        """
        with (self.directory / "lock").open("ab") as lock:
            # A record lock, not `flock`: worker processes that are forked meanwhile do not inherit it.
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                wait()
                fcntl.lockf(lock, fcntl.LOCK_EX)
            self.load()
            write_atomic(self.directory / "origin.json", self._origin)
            with self._open("features.bin") as records, self._open("index.bin") as index:
                number = self._next
                index.seek(index.seek(0, os.SEEK_END) // _ENTRY.size * _ENTRY.size)

                def add(pictures: Sequence[bytes], features: Tensor) -> None:
                    nonlocal number
                    assert features.shape == (len(pictures), *self.shape)
                    assert features.dtype == self.dtype
                    contents = [bytes_of(one) for one in features]
                    records.seek(number * self.record_bytes)
                    for content in contents:
                        records.write(content.data)
                    records.flush()
                    fault_point("feature_records")
                    for picture, content in zip(pictures, contents, strict=True):
                        signed = _ENTRY.pack(picture, number, zlib.crc32(content.data), 0)[:_SIGNED]
                        index.write(signed + struct.pack("<I", zlib.crc32(signed)))
                        number += 1
                    index.flush()

                yield add
                for file in (records, index):
                    os.fsync(file.fileno())  # some file systems tell only here that they are full
            self.load()

    def _open(self, name: str) -> BinaryIO:
        (self.directory / name).touch()
        return (self.directory / name).open("r+b")

    def _content(self, name: str) -> bytes:
        path = self.directory / name
        return path.read_bytes() if path.exists() else b""

    def _size(self, name: str) -> int:
        path = self.directory / name
        return path.stat().st_size if path.exists() else 0


class StoredPictures:
    """The features of a run's pictures by their names."""

    def __init__(self, store: FeatureStore, digests: Mapping[str, bytes]) -> None:
        self._store = store
        self._digests = digests

    def all_of(self, names: Sequence[str]) -> tuple[Tensor, ...] | None:
        """float[K, C] for each picture; None where there are no names, or one of the pictures is not stored."""
        found = tuple(self._store.read(self._digests[name]) for name in names if name in self._digests)
        whole = tuple(features for features in found if features is not None)
        return whole if names and len(whole) == len(names) else None


def bytes_of(features: Tensor) -> Bytes:
    """The memory of a contiguous tensor on the CPU."""
    content: Bytes = features.contiguous().reshape(-1).view(torch.uint8).numpy()
    return content


def copy_record(mapped: mmap.mmap, number: int, into: Bytes) -> int | None:
    """Copies a record out of a mapped file; gives its CRC-32, or None if the file has become too short for it."""
    start, stop = number * len(into), (number + 1) * len(into)
    if stop > min(len(mapped), mapped.size()):  # to touch pages that are no more would kill the process
        return None
    into[:] = np.frombuffer(mapped, dtype=np.uint8, count=len(into), offset=start)
    return zlib.crc32(into.data)
