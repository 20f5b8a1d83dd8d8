"""What matters to a score: exact where the score is a sum, complete where it is not."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.infer.relevance import Asked, integrated_gradients, log_odds
from tests.fakes import tiny_model, tiny_pixels

PROBABILITIES = torch.tensor([[[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]])


def test_log_odds_are_those_of_the_tokens_and_do_not_care_for_the_scale_of_probabilities() -> None:
    found = log_odds(PROBABILITIES.log() + 5, torch.tensor([0, 2]))
    torch.testing.assert_close(found, torch.tensor([[math.log(0.7 / 0.3), math.log(0.25 / 0.75)]]))


def test_log_odds_of_what_is_almost_sure_still_have_a_slope() -> None:
    logits = torch.tensor([[[80.0, 0.0, -3.0]]], requires_grad=True)
    log_odds(logits, torch.tensor([0])).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0] == 1
    assert logits.grad[0, 0, 1:].sum() == -1


class Summing:
    """A language model of two tokens whose logits are sums over all positions."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, *, inputs_embeds: Tensor, logits_to_keep: Tensor, use_cache: bool) -> Any:
        logits = inputs_embeds.sum(1, keepdim=True) @ self.weight
        return SimpleNamespace(logits=logits.expand(-1, len(logits_to_keep), -1))


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_integrated_gradients_of_a_sum_are_its_terms(steps: int) -> None:
    noise = torch.Generator().manual_seed(0)
    embeddings, blank = torch.randn(1, 6, 4, generator=noise), torch.randn(3, 4, generator=noise)
    weight, places = torch.randn(4, 2, generator=noise), torch.tensor([1, 2, 4])
    asked = Asked(
        model=SimpleNamespace(language=Summing(weight)),  # type: ignore[arg-type]
        embeddings=embeddings,
        places=places,
        pictures=1,
        before=torch.tensor([5]),
        tokens=torch.tensor([1]),
    )
    difference = weight[:, 1] - weight[:, 0]
    features = embeddings[0, places]
    found = integrated_gradients(asked, steps=steps, start=blank)
    torch.testing.assert_close(found, (features - blank) @ difference)
    torch.testing.assert_close(integrated_gradients(asked, steps=steps), (features - features.mean(0)) @ difference)


def test_a_picture_is_compared_with_its_own_mean() -> None:
    embeddings = torch.tensor([[[0.0], [1], [3], [0], [10], [20]]])
    asked = Asked(
        model=SimpleNamespace(),  # type: ignore[arg-type]
        embeddings=embeddings,
        places=torch.tensor([1, 2, 4, 5]),
        pictures=2,
        before=torch.tensor([5]),
        tokens=torch.tensor([1]),
    )
    assert asked.features.flatten().tolist() == [1, 3, 10, 20]
    assert asked.means.flatten().tolist() == [2, 2, 15, 15]


@pytest.mark.parametrize("language", ["llama", "gemma2"])
def test_integrated_gradients_add_up_to_the_difference_that_the_pictures_make(language: str) -> None:
    """Completeness (Sundararajan et al. 2017, proposition 1)."""
    model = tiny_model(language=language)
    ids = torch.tensor([[1, 5, *[model.image_token_id] * 16, 7, 8]])
    places = (ids[0] == model.image_token_id).nonzero()[:, 0]
    with torch.no_grad():
        embeddings = model.embed(ids, tiny_pixels(1))
        asked = Asked(
            model=model,
            embeddings=embeddings,
            places=places,
            pictures=1,
            before=torch.tensor([18, 19]),
            tokens=torch.tensor([8, 3]),
        )
        difference = asked.score(embeddings[:, places]) - asked.score(asked.means[None])
    found = integrated_gradients(asked, steps=64)
    assert abs(float(difference)) > 0.01
    torch.testing.assert_close(found.sum(), difference[0], rtol=0.02, atol=1e-3)
