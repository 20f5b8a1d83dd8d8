"""How fast a device is at the three kinds of work that a step consists of.

Comes in: a device of the table, or the CPU that is here, which is measured for a second. Goes out: `Rates`. Does not
know models.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from sightline.train.devices import Device
from sightline.train.flops import attention_flops, causal_pairs
from sightline.train.roofline import Rates

# What large kernels reach of a data sheet's figures. Assumptions, which --measure replaces: FlashAttention-2 reports 50
# to 70% of an A100 forward and backward (Dao 2023, section 4), large products about 70%, copies about 85%.
MATMUL_SHARE, ATTENTION_SHARE, BANDWIDTH_SHARE = 0.7, 0.5, 0.85
LAUNCH = 6e-6
"""Seconds that PyTorch takes to launch one operation on a GPU."""
_SECONDS = 0.15
_BEYOND_CACHES = 2**24
"""Numbers of a tensor that no CPU keeps in its caches, as a step's activations are not kept: 64 MiB."""


def stated_rates(device: Device, dtype: torch.dtype) -> Rates:
    """Rates of a GPU from its data sheet."""
    peak = device.peak_flops if dtype == torch.bfloat16 else device.fp32_flops
    assert peak is not None
    assert device.bandwidth is not None
    return Rates(
        matmul=peak * MATMUL_SHARE,
        attention=peak * ATTENTION_SHARE,
        bandwidth=device.bandwidth * BANDWIDTH_SHARE,
        call=LAUNCH,
    )


def measured_rates(*, width: int, head_width: int, positions: int, length: int, dtype: torch.dtype) -> Rates:
    """Rates of this CPU on tensors of a model's shapes.

    Args:
        width: of the language model.
        head_width: of one attention head.
        positions: of a row.
        length: of a sample.
    """
    rows = max(16, min(positions, 4096))
    vectors, matrix = torch.randn(rows, width, dtype=dtype), torch.randn(4 * width, width, dtype=dtype)
    gradient = functional.linear(vectors, matrix)
    products = sum(
        _usual(product)
        for product in (
            lambda: functional.linear(vectors, matrix),
            lambda: gradient @ matrix,
            lambda: gradient.T @ vectors,
        )
    )
    heads = max(1, width // head_width)
    query = torch.randn(1, heads, length, head_width, dtype=dtype, requires_grad=True)

    def attend() -> None:
        functional.scaled_dot_product_attention(query, query, query, is_causal=True).sum().backward()  # type: ignore[no-untyped-call]

    attention = _usual(attend)
    summand, total = torch.zeros(_BEYOND_CACHES), torch.zeros(_BEYOND_CACHES)
    sums = _usual(lambda: torch.add(summand, summand, out=total))
    small = torch.zeros(8)
    return Rates(
        matmul=3 * 2 * rows * matrix.numel() / products,
        attention=causal_pairs([length]) * attention_flops(heads * head_width, gradient=True) / attention,
        bandwidth=3 * 4 * summand.numel() / sums,
        call=_usual(lambda: small + small),
    )


def _usual(work: Callable[[], object]) -> float:
    """The median of the seconds of as many repetitions as a moment holds, three at least."""
    times: list[float] = []
    work()
    while len(times) < 3 or sum(times) < _SECONDS:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
