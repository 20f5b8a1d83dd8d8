"""Linear layers that are quick where a CPU multiplies few rows: the steps of answering.

Comes in: a language model. Goes out: the same with the same weights, whose linear layers multiply up to `FEW` rows in
another way. Rounding apart, nothing changes; with gradients, on a GPU and in half precision they are `nn.Linear`. Torch
leaves a product with one row to one core, which reaches 40% of the memory's rate, and takes still longer for two
(docs/performance.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

FEW = 32
"""Rows up to which `product_of_few` was measured to be faster."""


class FewRowsLinear(nn.Linear):
    """A linear layer for answering on a CPU."""

    def forward(self, states: Tensor) -> Tensor:
        few = states.numel() <= FEW * self.in_features and not torch.is_grad_enabled()
        if not few or states.device.type != "cpu" or states.dtype != torch.float32:
            return super().forward(states)
        product = product_of_few(states.reshape(-1, self.in_features), self.weight)
        if self.bias is not None:
            product = product + self.bias
        return product.view(*states.shape[:-1], self.out_features)


def quicken(language: nn.Module) -> None:
    """Makes the linear layers of a model `FewRowsLinear`; those that others have derived, as quantised ones, stay."""
    for module in language.modules():
        if type(module) is nn.Linear:
            module.__class__ = FewRowsLinear


def product_of_few(rows: Tensor, weight: Tensor) -> Tensor:
    """`rows @ weight.T` for a few rows, [n, K] and [N, K] to [n, N].

    One row: each core takes its part of the weight. Several: the tall matrix times n columns.
    """
    if len(rows) != 1:
        return (weight @ rows.t()).t().contiguous()
    parts = math.gcd(len(weight), torch.get_num_threads())
    if parts == 1:
        return functional.linear(rows, weight)
    each = weight.view(parts, -1, weight.shape[1]).transpose(1, 2)
    return torch.bmm(rows.expand(parts, 1, -1), each).view(1, -1)
