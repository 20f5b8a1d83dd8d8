"""The official files of a benchmark in a folder, and the pictures that they name.

Comes in: a folder as the user has it, patterns of file names. Goes out: paths. What is missing, and what is there
twice, is one line that says which file was looked for. Reads no file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sightline.errors import DataError

PICTURES = (".jpg", ".png", ".jpeg", ".webp")
COCO = ("COCO_val2014_", "COCO_test2015_", "COCO_train2014_", "")
"""What stands before the twelve digits of a picture of COCO."""


class Wanted(NamedTuple):
    """The files that a benchmark's questions come from.

    Attributes:
        names: patterns of paths below the folder, at any depth; the first that any file matches. A group is the split.
        example: such a file, as the benchmark's page names it.
        truths: names of files of the same split that the scorer reads too, where they are there.
        hints: the same, of files that only the prompts need.
        several: all files that match belong together; otherwise one does.
    """

    names: tuple[str, ...]
    example: str
    truths: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    several: bool = False


class Found(NamedTuple):
    """Paths of the questions' files, of those beside them, which may be none, and of the other splits' questions."""

    questions: list[Path]
    truths: list[Path]
    hints: list[Path]
    others: list[Path]


class Folder:
    """Everything in a folder, by name; links to folders are followed."""

    def __init__(self, root: Path) -> None:
        """
        Raises:
            DataError: there is no such folder.
        """
        if not root.is_dir():
            raise DataError(f"--data {root}: no such folder; give the one with the official files", reason="no_data")
        self.root = root
        self._paths: dict[str, list[PurePosixPath]] = {}
        for place, folders, names in os.walk(root, followlinks=True):
            folders.sort()
            inside = PurePosixPath(Path(place).relative_to(root).as_posix())
            for name in sorted(names):
                self._paths.setdefault(name, []).append(inside / name)

    def find(self, wanted: Wanted, *, split: str = "") -> Found:
        """The files of a benchmark.

        Args:
            split: a part of the name of the questions' file, where there are several splits.

        Raises:
            DataError: they are not there, or of several splits.
        """
        everything = [path for paths in self._paths.values() for path in paths]
        for pattern in wanted.names:
            matches = [(path, re.fullmatch(rf"(?:.*/)?{pattern}", str(path))) for path in everything]
            fits = [(path, match) for path, match in matches if match]
            chosen = [(path, match) for path, match in fits if split in str(path)]
            if chosen:
                break
        else:
            said = f" of a split named {split!r}" if split else ""
            raise DataError(
                f"{self.root}: no {wanted.example}{said} in it or below; put the official files there",
                reason="file_missing",
            )
        if not wanted.several and len(chosen) > 1:
            names = ", ".join(str(path) for path, _ in chosen[:4])
            raise DataError(
                f"{self.root}: {len(chosen)} files fit ({names}); say which by --split, a part of its name",
                reason="splits",
            )
        match = chosen[0][1]
        assert match is not None
        return Found(
            sorted(self.root / path for path, _ in chosen),
            [path for name in wanted.truths for path in self._named(match.expand(name))],
            [path for name in wanted.hints for path in self._named(match.expand(name))],
            [self.root / path for path, _ in fits if path not in {path for path, _ in chosen}],
        )

    def picture(self, names: Sequence[str]) -> Path | None:
        """The first of these pictures that is there: a name, or the last parts of a path.

        Raises:
            DataError: two files fit one name.
        """
        for name in names:
            wanted = PurePosixPath(name).parts
            if not wanted:
                continue
            found = [path for path in self._paths.get(wanted[-1], ()) if path.parts[-len(wanted) :] == wanted]
            if len(found) > 1:
                raise DataError(
                    f"{self.root}: picture {name} is there twice, {found[0]} and {found[1]}: keep one of them, or give "
                    "the benchmark a folder of its own",
                    reason="picture_doubled",
                )
            if found:
                return self.root / found[0]
        return None

    def _named(self, name: str) -> list[Path]:
        return [self.root / path for path in self._paths.get(name, ())[:1]]


def picture_names(image: str) -> list[str]:
    """Under which names a picture may lie: as the files name it, or an id as COCO and the others make names of it."""
    names = [image] if PurePosixPath(image).suffix.lower() in PICTURES else []
    if image.isdigit():
        names += [f"{start}{int(image):012d}{ending}" for start in COCO for ending in PICTURES[:2]]
    return names + [f"{image}{ending}" for ending in PICTURES]


def category_names(image: str) -> list[str]:
    """MME's pictures lie in the folder of their category, or in its `images`."""
    path = PurePosixPath(image)
    stems: Iterable[str] = (f"{path.parent}/{path.stem}", f"{path.parent}/images/{path.stem}")
    return [f"{stem}{ending}" for stem in stems for ending in PICTURES]
