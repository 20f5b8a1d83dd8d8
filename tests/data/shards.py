"""Small tars and Parquet files, as others write them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def png(color: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def asked(question: str = "<image>\nWhat?", answer: str = "Red.") -> list[dict[str, str]]:
    """One exchange."""
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def conversation(question: str = "<image>\nWhat?", answer: str = "Red.", **more: Any) -> bytes:
    """A sample without id and pictures, as it lies in a tar."""
    return json.dumps({"conversations": asked(question, answer), **more}).encode()


Entry = tuple[str, bytes] | tuple[str, bytes, dict[str, Any]]


def write_tar(path: Path, members: Sequence[Entry], **options: Any) -> Path:
    """A tar with these members: name, content, perhaps fields of its header."""
    with tarfile.open(path, "w", **options) as tar:
        for name, content, *fields in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in (fields[0] if fields else {}).items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path: Path, rows: Sequence[dict[str, Any]], *, group: int = 4) -> Path:
    """A Parquet file with row groups of so many rows."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path, row_group_size=group)
    return path
