"""The pointing game: boxes become patches, a heat on the thing wins, one beside it does not."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.attribution import METHODS
from benchmarks.pointing import Case, Pointed, boxes, chance, covered, point, row
from PIL import Image

from sightline.data.sample import ImageRef, Turn
from sightline.demo.teacher import ASKERS
from sightline.infer.relevance import Asked
from tests.demo.scenes import scene_of, thing
from tests.tiny_checkpoint import tiny_assistant

TURN = Turn(role="user", content=(ImageRef(index=0), "\nWhat colour is the car?"))


def test_a_box_in_patches() -> None:
    """Of a grid of 6 x 6 patches of 16 pixels: one from 8 to 40 across and from 16 to 32 down."""
    inside, centers = covered([(8, 16, 40, 32)], 6)
    expected = np.zeros((6, 6))
    expected[1, :3] = 0.5, 1, 0.5
    assert np.array_equal(inside, expected)
    assert np.argwhere(centers).tolist() == [[1, 1]], "a center on the edge is not inside"


def test_boxes_that_overlap_count_once() -> None:
    assert covered([(0, 0, 96, 96), (8, 8, 40, 40)], 6)[0].max() == 1


def test_the_boxes_are_those_of_what_the_answer_turns_on() -> None:
    scene = scene_of(thing("red", "star", x=20), thing("blue", "circle", x=70), thing("red", "ring", x=45))
    for kind, asker in ASKERS.items():
        for seed in range(20):
            exchange = asker(scene, random.Random(seed))
            if exchange is None:
                continue
            found = boxes(scene, exchange)
            assert len(found) == len(exchange.things)
            for (left, top, right, bottom), one in zip(found, exchange.things, strict=True):
                assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((one.x, one.y))
                assert (right - left, bottom - top) == pytest.approx((one.diameter, one.diameter))
                assert kind == "count" or one.color in exchange.question or one.shape in exchange.question


def case(place: tuple[int, int]) -> Case:
    inside = np.zeros((4, 4))
    inside[place] = 1
    return Case(
        type="color", turn=TURN, answer="Red.", picture=Image.new("RGB", (32, 32)), inside=inside, centers=inside
    )


def test_heat_on_the_thing_is_a_hit_and_its_mirror_image_is_not() -> None:
    model, processor = tiny_assistant()

    def method(asked: Asked) -> torch.Tensor:
        found = torch.zeros(4, 4)
        found[1, 3], found[0, 0] = 0.75, 0.25
        return found.flatten()

    asked = case((1, 3))
    hit = point(model, processor, asked, method, picture=asked.picture)
    assert (hit.hit, hit.energy) == (1, pytest.approx(0.75))
    missed = point(model, processor, case((3, 1)), method, picture=asked.picture)
    assert (missed.hit, missed.energy) == (0, 0)


def test_rows_are_means_by_type_and_chance_is_the_share_of_the_boxes() -> None:
    pointed = [
        Pointed(type="color", hit=1, energy=0.5, seconds=1),
        Pointed(type="color", hit=0, energy=0.1, seconds=2),
        Pointed(type="shape", hit=1, energy=0.9, seconds=3),
    ]
    hits, energy = row("x", pointed)
    assert hits == {"method": "x", "color": 0.5, "shape": 1, "all": pytest.approx(2 / 3), "seconds": 2}
    assert energy["color"] == pytest.approx(0.3)
    (lot,) = chance([replace(case((0, 0)), inside=np.full((4, 4), 0.5))])
    assert (lot.hit, lot.energy) == (1 / 16, 0.5)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_heat_and_leaves_the_model_alone(name: str) -> None:
    model, processor = tiny_assistant()
    noise = Image.effect_noise((32, 32), 90).convert("RGB")
    asked = replace(case((0, 0)), picture=noise)
    before = model.language.config._attn_implementation
    found = point(model, processor, asked, METHODS[name], picture=noise)
    assert 0 <= found.energy <= 1
    assert model.language.config._attn_implementation == before
