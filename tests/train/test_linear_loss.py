"""The loss in pieces: value and gradients are those of the whole, and the logits of all positions never exist."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sightline.train import linear_loss
from sightline.train.linear_loss import linear_cross_entropy

N, WIDTH, WORDS = 23, 8, 50


def given(*, bias: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    generator = torch.Generator().manual_seed(4)
    states, weight = (torch.randn(size, WIDTH, generator=generator, dtype=torch.float64) for size in (N, WORDS))
    shift = torch.randn(WORDS, generator=generator, dtype=torch.float64) if bias else None
    return states * 2, weight, shift, torch.randint(WORDS, (N,), generator=generator)


@pytest.mark.parametrize("rows_at_once", [1, 7, 23, 1000])
@pytest.mark.parametrize("bias", [False, True])
def test_value_and_gradients_are_those_of_the_cross_entropy(
    rows_at_once: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_loss, "LOGITS_AT_ONCE", rows_at_once * WORDS)
    *leaves, targets = given(bias=bias)
    exact = [leaf.clone().requires_grad_() for leaf in leaves if leaf is not None]
    expected = functional.cross_entropy(functional.linear(*exact), targets, reduction="sum")
    (expected * 0.37).backward()
    ours = [leaf.float().requires_grad_() for leaf in leaves if leaf is not None]
    loss = linear_cross_entropy(ours[0], ours[1], ours[2] if bias else None, targets)
    (loss * 0.37).backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(ours, exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-5)


def test_what_needs_no_gradient_gets_none() -> None:
    states, weight, _, targets = given(bias=False)
    states = states.float().requires_grad_()
    frozen = weight.float()
    linear_cross_entropy(states, frozen, None, targets).backward()
    assert states.grad is not None
    assert frozen.grad is None
    head = weight.float().requires_grad_()
    linear_cross_entropy(states.detach(), head, None, targets).backward()
    assert head.grad is not None
    with torch.no_grad():
        assert not linear_cross_entropy(states, head, None, targets).requires_grad


def test_without_gradients_no_product_is_made_for_them() -> None:
    states, weight, _, targets = given(bias=False)
    head = weight.float().requires_grad_()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        linear_cross_entropy(states.float(), head, None, targets)
    assert counter.get_total_flops() == 2 * N * WIDTH * WORDS


class Matrices(TorchDispatchMode):
    """Holds the storage of every tensor of so many numbers that is made or seen; the tensors may go."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.held: list[torch.UntypedStorage] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and output.numel() == self.numbers:
            self.held.append(output.untyped_storage())
        return output

    def storages(self) -> set[int]:
        return {storage.data_ptr() for storage in self.held}


def test_a_head_that_trains_costs_its_gradient_and_no_second_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_loss, "LOGITS_AT_ONCE", 5 * WORDS)
    states, weight, _, targets = given(bias=False)
    head = weight.float().requires_grad_()
    with Matrices(head.numel()) as matrices:
        linear_cross_entropy(states.float().requires_grad_(), head, None, targets).backward()
    assert head.grad is not None
    assert matrices.storages() == {head.data_ptr(), head.grad.data_ptr()}


def test_no_position_is_a_loss_of_zero() -> None:
    states = torch.zeros(0, WIDTH, requires_grad=True)
    loss = linear_cross_entropy(states, torch.ones(WORDS, WIDTH), None, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0


def test_under_autocast_the_products_are_in_its_type_and_the_loss_in_fp32() -> None:
    states, weight, _, targets = given(bias=False)
    leaves = [states.float().requires_grad_(), weight.float().requires_grad_()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(leaves[0], leaves[1], None, targets)
    loss.backward()
    expected = functional.cross_entropy(states @ weight.T, targets, reduction="sum").item()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=2e-2)
    assert loss.item() != pytest.approx(expected, rel=1e-6)
    assert all(leaf.grad is not None and leaf.grad.dtype == torch.float32 for leaf in leaves)


def test_the_logits_of_a_piece_are_all_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_loss, "LOGITS_AT_ONCE", 5 * WORDS)
    sizes: list[int] = []
    original = Tensor.log_softmax

    def watch(logits: Tensor, dim: int) -> Tensor:
        sizes.append(len(logits))
        return original(logits, dim)

    monkeypatch.setattr(Tensor, "log_softmax", watch)
    states, weight, _, targets = given(bias=False)
    linear_cross_entropy(states.float(), weight.float(), None, targets)
    assert sizes == [5, 5, 5, 5, 3]
