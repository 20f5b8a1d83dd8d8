"""Tar files in WebDataset's layout: the members of a sample follow one another and share a key.

Comes in: an uncompressed tar. Goes out: one record per key, with its pictures' names. A key is a member's name up to
the first dot of its last part, an ending what comes behind (WebDataset's rule). `KEY.json` is the sample in LLaVA's or
the messages form; with a `KEY.txt` beside it (img2dataset's layout) the text is the picture's caption, and the JSON is
not read. The sample's pictures are the members with a picture's ending, in the tar's order; its `id` is the key if the
JSON has none. Other endings are passed over.

Names of members are data, never paths: nothing is unpacked. A link or device is no picture, whatever its name.

Reasons, besides those of `reading`: `tar_unreadable`, `tar_truncated` (of the file); `member_duplicate`,
`member_missing`, `member_not_a_file`, `image_count` (of a sample).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sightline.data.data_file import DataFile
from sightline.data.held import name_in_tar
from sightline.data.reading import MAX_RECORD_CHARS, Place, Record, SampleError, parse_record
from sightline.errors import DataError

PICTURES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif"})
"""Last parts of endings, in small letters, that make a member a picture."""
MAX_HEADER = 2**20
"""Most bytes of one extended header (a long name, say): tar has no limit of its own, `tarfile` reads them at once."""
END_OF_TAR = bytes(2 * tarfile.BLOCKSIZE)
"""What ends a tar: two blocks of zeros (POSIX.1-2017, pax, "ustar Interchange Format")."""

_NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)\Z", re.DOTALL)


class Member(NamedTuple):
    """A member of a tar: from its first header to its last padding byte lies `start` to `end`; its data at `data`."""

    name: str
    start: int
    end: int
    data: int
    size: int
    is_file: bool


class TarFile(DataFile):
    """A tar as a data file. `Place.line` is the number of the sample, counted from 1."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.resolve())  # pictures are opened below its folder, which a link would lead out of

    @property
    def holds_pictures(self) -> bool:
        return True

    def records(self) -> Iterator[Record]:
        number = 0
        for key, group in _groups(self._members(0, self.state[0])):
            number += 1
            yield self._read(key, group, Place(group[0].start, group[-1].end, number, None))
        if not number:
            words = "found no samples, expected members such as 0001.json and 0001.jpg; check how the file was made"
            raise DataError(f"{self.path}: {words}", reason="file_empty")

    def sha256(self) -> str:
        """Of names, places and sizes of all members and of the texts; pictures are known by their times, as in folders.

        Raises:
            DataError: the tar is damaged.
        """
        digest = hashlib.sha256()
        for member in self._members(0, self.state[0]):
            digest.update(repr(member).encode())
            if _split(member.name)[1] in ("json", "txt") and member.size <= MAX_RECORD_CHARS:
                digest.update(os.pread(self._open(), member.size, member.data))
        if self._state_of(self._open()) != self.state:
            raise self._changed()
        return digest.hexdigest()

    def _record_at(self, descriptor: int, at: Place) -> Record:
        groups = list(_groups(self._members(at.start, at.end)))
        if len(groups) != 1 or (groups[0][1][0].start, groups[0][1][-1].end) != (at.start, at.end):
            raise ValueError("no sample of this tar")
        return self._read(*groups[0], at)

    def _members(self, start: int, end: int) -> Iterator[Member]:
        """The members between two offsets, without folders. `DataError` where the tar is damaged."""
        headers = _Headers(self._open(), start, end)
        try:
            with tarfile.open(fileobj=headers, mode="r:", errors="surrogateescape") as tar:
                ends = 0
                while (found := tar.next()) is not None:
                    if found.size < 0 or not ends < tar.offset <= end - start:
                        raise tarfile.ReadError("a member reaches beyond the end of the file")
                    ends = tar.offset
                    tar.members = []  # type: ignore[attr-defined]  # which it would keep
                    if not found.isdir():
                        yield _member(found, start, start + ends)
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
            words = f"no uncompressed tar, or a damaged one ({error}); write it again"
            raise DataError(f"{self.path}: {words}", reason="tar_unreadable") from None
        if (
            end == self.state[0]
            and os.pread(self._open(), tarfile.BLOCKSIZE, start + ends) != END_OF_TAR[: tarfile.BLOCKSIZE]
        ):
            words = f"the tar ends or is damaged at byte {start + ends}, without the mark of its end; write it again"
            raise DataError(f"{self.path}: {words}", reason="tar_truncated")

    def _read(self, key: str, group: list[Member], at: Place) -> Record:
        try:
            return Record(file=str(self.path), at=at, value=self._sample(key, group, at), fault=None)
        except SampleError as error:
            return Record(file=str(self.path), at=at, value={"id": key}, fault=error)

    def _sample(self, key: str, group: list[Member], at: Place) -> object:
        """The sample that the members of a key are."""
        members: dict[str, Member] = {}
        for member in group:
            ending = _split(member.name)[1]
            if ending in members:
                raise _refused(member, "member_duplicate", found="this name twice", fix="write each member once")
            if not member.is_file and ending.rpartition(".")[2] in PICTURES | {"json", "txt"}:
                found = "a link or a device"
                raise _refused(member, "member_not_a_file", found=found, fix="store the file itself")
            members[ending] = member
        names = [
            name_in_tar(self.path.name, start=one.data, size=one.size, member=one.name)
            for ending, one in members.items()
            if ending.rpartition(".")[2] in PICTURES
        ]
        if "txt" in members:
            caption = self._text(members["txt"])
            turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": caption}]
            return {"id": key, "images": names, "conversations": turns}
        if "json" not in members:
            found = f"only {', '.join(members)}"
            raise _refused(group[0], "member_missing", found=found, fix=f"add {key}.json with its conversation")
        text = self._text(members["json"])
        try:
            record = parse_record(text.encode(), file=str(self.path), at=at)
        except (ValueError, RecursionError):
            raise _refused(
                members["json"], "json_invalid", found="text that is not JSON", fix="write it again"
            ) from None
        if record.fault is not None:
            raise record.fault
        return _with_pictures(record.value, key, names)

    def _text(self, member: Member) -> str:
        if member.size > MAX_RECORD_CHARS:
            raise _refused(member, "sample_too_long", found=f"{member.size} bytes", fix="check the file")
        try:
            return os.pread(self._open(), member.size, member.data).decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise _refused(member, "not_utf8", found="bytes that are not UTF-8", fix="save it as UTF-8") from None


