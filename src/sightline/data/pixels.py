"""An RGB picture of any size to the pixels that an encoder takes.

Comes in: pictures as `image` opens them. Goes out: float32 pixels under the checkpoint's policy, to the last bit those
of transformers' processors: what is saved here is work whose results nobody sees. Pillow resizes columns first and
rounds to 8 bits between its two passes, so one pass may be given less to do than the other.

Two savings are not taken, since they change pixels. JPEG decoding at half the size moved grey levels by up to 3 of 255,
at a quarter by 5; `reducing_gap=2` by 2 (a picture of 2000 x 1500 with noise, to 336).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from sightline.geometry import Box, canvas_factor, model_view, resized_sides

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTransform:
    """How a checkpoint's pictures become pixels.

    `pad`: to a square in the mean colour, as LLaVA-1.5's stage 2. `crop`: the shorter side to `size`, the middle of the
    longer, as its stage 1. Resizing is bicubic on 8-bit channels.
    """

    policy: Literal["pad", "crop"]
    size: int
    mean: Triple
    std: Triple

    @property
    def pad_color(self) -> tuple[int, int, int]:
        """The mean in 8 bits, cut to whole numbers: (122, 116, 104) for CLIP, as in LLaVA's train.py."""
        red, green, blue = (int(channel * 255) for channel in self.mean)
        return red, green, blue

    def __call__(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """RGB -> float32[3, size, size], normalised."""
        assert image.mode == "RGB", image.mode
        if self.policy == "crop":
            square = resize_and_crop(image, self.size)
        else:
            factor = canvas_factor(*image.size)
            if factor > 1:
                image = image.reduce(factor)
            square = pad_and_resize(image, self.size, self.pad_color)
        levels, found = np.asarray(square), np.empty((3, self.size, self.size), np.float32)
        for channel, values in enumerate(level_values(self.mean, self.std)):
            np.take(values, levels[..., channel], out=found[channel], mode="clip")
        return found

    def frame(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Where the edges of a picture of `width` x `height` lie in the square, in shares of the square's side.

        Left, top, right, bottom. `pad` has them in the square or on its edge; what is beyond 0 and 1 was cut off by
        `crop`.
        """
        seen = model_view(width, height, policy=self.policy, size=self.size).forward_box(Box.of(0, 0, width, height))
        left, top, right, bottom = (float(edge / self.size) for edge in seen)
        return left, top, right, bottom


@functools.cache
def level_values(mean: Triple, std: Triple) -> npt.NDArray[np.float32]:
    """float32[3, 256]: what each grey level of each channel becomes, in transformers' order and precision."""
    levels = (np.arange(256)[:, None] * (1 / 255)).astype(np.float32)
    normalised = (levels - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.ascontiguousarray(normalised.T)


def pad_to_square(image: Image.Image, color: tuple[int, int, int]) -> Image.Image:
    """The picture in the middle of a square of its longer side; an odd pixel falls to the right or below.

    LLaVA's `expand2square` (llava/mm_utils.py).
    """
    if image.width == image.height:
        return image
    side = max(image.size)
    return _amid(image, (side, side), color)


def pad_and_resize(image: Image.Image, size: int, color: tuple[int, int, int]) -> Image.Image:
    """`pad_to_square`, then to `size`; a broad picture is narrowed first, so that only its own rows are."""
    if image.width <= image.height:
        return pad_to_square(image, color).resize((size, size), Image.Resampling.BICUBIC)
    narrow = image.resize((size, image.height), Image.Resampling.BICUBIC)
    return _amid(narrow, (size, image.width), color).resize((size, size), Image.Resampling.BICUBIC)


def _amid(image: Image.Image, canvas: tuple[int, int], color: tuple[int, int, int]) -> Image.Image:
    made = Image.new("RGB", canvas, color)
    made.paste(image, ((canvas[0] - image.width) // 2, (canvas[1] - image.height) // 2))
    return made


def resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """The shorter side to `size`, then the middle of the longer, from floor((side - size) / 2) on, as CLIP's does."""
    width, height = resized_sides(*image.size, size)
    left, top = (width - size) // 2, (height - size) // 2
    columns, rows = part_of_side(image.width, width, left, size), part_of_side(image.height, height, top, size)
    if columns is not None and rows is not None:
        box = (columns[0], rows[0], columns[1], rows[1])
        return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if left:  # the columns that are cut off need no second pass
        narrow = image.resize((width, image.height), Image.Resampling.BICUBIC).crop(
            (left, 0, left + size, image.height)
        )
        return narrow.resize((size, size), Image.Resampling.BICUBIC)
    return image.resize((width, height), Image.Resampling.BICUBIC).crop((0, top, size, top + size))


def part_of_side(side: int, resized: int, start: int, size: int) -> tuple[float, float] | None:
    """Which part of a side of `side` pixels becomes the pixels from `start` to `start + size` of `resized`.

    None where the answer is no number of 32 bits, in which Pillow takes it: it would move every pixel by a little.
    """
    found = start * side / resized, (start + size) * side / resized
    exact = all(
        float(np.float32(end)) == end and end * resized == place * side
        for end, place in zip(found, (start, start + size), strict=True)
    )
    return found if exact else None
