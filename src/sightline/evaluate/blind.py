"""The same questions with pictures that do not help: what is still answered right needs no eyes.

Comes in: what is to be asked. Goes out: the same, each with the picture of another question, or with a grey one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from typing import Literal, TypeVar, get_args

from PIL import Image

from sightline.data.image import check_image
from sightline.errors import ConfigError, DataError, nearest
from sightline.evaluate.answering import Asked

Blind = Literal["swap", "grey"]
WAYS: tuple[str, ...] = get_args(Blind)
GREY = (128, 128, 128)

Item = TypeVar("Item", bound=Hashable)


def blinded(asked: Sequence[Asked], how: str) -> list[Asked]:
    """Questions without a picture stay as they are.

    Raises:
        ConfigError: there is no such way.
        DataError: all questions are about one picture, so that none can be shown another.
    """
    if how not in WAYS:
        raise ConfigError(f"--blind {how}: expected {' or '.join(WAYS)}{nearest(how, WAYS)}")
    own = [picture for one in asked for picture in one.pictures]
    others = iter(swapped(own) if how == "swap" else [_grey(*check_image(picture)) for picture in own])
    return [replace(one, pictures=tuple(next(others) for _ in one.pictures)) for one in asked]


def swapped(images: Sequence[Item]) -> list[Item]:
    """Another picture for each: that of the question halfway around the list, and never its own.

    Raises:
        DataError: there is only one.
    """
    if len(set(images)) == 1:
        name = images[0] if len(str(images[0])) < 200 else "one picture"
        raise DataError(
            f"all questions are about {name}, so none can be shown another picture: leave the blind run out",
            reason="one_picture",
        )
    shifted = []
    for position, own in enumerate(images):
        around = (images[(position + len(images) // 2 + step) % len(images)] for step in range(len(images)))
        shifted.append(next(image for image in around if image != own))
    return shifted


@lru_cache(maxsize=256)
def _grey(width: int, height: int) -> bytes:
    """A PNG of one grey."""
    file = BytesIO()
    Image.new("RGB", (width, height), GREY).save(file, format="PNG")
    return file.getvalue()
