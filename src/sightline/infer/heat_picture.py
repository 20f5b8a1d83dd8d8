"""Where a model looked, as a picture to look at.

Comes in: pictures with their heat, a question, an answer. Goes out: a PNG that has each picture beside itself under its
heat, over a caption. Does not know models.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sightline.atomic import write_atomic
from sightline.infer.chat import ChatSession
from sightline.infer.explain import Grid, Heat, explain

COLORS = "inferno"
"""matplotlib's: even steps of heat look even, also without color vision (Smith and van der Walt 2015)."""
OPACITY = 0.85
"""Of the heat where it is 1."""
SIDE = 768
"""Longest side of a drawn picture in pixels."""
PANEL = 4.0
"""Width of one picture in inches."""


def explain_last(session: ChatSession, target: Path) -> None:
    """Draws the newest answer of a session into `target`. Errors as in `explain`; a file that is there is replaced."""
    assert session.last is not None
    heats = explain(
        session.model, session.processor, session.turns[:-1], session.pictures, session.last.answer,
        system=session.system,
    )  # fmt: skip
    question = "".join(part for part in session.turns[-2].content if isinstance(part, str)).strip()
    write_atomic(target, draw(session.pictures, heats, question=question, answer=session.last.answer))


def heated(picture: Image.Image, heat: Grid) -> npt.NDArray[np.uint8]:
    """The picture in grey, and over it the heat float32[h, w], more opaque where it is more: uint8[h, w, 3]."""
    from matplotlib import colormaps

    grey = np.asarray(picture.convert("L"), np.float32)[..., None] / 255
    share = OPACITY * np.sqrt(heat)[..., None]
    mixed = (1 - share) * grey + share * colormaps[COLORS](heat)[..., :3]
    levels: npt.NDArray[np.uint8] = (mixed * 255).round().astype(np.uint8)
    return levels


def draw(pictures: Sequence[Image.Image], heats: Sequence[Heat], *, question: str, answer: str) -> bytes:
    """The PNG: a row for each picture, one scale of heat for all."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    small = [_at_most(picture, SIDE) for picture in pictures]
    tall = sum(PANEL * picture.height / picture.width for picture in small)
    caption = "\n".join(_wrapped(text) for text in (f"Q: {question}", f"A: {answer}"))
    figure = Figure(figsize=(2 * PANEL + 0.8, tall + 0.25 * caption.count("\n") + 0.8), layout="constrained", dpi=150)
    figure.suptitle(caption, x=0.02, ha="left", fontsize=11, parse_math=False)
    grid = figure.subplots(len(small), 2, squeeze=False, height_ratios=[one.height / one.width for one in small])
    for (plain, hot), picture, heat in zip(grid, small, heats, strict=True):
        plain.imshow(picture)
        hot.imshow(heated(picture, heat.over_picture(*picture.size)))
        for axes in (plain, hot):
            axes.set_axis_off()
    bar = figure.colorbar(ScalarMappable(cmap=COLORS), ax=grid[:, 1], fraction=0.05, ticks=[0, 1])
    bar.ax.set_yticklabels(["none", "most"])
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _at_most(picture: Image.Image, side: int) -> Image.Image:
    """The picture, made smaller where it is larger than this, or larger with visible pixels where it is tiny."""
    scale = side / max(picture.size)
    if scale >= 1:
        times = max(1, int(scale))
        return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, width=100, subsequent_indent="     ", max_lines=6, placeholder=" ...")
