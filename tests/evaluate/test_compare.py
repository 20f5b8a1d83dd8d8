"""Two files of answers, question by question: wins, the interval, McNemar's test."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from sightline.evaluate.compare import bootstrap, compare, mcnemar, table


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (6, 0, 2 / 64),
        (0, 6, 2 / 64),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (10, 1, 2 * (1 + 11) / 2048),
    ],
)
def test_mcnemar_is_the_two_sided_binomial_test(wins: int, losses: int, p: float) -> None:
    assert mcnemar(wins, losses) == pytest.approx(p)


def test_mcnemar_holds_for_many_questions() -> None:
    exact = 2 * sum(math.comb(3000, k) for k in range(1401)) / 2**3000
    assert mcnemar(1600, 1400) == pytest.approx(exact, rel=1e-9)


def test_wins_losses_and_what_only_one_has() -> None:
    found = compare({"a": 1, "b": 0, "c": 0.6, "d": 1, "e": 1}, {"a": 0, "b": 1, "c": 0.3, "d": 1, "f": 1})
    assert found is not None
    assert (found.n, found.wins, found.losses, found.ties, found.left_out) == (4, 2, 1, 1, 2)
    assert found.difference == pytest.approx(0.075)
    assert found.low <= found.difference <= found.high
    assert "2 wins, 1 losses, 1 ties on 4 units" in table(found)
    assert "2 units have a value in one" in table(found)


def test_nothing_in_common() -> None:
    assert compare({"a": 1}, {"b": 1}) is None


def test_the_interval_depends_on_the_seed_alone_and_is_the_normal_one_for_many() -> None:
    rng = random.Random(4)
    differences = Counter(float(rng.choice((-1, 0, 0, 1, 1))) for _ in range(5000))
    low, high = bootstrap(differences, seed=3)
    assert (low, high) == bootstrap(differences, seed=3)
    assert (low, high) != bootstrap(differences, seed=4)
    mean = sum(value * count for value, count in differences.items()) / 5000
    spread = math.sqrt(sum(count * (value - mean) ** 2 for value, count in differences.items()) / 5000)
    assert low == pytest.approx(mean - 1.96 * spread / math.sqrt(5000), abs=2e-3)
    assert high == pytest.approx(mean + 1.96 * spread / math.sqrt(5000), abs=2e-3)


def test_equal_files_differ_by_nothing() -> None:
    found = compare({"a": 1, "b": 0.3}, {"a": 1, "b": 0.3})
    assert found is not None
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
