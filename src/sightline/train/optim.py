"""Parameter groups, the optimizer, and the learning rate of a step.

Comes in: the parts and their rates. Goes out: an AdamW whose groups know their own rate; `rate_at` scales them all.
Does not know what is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from sightline.recipe import PartName
from sightline.train.pieces import is_cut

Schedule = Literal["cosine", "linear", "constant"]


def rate_at(step: int, *, total: int, warmup: float, schedule: Schedule) -> float:
    """The factor on every learning rate at a step counted from 0.

    The arithmetic of transformers' `get_{cosine,linear,constant}_schedule_with_warmup`, which LLaVA trained with: the
    warm-up takes ceil(warmup * total) steps and starts at 0.
    """
    warm = math.ceil(warmup * total)
    if step < warm:
        return step / max(1, warm)
    if schedule == "constant":
        return 1.0
    progress = (step - warm) / max(1, total - warm)
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else max(0.0, 1 - progress)


def parameter_groups(
    parts: Mapping[str, nn.Module], rates: Mapping[PartName, float], *, weight_decay: float
) -> list[dict[str, object]]:
    """Two groups for each part that trains: matrices, which decay, and vectors (norms, biases), which never do.

    Matrices that are cut are a third: fused AdamW takes no group of both kinds. A parameter that two parts share, or
    that a part uses twice, is in one group.
    """
    groups: list[dict[str, object]] = []
    seen: set[nn.Parameter] = set()
    for name, rate in rates.items():
        own = [parameter for parameter in parts[name].parameters() if parameter.requires_grad and parameter not in seen]
        seen.update(own)
        for label, decay, chosen in (
            ("decayed", weight_decay, [each for each in own if each.ndim > 1 and not is_cut(each)]),
            ("cut", weight_decay, [each for each in own if each.ndim > 1 and is_cut(each)]),
            ("plain", 0.0, [each for each in own if each.ndim <= 1]),
        ):
            if chosen:
                groups.append(
                    {"params": chosen, "weight_decay": decay, "base_lr": rate, "lr": 0.0, "name": f"{name}/{label}"}
                )
    return groups


def build_optimizer(groups: list[dict[str, object]], *, betas: tuple[float, float], eps: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), in torch's fused form, which computes the same in one pass."""
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Gives every group its own rate times the schedule's factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
