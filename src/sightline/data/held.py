"""Pictures that lie inside of another file: in a tar, or in a column of a Parquet file.

Comes in: an open file, what the picture's name says behind `MARK`. Goes out: the picture's bytes as a file. Nothing is
unpacked and no name inside is ever a path: a picture in a tar is found by its offset, in Parquet by its row. Who may
open the outer file is decided elsewhere (`image`), and so is what may be decoded.

Names: `shard.tar!/2048+51200/k1.jpg` (first byte, bytes, what the member is called), `part.parquet!/17.0/dog.jpg` (row,
number of the picture in it, what it is called). The last part is for people only.
"""

from __future__ import annotations

import io
import os
import re
from typing import BinaryIO

MARK = "!/"
"""Between the file and what is inside of it, as in the addresses of Java's archives (`jar:file!/entry`)."""

PARQUET_MAGIC = b"PAR1"
"""What a Parquet file starts and ends with (Apache Parquet format, "File format")."""

_IN_TAR = re.compile(r"(\d{1,18})\+(\d{1,18})/")
_IN_PARQUET = re.compile(r"(\d{1,12})\.(\d{1,6})/")


def name_in_tar(file: str, *, start: int, size: int, member: str) -> str:
    """The name of a picture in a tar."""
    return f"{file}{MARK}{start}+{size}/{member}"


def name_in_parquet(file: str, *, row: int, number: int, path: str) -> str:
    """The name of a picture in a Parquet file."""
    return f"{file}{MARK}{row}.{number}/{path}"


def open_held(file: BinaryIO, path: str, inner: str) -> BinaryIO | None:
    """A picture of an open file, by what stands behind `MARK` in its name; None where nothing is. Takes the file over.

    Args:
        path: the file's.

    Raises:
        DataError: the outer file is damaged.
    """
    if file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC:
        from sightline.data.parquet_file import picture_bytes  # here, because it needs pyarrow

        found = _IN_PARQUET.match(inner)
        with file:
            descriptor = file.fileno()
            content = found and picture_bytes(path, descriptor, row=int(found[1]), number=int(found[2]))
        return None if content is None else io.BytesIO(content)
    found = _IN_TAR.match(inner)
    if found is None or int(found[1]) + int(found[2]) > os.fstat(file.fileno()).st_size:
        file.close()
        return None
    return io.BufferedReader(_Stretch(file, int(found[1]), int(found[2])))


class _Stretch(io.RawIOBase):
    """Some bytes of a file, as a file of their own."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("before the start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._at))
        found = os.pread(self._file.fileno(), wanted, self._start + self._at)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
