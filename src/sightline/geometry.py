"""Where things are: boxes and points through padding, resizing and cropping, both ways, and how boxes are written down.

Comes in: widths and heights, boxes and points. Goes out: the same places in the other picture, or numbers in a named
convention. Knows nothing of pixels: what the data layer does to them, this says of coordinates.

Coordinates are continuous: a picture of width w spans 0 to w, its pixel i spans i to i + 1 with its centre at i + 0.5,
as Pillow resizes. A box is (left, top, right, bottom), its edges. All arithmetic is exact, in fractions; rounding
happens once, where a convention writes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, NamedTuple

Number = int | float | Fraction
Point = tuple[Fraction, Fraction]

MAX_CANVAS_SIDE = 4096
"""Longest side that is padded as it is, so that 8192 x 82 never becomes a square of 268 MB."""


class Box(NamedTuple):
    """Edges of a rectangle: `left` to before `right`, `top` to before `bottom`."""

    left: Fraction
    top: Fraction
    right: Fraction
    bottom: Fraction

    @classmethod
    def of(cls, left: Number, top: Number, right: Number, bottom: Number) -> Box:
        """From any finite numbers, exactly as they are."""
        return cls(Fraction(left), Fraction(top), Fraction(right), Fraction(bottom))

    @classmethod
    def of_extent(cls, left: Number, top: Number, width: Number, height: Number) -> Box:
        """From its corner and its size, as COCO and Visual Genome write boxes."""
        return cls.of(left, top, Fraction(left) + Fraction(width), Fraction(top) + Fraction(height))

    @property
    def is_empty(self) -> bool:
        return self.right <= self.left or self.bottom <= self.top

    def within(self, width: Number, height: Number) -> Box:
        """What of it lies in a picture of that size; empty where nothing does."""
        across, down = Fraction(width), Fraction(height)
        left, top = min(max(self.left, Fraction(0)), across), min(max(self.top, Fraction(0)), down)
        return Box(left, top, max(min(self.right, across), left), max(min(self.bottom, down), top))


class Axis(NamedTuple):
    """What happens along one axis: x becomes x * scale + shift."""

    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)

    def forward(self, x: Number) -> Fraction:
        return Fraction(x) * self.scale + self.shift

    def inverse(self, x: Number) -> Fraction:
        return (Fraction(x) - self.shift) / self.scale

    def then(self, scale: Number = 1, shift: Number = 0) -> Axis:
        return Axis(self.scale * Fraction(scale), self.shift * Fraction(scale) + Fraction(shift))


STILL = Axis()


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """The way of a picture of `source` to one of `width` x `height` pixels, one step after the other.

    `Geometry.of(640, 480).padded().resized(336, 336)` is LLaVA-1.5's.
    """

    source: tuple[int, int]
    width: int
    height: int
    x: Axis = STILL
    y: Axis = STILL

    @classmethod
    def of(cls, width: int, height: int) -> Geometry:
        """The picture itself."""
        if width < 1 or height < 1:
            raise ValueError(f"a picture of {width} x {height}")
        return cls(source=(width, height), width=width, height=height)

    def padded(self) -> Geometry:
        """In the middle of a square of the longer side; an odd pixel falls to the right or below.

        LLaVA's `expand2square` (llava/mm_utils.py).
        """
        side = max(self.width, self.height)
        left, top = (side - self.width) // 2, (side - self.height) // 2
        return replace(self, width=side, height=side, x=self.x.then(shift=left), y=self.y.then(shift=top))

    def resized(self, width: int, height: int) -> Geometry:
        """All of it, stretched."""
        across, down = Fraction(width, self.width), Fraction(height, self.height)
        return replace(self, width=width, height=height, x=self.x.then(across), y=self.y.then(down))

    def cropped(self, left: int, top: int, width: int, height: int) -> Geometry:
        """The part of it that starts at (left, top)."""
        return replace(self, width=width, height=height, x=self.x.then(shift=-left), y=self.y.then(shift=-top))

    def reduced(self, factor: int) -> Geometry:
        """Every `factor` x `factor` pixels as one; the last column and row may hold fewer (Pillow's `reduce`)."""
        width, height, scale = -(-self.width // factor), -(-self.height // factor), Fraction(1, factor)
        return replace(self, width=width, height=height, x=self.x.then(scale), y=self.y.then(scale))

    def forward_point(self, x: Number, y: Number) -> Point:
        """A place in the source -> where it is seen."""
        return self.x.forward(x), self.y.forward(y)

    def inverse_point(self, x: Number, y: Number) -> Point:
        """Where something is seen -> its place in the source, which may lie outside it: in the padding."""
        return self.x.inverse(x), self.y.inverse(y)

    def forward_box(self, box: Box) -> Box:
        """A box in the source -> the same box as it is seen, with what a crop cut off."""
        return Box(*self.forward_point(box.left, box.top), *self.forward_point(box.right, box.bottom))

    def inverse_box(self, box: Box) -> Box:
        """A box as it is seen -> the same box in the source, with what lies in the padding."""
        return Box(*self.inverse_point(box.left, box.top), *self.inverse_point(box.right, box.bottom))


def model_view(width: int, height: int, *, policy: Literal["pad", "crop"], size: int) -> Geometry:
    """From an upright picture to the `size` x `size` pixels of `data.pixels.ImageTransform` of the same policy."""
    whole = Geometry.of(width, height)
    if policy == "crop":
        across, down = resized_sides(width, height, size)
        return whole.resized(across, down).cropped((across - size) // 2, (down - size) // 2, size, size)
    factor = canvas_factor(width, height)
    return (whole.reduced(factor) if factor > 1 else whole).padded().resized(size, size)


def canvas_factor(width: int, height: int) -> int:
    """By how much a picture is reduced before it is padded; 1 up to `MAX_CANVAS_SIDE`."""
    return -(-max(width, height) // MAX_CANVAS_SIDE)


def resized_sides(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height when the shorter side becomes `size`; the longer one is cut to a whole number.

    transformers' `get_resize_output_image_size`, which CLIP's processor uses.
    """
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


@dataclass(frozen=True, kw_only=True, slots=True)
class Convention:
    """How four numbers stand for a box.

    Args:
        frame: what they are measured in: pixels, or parts of the picture's or of the padded square's sides.
        whole: the number that stands for a whole side: 1, or 1000; with pixels it is not used.
        extent: the last two numbers are width and height, not right and bottom.
        decimals: places that are written, by Python's `round`; 0 writes whole numbers.
    """

    frame: Literal["pixels", "picture", "square"]
    whole: int = 1
    extent: bool = False
    decimals: int

    def numbers(self, box: Box, width: int, height: int) -> tuple[float, ...]:
        """A box in pixels of a picture of that size -> the four numbers, rounded.

        As a list, Python writes them as LLaVA's data has them: `[0.25, 0.5, 0.75, 1.0]`, without zeros at the end.
        """
        left, top, right, bottom = _framed(self.frame, self.whole, width, height).forward_box(box)
        found = (left, top, right - left, bottom - top) if self.extent else (left, top, right, bottom)
        return tuple(round(float(number), self.decimals) if self.decimals else round(number) for number in found)

    def box(self, numbers: Sequence[Number], width: int, height: int) -> Box:
        """The four numbers -> the box in pixels of a picture of that size."""
        box = Box.of_extent(*numbers) if self.extent else Box.of(*numbers)
        return _framed(self.frame, self.whole, width, height).inverse_box(box)


@functools.lru_cache(maxsize=1024)
def _framed(frame: Literal["pixels", "picture", "square"], whole: int, width: int, height: int) -> Geometry:
    """From pixels to a convention's numbers; kept, as a picture has many boxes."""
    picture = Geometry.of(width, height)
    if frame == "pixels":
        return picture
    return (picture.padded() if frame == "square" else picture).resized(whole, whole)


CONVENTIONS = {
    "llava": Convention(frame="square", decimals=2),
    "unit": Convention(frame="picture", decimals=3),
    "thousand": Convention(frame="picture", whole=1000, decimals=0),
    "pixels-xyxy": Convention(frame="pixels", decimals=0),
    "pixels-xywh": Convention(frame="pixels", extent=True, decimals=2),
}
"""Name -> convention.

- `llava`: parts of the padded square, two decimals. So are the region dialogues of LLaVA-1.5's mixture
  (haotian-liu/LLaVA issue 606, where users found it out).
- `unit`: parts of the picture, three decimals. So are the boxes in the prompts to LLaVA's teacher
  (playground/data/prompts).
- `thousand`: whole thousandths of the picture, rounded. InternVL's are cut instead (OpenGVLab/InternVL issue 285).
- `pixels-xyxy`: whole pixels. `pixels-xywh`: corner, width and height with two decimals, as COCO's files (data format).
"""
