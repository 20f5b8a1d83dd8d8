"""The loss: every trained token once, padding and untrained tokens never."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from sightline.data.batch import Batch, pack, pad
from sightline.data.processor import Example
from sightline.data.tokens import IGNORE
from sightline.model.packed import use_packed_attention
from sightline.model.vlm import VisionLanguageModel
from sightline.train.loss import loss_sum, predicting_positions, token_losses
from tests.fakes import IMAGE_SIZE, IMAGE_TOKEN, LANGUAGE_FAMILIES, PATCHES, distance, flat_gradient, tiny_model
from tests.train.small_run import toy_examples

X = IGNORE


def batch_of(count: int) -> Batch:
    return pad(toy_examples(count), pad_id=0)


def model_for(*, packed: bool, family: str = "llama") -> VisionLanguageModel:
    model = tiny_model(language=family)
    assert not packed or use_packed_attention(model.language) is None
    return model


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([[X, X, 5, 6]], [1, 2]),
        ([[X, X, X, X]], []),
        ([[7, X, X, X]], []),  # nothing comes before the first position, so nothing predicts it
        ([[7, 8]], [0]),
        ([[X, 5, X, X], [X, X, X, 6]], [0, 2]),
        ([[X, 5, 6, X], [X, 5, X, X]], [0, 1]),
        ([[5]], []),
    ],
)
def test_positions_are_those_before_a_trained_token_in_any_row(labels: list[list[int]], expected: list[int]) -> None:
    assert predicting_positions(torch.tensor(labels)).tolist() == expected


@pytest.mark.parametrize("packed", [False, True])
def test_each_token_has_the_cross_entropy_of_the_whole_sample_alone(packed: bool) -> None:
    alone, model, examples = tiny_model(), model_for(packed=packed), toy_examples(5)
    losses, samples = token_losses(model, pack(examples) if packed else pad(examples, pad_id=0))
    for number, example in enumerate(examples):
        logits = alone(example.input_ids[None], pixels=example.pixels)[0, :-1]
        targets = example.labels[1:]
        expected = functional.cross_entropy(logits[targets != IGNORE], targets[targets != IGNORE], reduction="none")
        torch.testing.assert_close(losses[samples == number], expected, rtol=1e-4, atol=1e-5)
    assert len(losses) == sum(int((example.labels != IGNORE).sum()) for example in examples)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_sum_and_its_gradient_are_those_of_the_tokens_losses(family: str, packed: bool) -> None:
    """gemma2 caps its logits, so its sum goes another way."""
    gradients = []
    for sum_of in (lambda model, batch: token_losses(model, batch)[0].sum(), loss_sum):
        model = model_for(packed=packed, family=family).requires_grad_(True)
        assert model.plain_head is (family == "llama")
        total = sum_of(model, pack(toy_examples(6)) if packed else batch_of(6))
        total.backward()
        gradients.append((total.item(), flat_gradient(model)))
    (expected, wanted), (found, given) = gradients
    assert found == pytest.approx(expected, rel=1e-5)
    assert distance(given, wanted) < 1e-5


def placed(*layout: int, name: str) -> Example:
    """Words and pictures: a number of words, or 0 for a picture; the last words are the answer."""
    generator = torch.Generator().manual_seed(len(layout))
    ids = [1]
    for count in layout:
        words = torch.randint(3, IMAGE_TOKEN, (count,), generator=generator).tolist()
        ids += words or [IMAGE_TOKEN] * PATCHES
    pictures = layout.count(0)
    return Example(
        id=name,
        input_ids=torch.tensor(ids),
        labels=torch.tensor([IGNORE] * (len(ids) - layout[-1]) + ids[len(ids) - layout[-1] :]),
        pixels=torch.randn(pictures, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator),
        pictures=tuple(f"{name}-{number}" for number in range(pictures)),
    )


@pytest.mark.parametrize("family", LANGUAGE_FAMILIES)
def test_a_packed_row_has_loss_and_gradient_of_its_samples_alone_wherever_their_pictures_are(family: str) -> None:
    layouts = ((0, 3, 4), (5, 0, 2, 6), (2, 0, 3), (1, 0, 0, 2, 5), (0, 4, 2, 0, 3), (7, 2), (0, 0, 2))
    examples = [placed(*layout, name=str(number)) for number, layout in enumerate(layouts)]
    results = []
    for packed in (True, False):
        model = model_for(packed=packed, family=family).requires_grad_(True)
        batches = [pack(examples)] if packed else [pad([example], pad_id=0) for example in examples]
        total = torch.stack([loss_sum(model, batch) for batch in batches]).sum()
        total.backward()
        results.append((total.item(), flat_gradient(model)))
    (found, given), (expected, wanted) = results
    assert found == pytest.approx(expected, rel=1e-5)
    assert distance(given, wanted) < 1e-5


def test_pictures_that_occur_twice_are_encoded_once_and_count_twice() -> None:
    examples = toy_examples(6)
    again = [replace(example, id=f"{example.id}-again") for example in examples]
    model, encoded = model_for(packed=True), list[int]()
    model.vision.register_forward_pre_hook(lambda module, arguments: encoded.append(len(arguments[0])))
    once = loss_sum(model, pack(examples)).item()
    twice = loss_sum(model, pack([*examples, *again])).item()
    assert twice == pytest.approx(2 * once, rel=1e-5)
    assert encoded[0] == encoded[1] == sum(len(example.pixels) for example in examples)


def test_padding_and_its_id_do_not_matter() -> None:
    model, examples = tiny_model(), toy_examples(4)
    losses = [loss_sum(model, pad(examples, pad_id=pad_id)).item() for pad_id in (0, 17)]
    assert losses[0] == losses[1]


def test_untrained_words_do_not_count() -> None:
    model, batch = tiny_model(), batch_of(4)
    full = loss_sum(model, batch).item()
    batch.labels[1] = IGNORE
    part = loss_sum(model, batch).item()
    assert 0 < part < full


def test_batch_without_a_trained_token_is_zero_and_has_no_gradient() -> None:
    batch = batch_of(3)
    batch.labels.fill_(IGNORE)
    loss = loss_sum(tiny_model(), batch)
    assert loss.item() == 0
    assert not loss.requires_grad


def test_loss_is_in_fp32_whatever_the_model_computes_in() -> None:
    model = tiny_model().to(torch.bfloat16)
    losses, _ = token_losses(model, batch_of(3))
    assert losses.dtype == torch.float32
