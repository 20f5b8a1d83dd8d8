"""Paints a scene.

Comes in: a `Scene`. Goes out: an RGB picture of `CANVAS` x `CANVAS` pixels, the same on every run.
Knows nothing of captions or questions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sightline.demo.world import CANVAS, COLORS, SIGN, Scene, Sign, Thing

OVERSAMPLING = 3
"""Shapes are drawn this many times larger and averaged down, so that their edges are smooth."""

BACKGROUNDS = ((176, 168, 150), (150, 165, 172), (165, 178, 160), (182, 160, 160), (160, 155, 175), (188, 182, 172))
"""Muted tones: each of the eight colors stands out against every one of them."""


def paint(scene: Scene, *, seed: int = 0) -> Image.Image:
    """The picture of the scene, RGB, `CANVAS` pixels square. `seed` and the scene's index choose texture and jitter."""
    rng = random.Random(f"paint/{seed}/{scene.index}")
    background = Image.fromarray(_texture(rng)).resize((CANVAS * OVERSAMPLING,) * 2, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(background)
    for thing in scene.things:
        _draw_thing(draw, thing, rng)
    picture = background.reduce(OVERSAMPLING)
    if scene.sign is not None:
        _draw_sign(picture, scene.sign, rng)
    return picture


def _texture(rng: random.Random) -> npt.NDArray[np.uint8]:
    """A background of low contrast, uint8[CANVAS, CANVAS, 3]: grain over stripes, checks, waves or a gradient."""
    noise = np.random.default_rng(rng.getrandbits(32))
    base = np.array(rng.choice(BACKGROUNDS), dtype=np.float32)
    row, column = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float32)
    period = rng.uniform(7, 20)
    pattern = {
        "plain": np.zeros_like(row),
        "stripes": np.sin((row + column * rng.choice((0.0, 1.0, -1.0))) * 2 * math.pi / period),
        "checks": np.sign(np.sin(row * math.pi / period) * np.sin(column * math.pi / period)),
        "waves": np.sin(row * 2 * math.pi / period + 2 * np.sin(column * 2 * math.pi / (2 * period))),
        "gradient": (row * rng.uniform(-1, 1) + column * rng.uniform(-1, 1)) / CANVAS * 2,
    }[rng.choice(("plain", "stripes", "checks", "waves", "gradient"))]
    grain = noise.normal(0, 4, (CANVAS, CANVAS, 1)).astype(np.float32)
    painted: npt.NDArray[np.uint8] = np.clip(base + 9 * pattern[..., None] + grain, 0, 255).astype(np.uint8)
    return painted


def _draw_thing(draw: ImageDraw.ImageDraw, thing: Thing, rng: random.Random) -> None:
    fill = _shade(thing.color, rng)
    edge = _darker(fill) if thing.color != "black" else (90, 90, 95)
    x, y = thing.x * OVERSAMPLING, thing.y * OVERSAMPLING
    radius = thing.diameter / 2 * OVERSAMPLING
    box = (x - radius, y - radius, x + radius, y + radius)
    if thing.shape == "circle":
        draw.ellipse(box, fill=fill, outline=edge, width=OVERSAMPLING)
    elif thing.shape == "ring":
        draw.ellipse(box, outline=edge, width=int(radius * 0.46))
        inset = OVERSAMPLING
        draw.ellipse(
            (box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset),
            outline=fill,
            width=int(radius * 0.46) - 2 * inset,
        )
    else:
        turn = rng.uniform(-0.2, 0.2)
        draw.polygon(outline(thing.shape, x, y, radius, turn), fill=fill, outline=edge, width=OVERSAMPLING)


def _shade(color: str, rng: random.Random) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, channel + rng.randint(-12, 12))) for channel in COLORS[color])
    return red, green, blue


def _darker(color: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (int(channel * 0.55) for channel in color)
    return red, green, blue


def outline(shape: str, x: float, y: float, radius: float, turn: float) -> Sequence[tuple[float, float]]:
    """Corners of a shape inscribed in the circle of this radius, turned by `turn` radians."""
    if shape == "star":
        polar = [(radius if corner % 2 == 0 else radius * 0.42, corner * math.pi / 5) for corner in range(10)]
    elif shape == "triangle":
        polar = [(radius, corner * 2 * math.pi / 3) for corner in range(3)]
    elif shape == "square":
        polar = [(radius, math.pi / 4 + corner * math.pi / 2) for corner in range(4)]
    else:
        assert shape == "cross", shape
        half = radius * 0.32
        arm = math.sqrt(radius**2 - half**2)
        corners = []
        for quarter in range(4):
            for dx, dy in ((-half, -arm), (half, -arm), (half, -half)):
                corners.append(_turned(dx, dy, quarter * math.pi / 2 + turn))
        return [(x + dx, y + dy) for dx, dy in corners]
    return [(x + length * math.sin(angle + turn), y - length * math.cos(angle + turn)) for length, angle in polar]


def _turned(dx: float, dy: float, angle: float) -> tuple[float, float]:
    return dx * math.cos(angle) - dy * math.sin(angle), dx * math.sin(angle) + dy * math.cos(angle)


def _draw_sign(picture: Image.Image, sign: Sign, rng: random.Random) -> None:
    """The plate and its text, drawn at full resolution so that the letters stay crisp."""
    width, height = SIGN
    light = rng.randint(225, 250)
    plate, ink = (light, light, light - 5), (20, 20, 20)
    draw = ImageDraw.Draw(picture)
    box = (sign.x - width / 2, sign.y - height / 2, sign.x + width / 2, sign.y + height / 2)
    draw.rectangle(box, fill=plate, outline=ink)
    font = ImageFont.load_default(size=22)
    draw.text((sign.x, sign.y), sign.text.upper(), font=font, fill=ink, anchor="mm", stroke_width=0.5)