def _with_pictures(value: object, key: str, names: list[str]) -> object:
    """A sample with its id and with the names by which its pictures are opened."""
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {"id": key, **value}
    named = found.pop("images", found.pop("image", None))
    count = len(named) if isinstance(named, list) else int(named is not None)
    if named is not None and count != len(names):
        raise SampleError(
            "image", "image_count", found=f"{count} names of pictures and {len(names)} pictures in the tar",
            expected="as many", fix="store each picture beside the sample, or leave the names out",
        )  # fmt: skip
    return found | {"images": names} if names else found


def _member(found: tarfile.TarInfo, base: int, end: int) -> Member:
    return Member(
        name=found.name,
        start=base + found.offset,
        end=end,
        data=base + found.offset_data,
        size=found.size,
        is_file=found.isreg() and not found.issparse(),
    )


def _refused(member: Member, reason: str, *, found: str, fix: str) -> SampleError:
    return SampleError(ascii(member.name)[1:-1][:60], reason, found=found, expected="a regular member", fix=fix)


def _split(name: str) -> tuple[str, str]:
    """Key and ending, in small letters; a name without an ending, or whose last part starts with a dot, has neither."""
    found = _NAME.match(name)
    return (found[1], found[2].lower()) if found is not None else ("", "")


def _groups(members: Iterator[Member]) -> Iterator[tuple[str, list[Member]]]:
    """Members of equal key that follow one another."""
    key = ""
    group: list[Member] = []
    for member in members:
        own, _ = _split(member.name)
        if not own:
            continue
        if own != key and group:
            yield key, group
            group = []
        key = own
        group.append(member)
    if group:
        yield key, group


class _Headers(io.RawIOBase):
    """What `tarfile` may do with a file: read headers, between two offsets."""

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor, self._start, self._end, self._at = descriptor, start, end, 0

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        size = max(0, min(size, self._end - self._start - self._at))
        found = os.pread(self._descriptor, size, self._start + self._at)
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or offset < 0:
            raise tarfile.ReadError("sizes that cannot be")
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at
