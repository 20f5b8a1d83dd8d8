"""What the probes paint with: backgrounds, simple things, words of a given height.

Comes in: positions and sizes in pixels, a source of chance. Goes out: RGB pictures. Knows no question.
"""

from __future__ import annotations

import math
import random
from functools import cache

from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
COLORS: dict[str, Color] = {
    "red": (205, 35, 40),
    "orange": (250, 140, 20),
    "yellow": (245, 220, 50),
    "green": (40, 150, 60),
    "blue": (40, 85, 205),
    "purple": (145, 60, 180),
}
SHAPES = ("circle", "square", "triangle", "star")
BACKGROUNDS: tuple[Color, ...] = ((222, 218, 208), (208, 216, 220), (214, 222, 210), (224, 212, 212), (212, 210, 222))
INK: Color = (20, 20, 24)
OVERSAMPLING = 2
"""Pictures are painted so many times larger and averaged down, so that edges are smooth. Words are not: they are
painted last, in the size that they have."""


class Canvas:
    """A square picture in the making; all positions are in pixels of the finished one."""

    def __init__(self, side: int, chance: random.Random) -> None:
        self.side = side
        self._large = Image.new("RGB", (side * OVERSAMPLING,) * 2, chance.choice(BACKGROUNDS))
        self._draw = ImageDraw.Draw(self._large)
        self._words: list[tuple[float, float, str, int, bool]] = []

    def thing(self, shape: str, color: str, x: float, y: float, diameter: float) -> None:
        """A shape inscribed in a circle around (x, y)."""
        fill = COLORS[color]
        edge = tuple(channel // 2 for channel in fill)
        x, y, radius = x * OVERSAMPLING, y * OVERSAMPLING, diameter / 2 * OVERSAMPLING
        width = max(1, round(radius / 12))
        if shape == "circle":
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=edge, width=width)
        else:
            self._draw.polygon(corners(shape, x, y, radius), fill=fill, outline=edge, width=width)

    def disk(self, color: Color, x: float, y: float, diameter: float) -> None:
        """A disk without an edge."""
        radius = diameter / 2 * OVERSAMPLING
        x, y = x * OVERSAMPLING, y * OVERSAMPLING
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    def words(self, text: str, x: float, y: float, height: int, *, plate: bool = False) -> None:
        """Text around (x, y), its capitals `height` pixels high; on a light plate, so that anything may lie below."""
        self._words.append((x, y, text, height, plate))

    def finished(self) -> Image.Image:
        """The picture, RGB."""
        picture = self._large.reduce(OVERSAMPLING)
        draw = ImageDraw.Draw(picture)
        for x, y, text, height, plate in self._words:
            font = font_of(height)
            if plate:
                left, top, right, bottom = draw.multiline_textbbox((x, y), text, font=font, anchor="mm", align="center")
                edge = max(2, height // 2)
                draw.rectangle(
                    (left - edge, top - edge, right + edge, bottom + edge), fill=(250, 250, 246), outline=INK
                )
            draw.multiline_text((x, y), text, font=font, fill=INK, anchor="mm", align="center")
        return picture


def corners(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Of a shape inscribed in a circle, clockwise; a triangle and a star stand on their base."""
    if shape == "star":
        polar = [(radius if corner % 2 == 0 else radius * 0.42, corner * math.pi / 5) for corner in range(10)]
    elif shape == "triangle":
        polar = [(radius, corner * 2 * math.pi / 3) for corner in range(3)]
    else:
        assert shape == "square", shape
        polar = [(radius, math.pi / 4 + corner * math.pi / 2) for corner in range(4)]
    return [(x + length * math.sin(angle), y - length * math.cos(angle)) for length, angle in polar]


@cache
def font_of(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font in the size at which a capital is so many pixels high, or the least more."""
    size = height
    while True:
        font = ImageFont.load_default(size=size)
        _, top, _, bottom = font.getbbox("H")
        if bottom - top >= height:
            return font
        size += 1


def wrapped(text: str, width: float, height: int) -> str:
    """Text broken into lines of at most so many pixels, where its words allow it."""
    font = font_of(height)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
