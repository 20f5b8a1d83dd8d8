"""The arithmetic of a comparison."""

from __future__ import annotations

import pytest
from benchmarks.ours import StepTime
from benchmarks.sizes import fitting
from benchmarks.train import Both, figures, ratios, worst_difference

from sightline.train.flops import Shown, StepFlops


def test_ratios_are_of_the_same_steps() -> None:
    found = ratios([1.0, 2.0, 1.0], [3.0, 4.0, 1.5])
    assert found.median == 2.0  # of 3, 2 and 1.5
    assert found.total == pytest.approx(8.5 / 4.0)


def test_ratios_refuse_steps_of_one_side_alone() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_the_worst_difference_is_of_one_step() -> None:
    assert worst_difference([1.0, 2.0], [1.5, 1.75]) == 0.5


@pytest.mark.parametrize(("micro_batch", "batch", "found"), [(8, 32, 8), (8, 12, 6), (16, 4, 4), (3, 7, 1)])
def test_a_micro_batch_divides_the_batch(micro_batch: int, batch: int, found: int) -> None:
    assert fitting(micro_batch, batch) == found


def test_the_row_leaves_the_warm_up_out_but_for_the_losses() -> None:
    ours = [
        StepTime(seconds=9, loss=1, processor=9, positions=40),
        StepTime(seconds=2, loss=1, processor=2, positions=40),
    ]
    theirs = [
        StepTime(seconds=1, loss=2, processor=1, positions=9),
        StepTime(seconds=5, loss=1, processor=8, positions=80),
    ]
    shown = [Shown(positions=40, pairs=0, trained=0, pictures=0, encoded=0)] * 2
    counts = StepFlops(per_position=100, per_pair=0, per_trained=0, per_picture=0, per_encoded=0)
    row = figures(Both(ours=ours, theirs=theirs, shown=shown, counts=counts, gemm=4000.0))
    assert row["faster (median)"] == 2.5
    assert row["processor time"] == 4.0
    assert row["our padding"] == 0.0
    assert row["their padding"] == 0.5
    assert row["of limit"] == 0.5  # 4,000 FLOPs in 2 s at 4,000 FLOP/s
    assert row["loss differs"] == 1.0
    assert row["counts"] is False
