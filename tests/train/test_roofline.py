"""What operations hold and take, followed one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sightline.train.roofline import Ledger, Rates

RATES = Rates(matmul=1000.0, attention=1.0, bandwidth=100.0, call=0.5)
SUM = 3 * 4 * 100 / 100.0
"""Seconds that two tensors of 10 x 10 numbers, read, and one, written, take at that bandwidth."""


@pytest.mark.parametrize(
    ("work", "seconds", "made"),
    [
        (lambda one: one + one, 0.5 + SUM, 1),
        (lambda one: (one + one) + one, 2 * (0.5 + SUM), 2),
        (lambda one: one.add_(one), 0.5 + 2 / 3 * SUM, 0),
        (lambda one: one @ one, 0.5 + SUM, 1),  # 2,000 FLOPs take less than the bytes
        (lambda one: one.view(100).t(), 0.0, 0),
        (lambda one: one.new_empty(10, 10), 0.0, 1),
        (lambda one: one if one.device.type == "cpu" else None, 0.0, 0),
    ],
)
def test_an_operation_takes_as_long_as_its_bytes_and_a_question_nothing(
    work: Callable[[Tensor], Tensor], seconds: float, made: int
) -> None:
    with FakeTensorMode():
        one = torch.empty(10, 10)
        ledger = Ledger(RATES, chosen=0)
        ledger.ignore([one])
        with ledger:
            result = work(one)
        assert ledger.seconds == pytest.approx(seconds)
        assert ledger.peak == made * 400
        assert result is not None


def test_a_large_product_takes_as_long_as_its_arithmetic() -> None:
    with FakeTensorMode():
        one = torch.empty(100, 100)
        ledger = Ledger(RATES, chosen=0)
        with ledger:
            _ = one @ one
    assert (ledger.flops, ledger.seconds) == (2_000_000, 0.5 + 2_000_000 / 1000.0)


def test_what_is_let_go_is_not_held() -> None:
    with FakeTensorMode():
        one = torch.empty(10, 10)
        ledger = Ledger(RATES, chosen=0)
        ledger.ignore([one])
        with ledger:
            for _ in range(3):
                one = one + one
        assert (ledger.live, ledger.peak) == (400, 800)
