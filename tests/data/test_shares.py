"""A step's samples are shared by what they cost, each goes to one process, and the same to the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.data.shares import Share, shares


@pytest.mark.parametrize(
    ("costs", "ranks", "expected"),
    [
        ([], 2, [[], []]),
        ([5.0], 2, [[0], []]),
        ([1.0, 1.0, 1.0], 1, [[0, 1, 2]]),
        ([1.0, 1.0, 1.0, 1.0], 2, [[0, 2], [1, 3]]),
        ([9.0, 1.0, 2.0, 3.0, 3.0], 2, [[0], [1, 2, 3, 4]]),  # one long sample weighs as much as four short ones
        ([7.0, 6.0, 5.0, 4.0, 3.0], 2, [[0, 3, 4], [1, 2]]),
        ([0.0, 0.0, 0.0], 3, [[0], [1], [2]]),
    ],
)
def test_shares_truth_table(costs: list[float], ranks: int, expected: list[list[int]]) -> None:
    assert shares(costs, ranks) == expected


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_shares_hold_each_sample_once_and_cost_alike(ranks: int) -> None:
    costs = np.random.default_rng(3).lognormal(6, 0.8, 128).tolist()
    found = shares(costs, ranks)
    assert sorted(number for own in found for number in own) == list(range(128))
    loads = [sum(costs[number] for number in own) for own in found]
    assert max(loads) <= 4 / 3 * max(max(costs), sum(costs) / ranks)


def test_a_share_is_of_the_step_it_is_asked_about() -> None:
    costs = np.array([1.0, 10.0, 1.0, 10.0, 1.0, 10.0])
    parts = [Share(rank=rank, ranks=2, costs=costs).of([5, 4, 3, 0]) for rank in (0, 1)]
    assert sorted(parts[0] + parts[1]) == [0, 3, 4, 5]
    assert [sum(costs[part]) for part in parts] == [11, 11]
