"""What a converter is told, and what it says of itself.

Comes in: values of options. Goes out: `Options`, checked, and a picture's path by a pattern. Knows no dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sightline.convert.dialogue import Item
from sightline.convert.source import Source
from sightline.errors import ConfigError, nearest
from sightline.geometry import CONVENTIONS

PROMPTS = ("CQM-A", "QCM-A", "QCM-LEA")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "boxes": tuple(CONVENTIONS),
    "prompt": PROMPTS,
    "answers": ("choice", "direct", "both"),
    "captions": ("first", "all"),
}
"""Option -> its values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a converter is told. `pictures` is a pattern for paths below the image root: `coco/{id:012d}.jpg`."""

    split: str
    pictures: str
    seed: int = 0
    boxes: str = "llava"
    prompt: str = "CQM-A"
    answers: str = "choice"
    captions: str = "first"
    ocr: bool = True
    per_picture: int = 0

    def picture(self, **fields: str | int) -> str:
        """The path that the pattern makes of what names a picture."""
        try:
            return self.pictures.format(split=self.split, **fields)
        except (LookupError, ValueError, AttributeError, TypeError):
            known = ", ".join(f"{{{name}}}" for name in ("split", *fields))
            raise ConfigError(
                f"--pictures: cannot write {self.pictures!r} with {known}; use these names, numbers as {{id:012d}}"
            ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A dataset.

    Args:
        about: what it is, in a line.
        files: the official files, as users see them named.
        read: the converter.
        splits: split -> where its pictures are, as LLaVA-1.5's mixture names them where it has them.
        defaults: the further options that it takes.
    """

    about: str
    files: str
    read: Callable[[Source, Options], Iterator[Item]]
    splits: Mapping[str, str]
    defaults: Mapping[str, str | int] = field(default_factory=dict)

    def options(self, name: str, given: Mapping[str, str | int | None]) -> Options:
        """Its defaults with what the user gave (None: nothing given).

        Raises:
            ConfigError: there is no such split or value, or the format does not take the option.
        """
        chosen = {key: value for key, value in given.items() if value is not None}
        split = str(chosen.get("split", next(iter(self.splits))))
        if split not in self.splits:
            hint = nearest(split, self.splits)
            raise ConfigError(f"--split: {name} has no {split!r}, only {', '.join(self.splits)}{hint}")
        for key, value in chosen.items():
            if key not in self.defaults and key not in ("split", "pictures", "seed"):
                takes = ", ".join(map(_flag, self.defaults)) or "no such options"
                raise ConfigError(f"{_flag(key)}: {name} does not take it; it takes {takes}")
            if key in CHOICES and value not in CHOICES[key]:
                hint = nearest(str(value), CHOICES[key])
                raise ConfigError(f"{_flag(key)}: found {value!r}, expected one of {', '.join(CHOICES[key])}{hint}")
        settled = {"pictures": self.splits[split], **self.defaults, **chosen, "split": split}
        return Options(**settled)  # type: ignore[arg-type]


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")
