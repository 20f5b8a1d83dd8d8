"""Lengths drawn like LLaVA's mixture: repeatable, within the limit, and with its shares."""

from __future__ import annotations

import numpy as np
from benchmarks.mixture import CAPTIONS, INSTRUCT, Draft, Spread, draw


def test_the_same_arguments_draw_the_same_samples() -> None:
    assert draw(50, seed=3, limit=900) == draw(50, seed=3, limit=900)
    assert draw(50, seed=3, limit=900) != draw(50, seed=4, limit=900)


def test_the_subsets_are_as_many_as_published() -> None:
    assert sum(subset.samples for subset in INSTRUCT) == 665_298
    assert sum(subset.samples for subset in CAPTIONS) == 558_128


def test_one_sample_in_sixteen_has_no_picture() -> None:
    without = np.mean([draft.pictures == 0 for draft in draw(4000, seed=0, limit=1700)])
    assert 0.045 < without < 0.08  # 40,688 of 665,298 are 6.1%


def test_no_sample_is_longer_than_the_limit_and_none_is_empty() -> None:
    drafts = draw(2000, seed=1, limit=200)
    assert max(draft.tokens for draft in drafts) <= 200
    assert all(question >= 1 and answer >= 1 for draft in drafts for question, answer in draft.exchanges)


def test_lengths_are_uneven_as_in_the_mixture() -> None:
    tokens = np.array([draft.tokens for draft in draw(4000, seed=2, limit=1700)])
    assert np.percentile(tokens, 95) > 3 * np.median(tokens)


def test_a_spread_without_deviation_is_its_median() -> None:
    assert {Spread(7).draw(np.random.default_rng(seed)) for seed in range(5)} == {7}
    assert Spread(7, 0.0, 3).draw(np.random.default_rng(0)) == 3


def test_a_draft_counts_questions_and_answers() -> None:
    assert Draft("any", ((3, 4), (5, 6)), 1).tokens == 18
