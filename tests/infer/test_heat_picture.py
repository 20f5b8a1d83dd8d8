"""Heat over a picture, as a picture: where there is none it stays grey, and the file is whole."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.infer.chat import ChatSession
from sightline.infer.explain import Heat
from sightline.infer.heat_picture import draw, explain_last, heated
from sightline.infer.sampling import Sampling
from tests.tiny_checkpoint import tiny_assistant

RED = Image.new("RGB", (40, 30), (200, 30, 30))


def test_where_nothing_mattered_the_picture_is_grey_and_where_something_did_it_is_not() -> None:
    heat = np.zeros((30, 40), np.float32)
    heat[10:, 20:] = 0.6
    found = heated(RED, heat).astype(int)
    grey = np.asarray(RED.convert("L"))[0, 0]
    assert (found[:10] == grey).all()
    assert (found[:, :20] == grey).all()
    assert (np.ptp(found[10:, 20:], axis=-1) > 100).all(), "a color, not a grey"


@pytest.mark.parametrize("sizes", [[(40, 30)], [(3, 5), (1600, 200)]])
def test_the_drawing_is_a_png_that_grows_with_its_pictures(sizes: list[tuple[int, int]]) -> None:
    pictures = [Image.new("RGB", size, (30, 90, 200)) for size in sizes]
    heat = Heat(grid=np.eye(4, dtype=np.float32), box=(0, 0, 4, 4), words=("x",))
    long = "What costs $5 and $10, and what is it? " * 20
    drawn = draw(pictures, [heat] * len(pictures), question=long, answer="A_1 ^ {b}")
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.format == "PNG"
        levels = np.asarray(image.convert("RGB")).astype(int)
    blue = (np.abs(levels - (30, 90, 200)).max(-1) < 3).sum(0)
    half = levels.shape[1] // 2
    assert blue[:half].sum() > 10_000, "the plain picture, on the left"
    assert blue[half:].sum() == 0, "grey and heat, on the right"


def test_the_newest_answer_is_drawn(tmp_path: Path) -> None:
    model, processor = tiny_assistant()
    session = ChatSession(model=model, processor=processor, sampling=Sampling(max_new_tokens=6))
    session.ask("What?", [RED])
    session.ask("And this?", [RED])
    explain_last(session, tmp_path / "where.png")
    with Image.open(tmp_path / "where.png") as image:
        assert image.format == "PNG"
        assert image.height > image.width / 2, "two rows"
    assert [path.name for path in tmp_path.iterdir()] == ["where.png"]
