"""Parquet files: a row is a sample, its columns are the sample's keys.

Comes in: a Parquet file. Goes out: records in order or by row, pictures by row and number. A key that is null counts
as absent, as tables have no other way to say so. Pictures may lie in the file: in a column `image` or `images` of
bytes, or of `{bytes, path}` as the library `datasets` writes them; they are read only where one is opened.

Parquet is read by row groups: one row costs its group, and the last groups are kept. Groups of some hundred rows are
right for files with pictures. Needs pyarrow (extra `parquet`). Reason of a damaged file: `parquet_unreadable`.
"""

from __future__ import annotations

import functools
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from sightline.data.data_file import DataFile
from sightline.data.held import name_in_parquet
from sightline.data.reading import Place, Record
from sightline.errors import ConfigError, DataError

KEPT_BYTES = 256 * 2**20
"""Of decoded row groups that a process keeps, beside the last one."""
BATCH = 256
"""Rows that are turned into Python's values at once when a file is read in order."""
_PICTURES = ("image", "images")

State = tuple[int, int, int]
"""Inode, size, time of change: another state is another file."""


class _Opened(NamedTuple):
    """A file's table of contents: the first row of each group, and the columns' leaves with and without pictures."""

    file: Any
    firsts: list[int]
    texts: list[str]
    pictures: list[str]


class ParquetFile(DataFile):
    """A Parquet file as a data file. A place is a row: `start` counts from 0, `line` from 1."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if self.holds_pictures:
            self.path = path.resolve()  # pictures are opened below its folder, which a link would lead out of

    @property
    def holds_pictures(self) -> bool:
        return bool(_opened(*self.key).pictures)

    def records(self) -> Iterator[Record]:
        known = _opened(*self.key)
        row = 0
        with _damage(str(self.path)):
            for batch in known.file.iter_batches(batch_size=BATCH, columns=known.texts, use_threads=False):
                for value in batch.to_pylist():
                    yield self._record(value, Place(row, row + 1, row + 1, None))
                    row += 1
        if not row:
            raise DataError(f"{self.path}: found no samples, expected at least one row", reason="file_empty")

    def _record_at(self, descriptor: int, at: Place) -> Record:
        return self._record(_row(*self.key, at.start, pictures=False), at)

    def _record(self, value: dict[str, Any], at: Place) -> Record:
        sample = _without_nulls(value)
        if self.holds_pictures:
            for key in _PICTURES:
                if key in sample:
                    sample[key] = self._names(sample[key], at.start)
        return Record(file=str(self.path), at=at, value=sample, fault=None)

    def _names(self, column: Any, row: int) -> list[str]:
        cells = column if isinstance(column, list) else [column]
        paths = [cell.get("path", "") if isinstance(cell, dict) else "" for cell in cells]
        return [name_in_parquet(self.path.name, row=row, number=number, path=path) for number, path in enumerate(paths)]

    @property
    def key(self) -> tuple[str, State]:
        """What the file is known by in this process."""
        return str(self.path), _state(self._open())


def picture_bytes(path: str, descriptor: int, *, row: int, number: int) -> bytes | None:
    """A picture of a Parquet file that is open; None where there is none.

    Raises:
        DataError: the file is damaged.
    """
    state = _state(descriptor)
    known = _opened(path, state)
    if row >= known.firsts[-1] or not known.pictures:
        return None
    found = _row(path, state, row, pictures=True)
    column: Any = next((found[key] for key in _PICTURES if found.get(key) is not None), [])
    cells = column if isinstance(column, list) else [column]
    cell = cells[number] if number < len(cells) else None
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else None


def copy_rows(file: ParquetFile, target: Path, rows: Collection[int]) -> None:
    """Writes some rows of a file to another, with all columns, in their order and groups.

    Raises:
        DataError: the file is damaged.
    """
    from pyarrow import parquet

    known = _opened(*file.key)
    with _damage(str(file.path)), parquet.ParquetWriter(target, known.file.schema_arrow) as writer:
        for group, (first, end) in enumerate(pairwise(known.firsts)):
            kept = [row - first for row in range(first, end) if row in rows]
            if kept:
                writer.write_table(known.file.read_row_group(group, use_threads=False).take(kept))


def _state(descriptor: int) -> State:
    found = os.fstat(descriptor)
    return found.st_ino, found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=16)
def _opened(path: str, state: State) -> _Opened:
    """A file and its table of contents. `ConfigError` without pyarrow, `DataError` where the file is damaged."""
    try:
        from pyarrow import parquet
    except ImportError:
        words = "reading Parquet needs pyarrow: pip install 'sightline[parquet]'"
        raise ConfigError(f"{path}: {words}") from None
    with _damage(path):
        file = parquet.ParquetFile(path)
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
        columns: list[Any] = [file.schema.column(number) for number in range(len(file.schema))]
        leaves = [(column.path, column.physical_type) for column in columns]
        pictures = [leaf for leaf, kind in leaves if _holds_picture(leaf, kind, file.schema_arrow)]
    named = {leaf.rpartition(".")[0] for leaf, _ in leaves if leaf.endswith(".path")}
    texts = [leaf for leaf, _ in leaves if leaf not in pictures or leaf.rpartition(".")[0] not in named]
    return _Opened(file, [0, *accumulate(sizes)], texts, pictures)


def _holds_picture(leaf: str, kind: str, schema: Any) -> bool:
    """Whether a leaf of the schema is bytes of pictures, not text."""
    if leaf.split(".")[0] not in _PICTURES or kind != "BYTE_ARRAY" or leaf.endswith(".path"):
        return False
    return leaf.endswith(".bytes") or "binary" in str(schema.field(leaf.split(".")[0]).type)


_groups: OrderedDict[tuple[str, State, int, bool], Any] = OrderedDict()


def _row(path: str, state: State, row: int, *, pictures: bool) -> dict[str, Any]:
    """One row: of the texts, or of the pictures. `ValueError` where there is none."""
    known = _opened(path, state)
    group = bisect_right(known.firsts, row) - 1
    if not 0 <= group < len(known.firsts) - 1:
        raise ValueError(f"no row {row}")
    key = (path, state, group, pictures)
    if key not in _groups:
        with _damage(path):
            leaves = known.pictures if pictures else known.texts
            _groups[key] = known.file.read_row_group(group, columns=leaves, use_threads=False)
        while len(_groups) > 1 and sum(table.nbytes for table in _groups.values()) > KEPT_BYTES:
            _groups.popitem(last=False)
    _groups.move_to_end(key)
    found: dict[str, Any] = _groups[key].slice(row - known.firsts[group], 1).to_pylist()[0]
    return found


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


@contextmanager
def _damage(path: str) -> Iterator[None]:
    """What pyarrow says about a damaged file, as a `DataError`."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        words = f"no Parquet file, or a damaged one ({str(error).splitlines()[0][:120]}); write it again"
        raise DataError(f"{path}: {words}", reason="parquet_unreadable") from None
