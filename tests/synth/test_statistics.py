from __future__ import annotations

from itertools import pairwise

import pytest

from sightline.synth.grammar import Pair
from sightline.synth.statistics import Statistics, spread_add
from tests.synth.samples import YARD


def test_what_is_counted() -> None:
    statistics = Statistics()
    pairs = [
        Pair("What is the woman doing?", "She is standing by the bench and is watching two dogs in the morning."),
        Pair("What is near her?", "dogs"),
    ]
    statistics.add("conversation", YARD, pairs)
    assert statistics.openings == {"what is": 2}
    assert statistics.lengths == {10: 1, 1: 1}
    assert statistics.things == {"dog": 1, "bench": 1}
    assert statistics.doings == {"standing": 1, "watching": 1}
    assert statistics.pairs == {"conversation": 2}
    assert statistics.words == {"conversation": 15}


@pytest.mark.parametrize("most", [3, 4, 48])
@pytest.mark.parametrize("total", [1, 4, 5, 47, 48, 49, 1000])
def test_what_is_kept_lies_at_even_distances(most: int, total: int) -> None:
    kept: list[int] = []
    for number in range(1, total + 1):
        spread_add(kept, number, number, most=most)
    assert kept[0] == 1
    assert min(total, most // 2) <= len(kept) <= most
    assert len({later - earlier for earlier, later in pairwise(kept)}) <= 1
