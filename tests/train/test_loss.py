"""The loss: every trained token once, padding and untrained tokens never."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sightline.data.loader import Batch, collate
from sightline.data.tokens import IGNORE
from sightline.train.loss import loss_sum, predicting_positions, token_losses
from tests.fakes import tiny_model
from tests.train.small_run import toy_examples

X = IGNORE


def batch_of(count: int) -> Batch:
    return collate(toy_examples(count), pad_id=0)


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


def test_each_token_has_the_cross_entropy_of_the_whole_sample_alone() -> None:
    model, examples = tiny_model(), toy_examples(5)
    losses, rows = token_losses(model, collate(examples, pad_id=0))
    for row, example in enumerate(examples):
        logits = model(example.input_ids[None], pixels=example.pixels)[0, :-1]
        targets = example.labels[1:]
        expected = functional.cross_entropy(logits[targets != IGNORE], targets[targets != IGNORE], reduction="none")
        torch.testing.assert_close(losses[rows == row], expected, rtol=1e-4, atol=1e-5)
    assert len(losses) == sum(int((example.labels != IGNORE).sum()) for example in examples)


def test_padding_and_its_id_do_not_matter() -> None:
    model, examples = tiny_model(), toy_examples(4)
    losses = [loss_sum(model, collate(examples, pad_id=pad_id)).item() for pad_id in (0, 17)]
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
