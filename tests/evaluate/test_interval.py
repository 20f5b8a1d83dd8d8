"""Intervals of means."""

from __future__ import annotations

import math

import pytest

from sightline.evaluate.interval import interval, wilson


@pytest.mark.parametrize(("share", "n"), [(0.0, 10), (1.0, 10), (0.5, 10), (0.9, 100), (0.5, 10_000), (1.0, 1)])
def test_wilsons_bounds_are_the_shares_that_the_score_test_just_takes(share: float, n: int) -> None:
    """They are 1.96 of their own standard errors away from the share: Wilson's definition."""
    low, high = wilson(share, n)
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        assert abs(share - bound) == pytest.approx(1.959963984540054 * math.sqrt(bound * (1 - bound) / n), abs=1e-12)
    assert low < high


def test_right_and_wrong_have_an_interval_even_where_all_are_right() -> None:
    found = interval([1.0] * 10)
    assert (found.n, found.mean) == (10, 1.0)
    assert found.low == pytest.approx(10 / (10 + 1.959963984540054**2), abs=1e-12)


def test_other_values_are_drawn_again() -> None:
    found = interval([0.3, 0.6, 0.9, 1.0, 0.0] * 40)
    assert found.mean == pytest.approx(0.56)
    assert 0.49 < found.low < 0.53 < 0.59 < found.high < 0.63
    assert interval([0.3, 0.6, 0.9, 1.0, 0.0] * 40) == found
