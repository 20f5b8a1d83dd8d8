from __future__ import annotations

import pytest

from sightline.synth.context import Box, Context, fractions
from tests.synth.samples import YARD


@pytest.mark.parametrize(
    ("corners", "size", "expected"),
    [
        pytest.param((20, 60, 60, 80), (200, 100), (0.1, 0.6, 0.3, 0.8), id="inside"),
        pytest.param((190, 60, 230, 80), (200, 100), (0.95, 0.6, 1.0, 0.8), id="cut at the right"),
        pytest.param((-10, -10, 300, 300), (200, 100), (0.0, 0.0, 1.0, 1.0), id="larger than the picture"),
        pytest.param((1, 1, 2, 2), (3, 3), (0.333, 0.333, 0.667, 0.667), id="three decimals"),
        pytest.param((10, 10, 10, 60), (200, 100), None, id="no width"),
        pytest.param((60, 80, 20, 60), (200, 100), None, id="turned over"),
        pytest.param((300, 10, 320, 20), (200, 100), None, id="outside"),
        pytest.param((10, 10, 10.05, 20), (200, 100), None, id="nothing is left after rounding"),
    ],
)
def test_pixels_become_shares_of_the_picture(
    corners: tuple[float, ...], size: tuple[float, float], expected: tuple[float, ...] | None
) -> None:
    assert fractions(*corners, width=size[0], height=size[1]) == expected


def test_a_box_is_written_with_three_decimals_always() -> None:
    assert Box(category="dog", corners=(0.0, 0.5, 0.25, 1.0)).line == "dog: [0.000, 0.500, 0.250, 1.000]"
    assert Box(category="dog", corners=(0, 0, 1, 1), crowd=True).line == "dog (a crowd): [0.000, 0.000, 1.000, 1.000]"


def test_only_the_chosen_parts_are_shown() -> None:
    captions, boxes = YARD.shown(("captions",)), YARD.shown(("boxes",))
    assert captions.splitlines() == list(YARD.captions)
    assert boxes.splitlines()[0] == "dog: [0.100, 0.600, 0.300, 0.800]"
    assert YARD.shown(("captions", "boxes")) == f"{captions}\n\n{boxes}"
    assert Context(id="1", image="1.jpg", captions=(), boxes=YARD.boxes).shown(("captions",)) == ""


def test_a_category_with_a_crowd_is_not_counted() -> None:
    crowd = Box(category="dog", corners=(0, 0, 1, 1), crowd=True)
    assert YARD.counts() == {"dog": 2, "bench": 1, "person": 1}
    more = Context(id="1", image="1.jpg", captions=(), boxes=(*YARD.boxes, crowd))
    assert more.counts() == {"bench": 1, "person": 1}
