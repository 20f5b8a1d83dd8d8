"""What a text-only teacher knows of a picture: its captions, and its boxes as lines of text.

Comes in: what a source found. Goes out: `Context`, and the text that stands for it in a prompt. Does not know where
captions and boxes come from, nor what is asked about them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Part = Literal["captions", "boxes"]
PARTS: tuple[Part, ...] = ("captions", "boxes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """One thing of the picture. `corners`: left, top, right, bottom as shares of width and height, 0 to 1.

    A `crowd` is one box around more things of a category than somebody wanted to draw (COCO's `iscrowd`).
    """

    category: str
    corners: tuple[float, float, float, float]
    crowd: bool = False

    @property
    def line(self) -> str:
        """`dog: [0.120, 0.300, 0.500, 0.900]`: LLaVA's form (Liu et al. 2023, table 1), with three decimals always."""
        name = f"{self.category} (a crowd)" if self.crowd else self.category
        return f"{name}: [{', '.join(f'{value:.3f}' for value in self.corners)}]"

    @property
    def center(self) -> tuple[float, float]:
        left, top, right, bottom = self.corners
        return (left + right) / 2, (top + bottom) / 2

    @property
    def area(self) -> float:
        """Share of the picture that the box covers, 0 to 1."""
        left, top, right, bottom = self.corners
        return (right - left) * (bottom - top)


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """All that is written about one picture. `image` is its path, relative to the folder of the pictures."""

    id: str
    image: str
    captions: tuple[str, ...]
    boxes: tuple[Box, ...]

    def counts(self) -> Counter[str]:
        """How many things there are of each category, in the order of the boxes; none of a category with a crowd."""
        crowds = {box.category for box in self.boxes if box.crowd}
        return Counter(box.category for box in self.boxes if box.category not in crowds)

    def shown(self, parts: Collection[Part]) -> str:
        """The text of these parts: captions line by line, an empty line, boxes line by line."""
        blocks = []
        if "captions" in parts and self.captions:
            blocks.append("\n".join(self.captions))
        if "boxes" in parts and self.boxes:
            blocks.append("\n".join(box.line for box in self.boxes))
        return "\n\n".join(blocks)


def fractions(
    left: float, top: float, right: float, bottom: float, *, width: float, height: float
) -> tuple[float, float, float, float] | None:
    """Pixels to shares of the picture, cut at its borders, to three decimals; None when nothing is left of the box.

    >>> fractions(-10, 20, 50, 220, width=100, height=200)
    (0.0, 0.1, 0.5, 1.0)
    """
    x1, x2 = (round(min(max(value / width, 0.0), 1.0), 3) for value in (left, right))
    y1, y2 = (round(min(max(value / height, 0.0), 1.0), 3) for value in (top, bottom))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
