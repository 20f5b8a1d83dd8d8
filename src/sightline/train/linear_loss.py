"""Cross-entropy straight from hidden states, a piece of them at a time: the logits of all of them never exist.

Comes in: hidden states, the output head's weights, the ids to be predicted. Goes out: the sum of the losses, with exact
gradients. As in Liger (Hsu et al. 2024, section 3.2), a piece's gradient is made while its logits are there, so nothing
is computed twice. Does not know models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LOGITS_AT_ONCE = 2**24
"""64 MiB in fp32, whatever the vocabulary and the length: enough rows for the matrix product to run at full speed."""


def linear_cross_entropy(states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """The sum of -log softmax(states @ weight.T + bias)[targets], float32 scalar, in nats.

    Args:
        states: float[n, D]. Under autocast the products are in its type; sums and exponentials are in fp32 always.
        weight: float[V, D].
        bias: float[V] or None.
        targets: int64[n].
    """
    if not torch.is_grad_enabled():  # what a Function may leave out it is told by the tensors alone
        states, weight, bias = states.detach(), weight.detach(), None if bias is None else bias.detach()
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    total: Tensor = _Sum.apply(states, weight, bias, targets, dtype)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """The gradients are those of the sum; a factor that comes from above is multiplied in at the end."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        table = weight.to(dtype)
        of_states = torch.empty_like(states) if wants_states else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if wants_bias and bias is not None else None
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        size = max(1, LOGITS_AT_ONCE // len(weight))
        with torch.autocast(states.device.type, enabled=False):
            for start in range(0, len(states), size):
                piece, wanted = states[start : start + size].to(dtype), targets[start : start + size, None]
                chances = _log_chances(piece, table, bias)
                total -= chances.gather(1, wanted).sum()
                if any(ctx.needs_input_grad):
                    error = chances.exp_()
                    error.scatter_add_(1, wanted, error.new_full(wanted.shape, -1.0))
                    if of_bias is not None:
                        of_bias += error.sum(0)
                    error = error.to(dtype)
                    if of_states is not None:
                        of_states[start : start + size] = error @ table
                    if of_weight is not None:
                        _add_product(of_weight, error.T, piece)
                    del error
                del chances  # before the next piece's logits are made
        ctx.found = of_states, of_weight, of_bias
        ctx.types = weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = gradients
        assert ctx.found is not None, "a second backward pass: the gradients of the first were handed out"
        of_states, of_weight, of_bias = ctx.found
        ctx.found = None  # nobody else holds them: they become `.grad` without a copy
        weight_type, bias_type = ctx.types
        return (
            None if of_states is None else of_states.mul_(factor),
            None if of_weight is None else of_weight.mul_(factor).to(weight_type),
            None if of_bias is None else of_bias.mul_(factor).to(bias_type),
            None,
            None,
        )


def _log_chances(piece: Tensor, table: Tensor, bias: Tensor | None) -> Tensor:
    """float32[n, V]: log softmax of a piece's logits, which are gone when this returns."""
    logits = (piece @ table.T).float()
    if bias is not None:
        logits += bias
    return logits.log_softmax(-1)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total` += `left` @ `right`, without a second matrix as large: V x D is gigabytes at 7B."""
    if left.dtype == total.dtype:
        torch.addmm(total, left, right, out=total)
        return
    rows = max(1, LOGITS_AT_ONCE // total.shape[1])
    for part, factor in zip(torch.split(total, rows), torch.split(left, rows), strict=True):
        part += factor @ right
