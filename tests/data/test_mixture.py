"""The order of the samples: everything once per epoch, and nothing but four numbers decides it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from sightline.data.mixture import Mix, Share, batch_indexes, epoch_length, share, total_steps


def row(*, steps: int, num_samples: int, batch: int, seed: int = 0) -> list[int]:
    """The indexes of the first steps, one after the other."""
    return [
        index for step in range(steps) for index in batch_indexes(step, num_samples=num_samples, batch=batch, seed=seed)
    ]


@pytest.mark.parametrize(
    ("num_samples", "batch"), [(1, 1), (1, 5), (7, 1), (7, 3), (7, 7), (7, 8), (7, 20), (12, 4), (100, 32)]
)
def test_every_sample_comes_exactly_once_per_epoch(num_samples: int, batch: int) -> None:
    epochs = 6
    found = row(steps=-(-num_samples * epochs // batch), num_samples=num_samples, batch=batch)
    for epoch in range(epochs):
        assert sorted(found[epoch * num_samples : (epoch + 1) * num_samples]) == list(range(num_samples))


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 16])
def test_the_order_does_not_depend_on_the_batch_size(batch: int) -> None:
    wanted = row(steps=48, num_samples=11, batch=1, seed=3)
    assert row(steps=-(-48 // batch), num_samples=11, batch=batch, seed=3)[:48] == wanted


def test_a_batch_is_a_pure_function_of_its_step() -> None:
    """Steps asked for in any order, in another process too, with whatever random state."""
    steps = [9, 0, 400, 3, 9, 1]
    forwards = {step: batch_indexes(step, num_samples=10, batch=4, seed=1) for step in sorted(set(steps))}
    assert all(batch_indexes(step, num_samples=10, batch=4, seed=1) == forwards[step] for step in steps)
    program = (
        "import random, numpy; numpy.random.seed(9); random.seed(9)\n"
        "from sightline.data.mixture import batch_indexes\n"
        f"print({{step: batch_indexes(step, num_samples=10, batch=4, seed=1) for step in {sorted(forwards)}}})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(forwards)


KINDS = [
    (bytes([1] * 13 + [0] * 7), 4),
    (bytes([1, 0] * 9), 4),
    (bytes([1] * 5 + [0] * 14), 3),
    (bytes([1] * 8), 4),
    (bytes([0, 1, 1]), 5),
    (bytes([0]), 1),
    (bytes([1] * 40 + [0]), 8),
    (bytes([1] * 7 + [0] * 7), 5),
]


@pytest.mark.parametrize(("kinds", "batch"), KINDS, ids=str)
def test_grouped_epochs_hold_every_sample_once_in_batches_of_one_kind(kinds: bytes, batch: int) -> None:
    count, epochs = len(kinds), 7
    steps = -(-count * epochs // batch)
    batches = [batch_indexes(step, num_samples=count, batch=batch, seed=2, kinds=kinds) for step in range(steps)]
    row = [index for indexes in batches for index in indexes]
    for epoch in range(epochs):
        inside = row[epoch * count : (epoch + 1) * count]
        assert sorted(inside) == list(range(count))
    # What is mixed lies at the borders: what one kind leaves over, what the other does, and what a border cuts off.
    mixed = [step for step, indexes in enumerate(batches) if len({kinds[index] for index in indexes}) > 1]
    assert len(mixed) <= 2 * epochs
    pure = len(batches) - len(mixed)
    assert pure >= epochs * (kinds.count(0) // batch + kinds.count(1) // batch - 1)


def test_grouped_batches_come_in_a_shuffled_order_that_step_and_seed_decide() -> None:
    kinds = bytes([1] * 32 + [0] * 32)

    def first_epoch(seed: int) -> list[tuple[int, ...]]:
        return [tuple(batch_indexes(step, num_samples=64, batch=4, seed=seed, kinds=kinds)) for step in range(16)]

    assert first_epoch(1) == first_epoch(1)
    assert {frozenset(found) for found in first_epoch(1)} != {frozenset(found) for found in first_epoch(2)}
    order = [kinds[found[0]] for found in first_epoch(1)]
    assert order not in (sorted(order), sorted(order, reverse=True))
    assert all(len({kinds[index] for index in found}) == 1 for found in first_epoch(1))


def test_epochs_and_seeds_differ() -> None:
    orders = [tuple(row(steps=1, num_samples=50, batch=50, seed=seed)) for seed in range(5)]
    orders += [tuple(batch_indexes(epoch, num_samples=50, batch=50, seed=0)) for epoch in range(1, 5)]
    assert len(set(orders)) == len(orders)
    assert tuple(range(50)) not in orders


def test_every_sample_reaches_every_place() -> None:
    first = Counter(batch_indexes(epoch, num_samples=4, batch=4, seed=0)[0] for epoch in range(400))
    assert set(first) == {0, 1, 2, 3}
    assert all(60 < count < 140 for count in first.values())


@pytest.mark.parametrize(
    ("num_samples", "batch", "epochs", "expected"),
    [
        (8, 4, 1, 2),
        (9, 4, 1, 3),
        (7, 4, 1, 2),
        (1, 128, 1, 1),
        (10, 4, 0.5, 2),
        (10, 4, 0.01, 1),
        (10, 5, 1.5, 3),
        (10, 10, 3, 3),
        # 0.1 * 30 is 3.0000000000000004 in floats: still three samples, one step
        (30, 3, 0.1, 1),
        (3, 1, 1 / 3, 1),
        # LLaVA-1.5: 558,128 captions, then 665,298 conversations
        (558_128, 256, 1, 2181),
        (665_298, 128, 1, 5198),
    ],
)
def test_total_steps(num_samples: int, batch: int, epochs: float, expected: int) -> None:
    assert total_steps(num_samples=num_samples, batch=batch, epochs=epochs) == expected


def test_the_order_of_a_plain_run_is_what_it_always_was() -> None:
    """Recorded before mixtures had weights: a run that began then goes on with the same samples."""
    assert [batch_indexes(step, num_samples=11, batch=4, seed=3) for step in range(6)] == [
        [9, 7, 0, 2], [1, 4, 6, 10], [5, 3, 8, 7], [4, 10, 1, 2], [5, 9, 0, 8], [6, 3, 7, 0],
    ]  # fmt: skip
    kinds = bytes([1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1])
    assert [batch_indexes(step, num_samples=11, batch=4, seed=3, kinds=kinds) for step in range(6)] == [
        [2, 4, 5, 8], [9, 7, 0, 1], [6, 10, 3, 0], [4, 2, 5, 8], [7, 10, 1, 9], [6, 3, 9, 6],
    ]  # fmt: skip
    assert [batch_indexes(step, num_samples=1000, batch=8, seed=0) for step in (0, 124, 125, 9999)] == [
        [459, 206, 222, 162, 711, 814, 350, 890],
        [950, 29, 425, 184, 504, 801, 975, 607],
        [144, 255, 317, 766, 751, 94, 535, 579],
        [254, 166, 862, 675, 925, 483, 989, 681],
    ]


MIX = (Share(7, 7), Share(10, 4), Share(3, 8), Share(5, 10))
"""Once, less than once, more than twice, twice."""


def mixed_row(steps: int, *, mix: Mix, batch: int, seed: int = 4, kinds: bytes | None = None) -> list[int]:
    count = sum(each.size for each in mix)
    return [
        index
        for step in range(steps)
        for index in batch_indexes(step, num_samples=count, batch=batch, seed=seed, kinds=kinds, mix=mix)
    ]


@pytest.mark.parametrize("kinds", [None, bytes(number % 3 > 0 for number in range(25))], ids=["plain", "grouped"])
def test_an_epoch_holds_of_each_source_what_the_mixture_says(kinds: bytes | None) -> None:
    length, epochs = epoch_length(MIX), 6
    assert length == 29
    row = mixed_row(length * epochs, mix=MIX, batch=1, kinds=kinds)
    first = 0
    for size, count in MIX:
        own = range(first, first + size)
        seen: Counter[int] = Counter()
        for epoch in range(epochs):
            here = [index for index in row[epoch * length : (epoch + 1) * length] if index in own]
            assert len(here) == count
            seen.update(here)
            assert max(seen[index] for index in own) - min(seen[index] for index in own) <= 1
        first += size


def test_a_mixed_batch_is_a_pure_function_of_its_step_and_epochs_differ() -> None:
    steps = [
        batch_indexes(step, num_samples=25, batch=4, seed=4, mix=MIX) for step in (30, 2, 7, 30, 2)
    ]  # fmt: skip
    assert steps[0] == steps[3]
    assert steps[1] == steps[4]
    row = mixed_row(58, mix=MIX, batch=1)
    assert mixed_row(15, mix=MIX, batch=4)[:58] == row
    assert row[:29] != row[29:]
    assert {index for index in row[:29] if 7 <= index < 17} != {index for index in row[29:] if 7 <= index < 17}


def test_sources_of_which_all_come_once_are_a_run_without_a_mixture() -> None:
    plain = row(steps=9, num_samples=12, batch=4, seed=4)
    assert mixed_row(9, mix=(Share(7, 7), Share(5, 5)), batch=4) == plain


@pytest.mark.parametrize(
    ("size", "weight", "count", "expected"),
    [(10, None, None, 10), (10, 0.5, None, 5), (10, 2.0, None, 20), (10, 0.25, None, 2), (10, 1e-9, None, 1),
     (10, None, 3, 3), (10, None, 70, 70), (0, 2.0, None, 0), (0, None, 5, 0)],
)  # fmt: skip
def test_the_share_of_a_source(size: int, weight: float | None, count: int | None, expected: int) -> None:
    assert share(size, weight=weight, count=count) == Share(size, expected)
