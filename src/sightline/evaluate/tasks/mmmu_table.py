"""MMMU's rows as its page has them: Parquet files with the pictures inside, `image_1` to `image_7`.

Comes in: paths of such files. Goes out: rows without their pictures, or each row's pictures. Needs pyarrow (extra
`parquet`). Knows no prompt and no score.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.errors import ConfigError
from sightline.evaluate.result_files import refuse

TEXTS = ("id", "question", "options", "answer", "question_type")
PICTURES = tuple(f"image_{number}" for number in range(1, 8))


def mmmu_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, without their pictures.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: it is no such file.
    """
    return _read(path, TEXTS)


def mmmu_pictures(paths: Sequence[Path]) -> dict[str, tuple[bytes, ...]]:
    """The pictures of each id, as encoded; errors as in `mmmu_rows`."""
    found = {}
    for path in paths:
        for row in _read(path, ("id", *PICTURES)):
            cells = [row[name] for name in PICTURES]
            there = [cell for cell in cells if cell is not None]
            if cells[: len(there)] != there:
                raise refuse(path, f"{row['id']}: its pictures are not image_1 to image_{len(there)}")
            if not all(isinstance(cell, dict) and cell.get("bytes") for cell in there):
                raise refuse(path, f"{row['id']}: a picture is not in the file; expected bytes in image_1 to image_7")
            found[str(row["id"])] = tuple(cell["bytes"] for cell in there)
    return found


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        words = "reading Parquet needs pyarrow: pip install 'sightline[parquet]'"
        raise ConfigError(f"{path}: {words}") from None
    try:
        absent = sorted(set(columns) - set(parquet.read_schema(path).names))
        if absent:
            raise refuse(path, f"no column {absent[0]}; expected MMMU's rows: {', '.join(TEXTS)}, image_1 to image_7")
        rows: list[dict[str, Any]] = parquet.read_table(path, columns=list(columns)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise refuse(path, f"no Parquet file, or a damaged one ({str(error).splitlines()[0][:120]})") from error
    return rows
