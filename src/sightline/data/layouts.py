"""The kinds of data files, and where they are.

Comes in: what somebody named: a file, a folder, a pattern. Goes out: `DataFile`s. The kind is decided by the ending:
`.parquet`, `.tar`, else JSON or JSONL (told apart by content). Knows no samples.
"""

from __future__ import annotations

import glob
from pathlib import Path

from sightline.data.data_file import DataFile, JsonFile
from sightline.data.parquet_file import ParquetFile
from sightline.data.tar_file import TarFile
from sightline.errors import DataError

KINDS: dict[str, type[DataFile]] = {
    ".json": JsonFile,
    ".jsonl": JsonFile,
    ".parquet": ParquetFile,
    ".tar": TarFile,
}
"""Endings of the files that are taken from a folder."""


def open_data(path: Path) -> DataFile:
    """A data file, opened.

    Raises:
        DataError: there is none, it is no regular file, or it is damaged.
    """
    if not path.exists():
        words = "there is no such data file; give JSON, JSONL, Parquet or tar, a folder of them or a pattern"
        raise DataError(f"{path}: {words}", reason="file_missing")
    if not path.is_file():
        words = "found no regular file, expected JSON, JSONL, Parquet or tar"
        raise DataError(f"{path}: {words}", reason="file_unreadable")
    return KINDS.get(path.suffix.lower(), JsonFile)(path)


def data_files(path: Path) -> list[Path]:
    """The files that a path stands for, sorted by name: itself, those of a folder, those that a pattern fits.

    Raises:
        DataError: there are none, or a folder holds files of several kinds.
    """
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix.lower() in KINDS and each.is_file())
        kinds = sorted({each.suffix.lower() for each in found})
        if len({KINDS[kind] for kind in kinds}) > 1:
            words = f"found files of several kinds ({', '.join(kinds)}); name one of them, such as {path}/*{kinds[-1]}"
            raise DataError(f"{path}: {words}", reason="folder_mixed")
        if not found:
            words = f"found none of {', '.join(f'*{kind}' for kind in KINDS)}; check the path"
            raise DataError(f"{path}: {words}", reason="file_missing")
        return found
    if not path.exists() and glob.has_magic(str(path)):
        found = sorted(Path(each) for each in glob.glob(str(path)))  # noqa: PTH207  the pattern may be absolute
        if not found:
            raise DataError(f"{path}: no file fits this pattern; check the path", reason="file_missing")
        return found
    return [path]


def root_of(file: DataFile, images: Path | None) -> Path:
    """The folder that the names of a file's pictures start from: `images`, if the pictures are not in the file."""
    return file.root if images is None or file.holds_pictures else images
