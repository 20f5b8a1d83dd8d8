"""The encoder's batches: which caption belongs to which picture and to which of its patches, and what is saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, CLIPVisionModel

from sightline.demo.describe import phrases, statements
from sightline.demo.paint import paint
from sightline.demo.pretrain_vision import SEED, Batch, Contrast, Pictures, normalise, patches_under, train
from sightline.demo.world import Sign, Thing
from tests.demo.scenes import thing


def disc(x: float, y: float, diameter: float) -> Thing:
    return replace(thing("red", "circle", x=x, y=y), diameter=diameter)


@pytest.mark.parametrize(
    ("item", "under", "touched"),
    [
        (disc(24, 40, 14), {13}, {13}),
        (disc(32, 32, 20), {7, 8, 13, 14}, {7, 8, 13, 14}),
        (disc(28, 40, 16), {13}, {13, 14}),
        (disc(32, 40, 28), {13, 14}, {7, 8, 13, 14, 19, 20}),
        (disc(32, 40, 32), {7, 8, 13, 14, 19, 20}, {7, 8, 13, 14, 19, 20}),
        (disc(9, 84, 17), {30}, {24, 25, 30, 31}),
        (Sign(text="cat", x=27, y=14), {0, 1, 2, 6, 7, 8}, {0, 1, 2, 3, 6, 7, 8, 9}),
    ],
)
def test_a_thing_lies_on_the_patches_that_share_most_of_its_box(
    item: Thing | Sign, under: set[int], touched: set[int]
) -> None:
    found = patches_under(item)
    assert (set(np.flatnonzero(found[0]).tolist()), set(np.flatnonzero(found[1]).tolist())) == (under, touched)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures(size=40)


@pytest.fixture(scope="module")
def batch(pictures: Pictures) -> Batch:
    return pictures.batch(range(40), np.random.default_rng(0))


def captions(pictures: Pictures, batch: Batch) -> list[str]:
    words = {number: word for word, number in pictures.words.items()}
    return [" ".join(words[number] for number in row if number) for row in batch.words.tolist()]


def test_a_caption_belongs_to_every_picture_that_it_is_true_of(pictures: Pictures, batch: Batch) -> None:
    texts = captions(pictures, batch)
    assert len(texts) > 300
    for row, scene in enumerate(pictures.scenes):
        true = {text for found in statements(scene).values() for text in found}
        assert {text for text, one in zip(texts, batch.belongs[row], strict=True) if one} == true & set(texts)
        expected = normalise(np.array(paint(scene, seed=SEED))[None])[0]
        assert torch.equal(batch.pixels[row], expected)


def test_a_caption_of_one_thing_lies_on_its_patches_and_is_not_asked_where_it_only_touches(
    pictures: Pictures, batch: Batch
) -> None:
    texts = captions(pictures, batch)
    for row, scene in enumerate(pictures.scenes):
        items = [*scene.things, *([scene.sign] if scene.sign else [])]
        told = [(patches_under(item), {text for found in phrases(item).values() for text in found}) for item in items]
        for column, text in enumerate(texts):
            lies = np.zeros(36, bool) | np.any([under for (under, _), true in told if text in true], axis=0)
            touches = np.zeros(36, bool) | np.any([touched for (_, touched), true in told if text in true], axis=0)
            assert np.array_equal(batch.on_patch[row, column].numpy() > 0, lies), text
            expected = np.zeros(36, bool) if is_of_several(text) else ~touches | lies
            assert np.array_equal(batch.asked[row, column].numpy() > 0, expected), text


def is_of_several(caption: str) -> bool:
    """Counts begin with a figure; relations have two articles."""
    words = caption.split()
    return words[0].isdigit() or sum(word in ("a", "an") for word in words) == 2


def test_the_loss_is_the_pairwise_sigmoid_loss_of_pictures_and_half_that_of_the_patches_asked() -> None:
    pair = torch.zeros(2, 3)
    on_patch = torch.zeros(2, 3, 4)
    on_patch[0, 0, 0] = 1
    asked = torch.zeros(2, 3, 4)
    asked[:, 0] = 1
    batch = Batch(pixels=torch.zeros(2, 3, 8, 8), words=torch.zeros(3, 4), belongs=pair, on_patch=on_patch, asked=asked)
    zero = float(np.log(2))
    assert batch.loss(torch.zeros(2, 3), torch.zeros(2, 3, 4)).item() == pytest.approx((6 * zero + 0.5 * 8 * zero) / 2)
    sure = torch.full((2, 3, 4), 30.0)
    wrong_on_seven = batch.loss(torch.full((2, 3), -30.0), sure).item()
    assert wrong_on_seven == pytest.approx(0.5 * 7 * 30 / 2, rel=1e-5)


def test_logits_pool_softly_over_patches(pictures: Pictures, batch: Batch) -> None:
    torch.manual_seed(0)
    model = Contrast(num_words=len(pictures.words) + 1)
    with torch.no_grad():
        of_pictures, of_patches = model(batch.pixels[:3], batch.words)
        assert of_pictures.shape == (3, len(batch.words))
        assert of_patches.shape == (3, len(batch.words), 36)
        model.log_sharpness.fill_(12.0)
        sharp, of_patches = model(batch.pixels[:3], batch.words)
    # So sharp that the best token alone speaks: no patch is better than the whole.
    assert bool((of_patches.amax(-1) <= sharp + 1e-3).all())


def test_training_lowers_the_loss_and_leaves_an_encoder_that_transformers_loads(tmp_path: Path) -> None:
    train(tmp_path, steps=30, batch=8, pool=40, lr=1e-3, log_every=5)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    vision = CLIPVisionModel.from_pretrained(tmp_path)
    assert vision.config.image_size == 96
    assert AutoImageProcessor.from_pretrained(tmp_path, use_fast=False).crop_size["height"] == 96
