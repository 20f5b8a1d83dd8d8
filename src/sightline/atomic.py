"""Files that are whole or absent, whenever the process is killed.

Comes in: bytes, paths and directories to be filled. Goes out: files and directories that a kill, a full disk or an
exception leaves as they were or as they shall be, and a manifest that tells the two from everything else. Knows nothing
of models or training.

The order is always: write under a temporary name, fsync every file, write `manifest.json` last, rename, fsync the
parent. A directory counts only if its manifest verifies. Two names beside a target belong to this module:
`.NAME.tmp` (being written; worthless) and `.NAME.old` (the previous one, while the new one takes its place).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from sightline.errors import CheckpointError

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
# A JSON file of ours lists tensors or files: some megabytes for the largest models. More is an attack or a mix-up.
JSON_LIMIT = 64 * 2**20
FAULT_VARIABLE = "SIGHTLINE_FAULT"

_passings: Counter[str] = Counter()


class FileRecord(NamedTuple):
    """One line of a manifest."""

    bytes: int
    sha256: str


def fault_point(name: str) -> None:
    """Die here, without cleaning up, when the environment asks for it: the hook of the kill drills.

    `SIGHTLINE_FAULT=name` kills at the first passing of the point `name`, `name:3` at the third. The points of this
    module are `file` (after each file of a directory), `before_manifest`, `before_rename`, `between_renames`,
    `after_rename`, and `before_replace` (in `new_file` and `write_atomic`).
    """
    wanted, _, nth = os.environ.get(FAULT_VARIABLE, "").partition(":")
    if wanted != name:
        return
    _passings[name] += 1
    if _passings[name] == int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def fsync_file(path: Path) -> None:
    """Wait until the content of `path` is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def fsync_dir(path: Path) -> None:
    """Wait until the names in the directory `path` are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace the file `path` by `content`: a reader sees the old file or the new one, never a part."""
    with new_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write into; when the block ends without an error, it takes the place of `path`.

    For what is too large for `write_atomic` to be given at once.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write a file at; when the block ends without an error, that file takes the place of `path`."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        fsync_file(temporary)
        fault_point("before_replace")
        temporary.replace(path)
        fsync_dir(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> object:
    """Read a JSON file that somebody else may have written.

    Raises:
        CheckpointError: the file is missing, empty, too large, cut short, or no JSON.
    """
    try:
        size = path.stat().st_size
        if size > JSON_LIMIT:
            raise CheckpointError(f"{path}: {size} bytes is too large for this file (at most {JSON_LIMIT})")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        detail = "it is empty" if size == 0 else str(error)
        raise CheckpointError(f"{path}: damaged, not a JSON file: {detail}") from error


def write_manifest(directory: Path, info: Mapping[str, object] | None = None) -> None:
    """Seal `directory`: fsync every file in it, then write `manifest.json` with their sizes and SHA-256.

    `info` is stored beside the file list for whoever reads the manifest (a step, a version); nothing here reads it.
    """
    files = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path != directory / MANIFEST:
            fsync_file(path)
            name = path.relative_to(directory).as_posix()
            files[name] = FileRecord(path.stat().st_size, sha256_file(path))._asdict()
            fault_point("file")
    for path in directory.rglob("*"):
        if path.is_dir():
            fsync_dir(path)
    content = {"manifest_version": MANIFEST_VERSION, "info": dict(info or {}), "files": files}
    fault_point("before_manifest")
    write_atomic(directory / MANIFEST, json.dumps(content, indent=2) + "\n")


def read_manifest(directory: Path) -> dict[str, FileRecord]:
    """The files that the manifest of `directory` lists, by their path inside it.

    Raises:
        CheckpointError: there is no manifest, it is damaged or of a newer version, or it names a file outside.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"{directory}: no {MANIFEST}: not a finished checkpoint (was its writing interrupted?)")
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise CheckpointError(f"{path}: damaged: it lists no files")
    version = content.get("manifest_version")
    if version != MANIFEST_VERSION:
        raise CheckpointError(f"{path}: manifest version {version!r}, this program reads {MANIFEST_VERSION}: update it")
    files = {}
    for name, entry in content["files"].items():
        inner = PurePosixPath(name)
        if inner.is_absolute() or ".." in inner.parts or inner == PurePosixPath():
            raise CheckpointError(f"{path}: names a file outside the directory: {name!r}")
        if not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int) or "sha256" not in entry:
            raise CheckpointError(f"{path}: damaged: no size and checksum for {name!r}")
        files[name] = FileRecord(entry["bytes"], str(entry["sha256"]))
    return files


def verify_manifest(directory: Path, *, checksums: bool = True) -> dict[str, FileRecord]:
    """Check every file that the manifest lists: that it is there, its size and, unless told otherwise, its checksum.

    Raises:
        CheckpointError: names the first file that is missing, cut short, or altered.
    """
    files = read_manifest(directory)
    for name, record in files.items():
        path = directory / name
        if not path.is_file():
            raise CheckpointError(f"{path}: missing, though {MANIFEST} lists it")
        size = path.stat().st_size
        if size != record.bytes:
            raise CheckpointError(f"{path}: damaged: {size} bytes, {record.bytes} expected")
        if checksums and sha256_file(path) != record.sha256:
            raise CheckpointError(f"{path}: damaged: its content does not match its checksum in {MANIFEST}")
    return files


def readable_directory(target: Path) -> Path:
    """Where the newest whole version of `target` lies: itself, or the one put aside by a save that was killed."""
    aside = _beside(target, "old")
    return aside if not target.exists() and aside.is_dir() else target


@contextmanager
def new_directory(target: Path, *, info: Mapping[str, object] | None = None, in_place: bool = False) -> Iterator[Path]:
    """Yield an empty directory; when the block ends without an error, its content becomes that of `target`.

    Args:
        target: the directory to make. If it exists it must hold nothing but a sealed directory of before.
        info: goes into the manifest.
        in_place: `target` also holds other things (a run's logs, its training states): keep them, and move the new
            files in one by one, the manifest last. A kill in between leaves a directory without a manifest.

    Raises:
        CheckpointError: `target` holds files that are not ours to replace.
    """
    staging = _beside(target, "tmp")
    if not in_place:
        _check_replaceable(target)
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    try:
        yield staging
        write_manifest(staging, info)
        _move_files(staging, target) if in_place else _swap(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _beside(target: Path, suffix: str) -> Path:
    target = target.absolute()
    return target.with_name(f".{target.name}.{suffix}")


def _check_replaceable(target: Path) -> None:
    """Refuse to replace a directory with anything in it that a manifest does not account for."""
    if not target.exists():
        return
    if not target.is_dir():
        raise CheckpointError(f"{target}: is a file, a directory is to be written there: choose another name")
    present = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    listed = {MANIFEST, *read_manifest(target)} if MANIFEST in present else set()
    foreign = sorted(present - listed)
    if foreign:
        raise CheckpointError(f"{target}: holds other files than a checkpoint's, such as {foreign[0]}: move them")


def _swap(staging: Path, target: Path) -> None:
    aside = _beside(target, "old")
    fault_point("before_rename")
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
        fault_point("between_renames")
    staging.rename(target)
    fsync_dir(target.parent)
    fault_point("after_rename")
    shutil.rmtree(aside, ignore_errors=True)


def _move_files(staging: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    manifest = target / MANIFEST
    try:
        stale = set(read_manifest(target))
    except CheckpointError:  # Nothing finished was here: nothing of it can be stale.
        stale = set()
    manifest.unlink(missing_ok=True)  # From here to the last line the directory is refused by every reader.
    fsync_dir(target)
    names = sorted(read_manifest(staging))
    for name in names:
        fault_point("before_rename")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(target / name)
    for name in stale - set(names):
        (target / name).unlink(missing_ok=True)
    for directory in {(target / name).parent for name in names} | {target}:
        fsync_dir(directory)
    (staging / MANIFEST).replace(manifest)
    fsync_dir(target)
    fault_point("after_rename")
