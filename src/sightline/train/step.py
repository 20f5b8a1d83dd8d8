"""One optimizer step.

Comes in: a model, an optimizer, the micro-batches of a step, or a rank's share of them. Goes out: the new weights and
the step's numbers; or, when the loss or the gradient is not finite, the old weights and the names of the samples. Does
not know files or schedules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sightline.data.batch import Batch
from sightline.errors import TrainingError
from sightline.model.vlm import VisionLanguageModel
from sightline.train.device import autocast
from sightline.train.loss import loss_sum
from sightline.train.pieces import clip_gradients, gradient_norm, is_cut
from sightline.train.ranks import ALONE, Ranks
from sightline.train.shard import idle_loss, passes
from sightline.train.state import trained_parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """A step's numbers: the loss is the mean over the step's trained tokens, the norm is the one before clipping."""

    loss: float
    gradient_norm: float
    suspects: tuple[str, ...] = ()
    """Ids of the samples in micro-batches whose loss was not finite; all of the step when only the gradient was not."""

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


def accumulate(
    model: VisionLanguageModel, batches: Sequence[Batch], *, dtype: torch.dtype, ranks: Ranks = ALONE
) -> tuple[float, list[str]]:
    """Adds the step's gradient to `.grad`: that of the summed loss over the global count of trained tokens.

    Returns:
        The loss, and the ids of the samples in this rank's micro-batches with a non-finite loss.

    Raises:
        TrainingError: the whole step has not one trained token.
    """
    (count,) = ranks.totals(sum(batch.trained_tokens for batch in batches))
    if count == 0:
        names = [name for batch in batches for name in batch.ids[:3]][:3]
        raise TrainingError(f"no trained token in a whole step (samples {', '.join(names)}, ...)")
    device = next(model.parameters()).device
    losses: list[tuple[Batch, torch.Tensor]] = []
    for batch in passes(batches, model, ranks):
        with autocast(device, dtype):
            loss = idle_loss(model) if batch is None else loss_sum(model, batch.to(device)) / count
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        if batch is not None:
            losses.append((batch, loss.detach()))
    values = torch.stack([loss for _, loss in losses]).tolist() if losses else []
    suspects = [
        name for (batch, _), value in zip(losses, values, strict=True) if not math.isfinite(value) for name in batch.ids
    ]
    ranks.sum_gradients(each for each in trained_parameters(model).values() if not is_cut(each))
    return ranks.totals(sum(values))[0], suspects


def take_step(
    model: VisionLanguageModel,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    clip: float | None,
    dtype: torch.dtype,
    ranks: Ranks = ALONE,
) -> StepResult:
    """Gradient, clipping, update. A non-finite loss or gradient reaches neither weights nor moments of any rank.

    Args:
        batches: this rank's; there may be none, as long as another rank has some.
    """
    optimizer.zero_grad(set_to_none=True)
    loss, suspects = accumulate(model, batches, dtype=dtype, ranks=ranks)
    gradients = [parameter.grad for parameter in trained_parameters(model).values() if parameter.grad is not None]
    norm = gradient_norm(gradients, ranks)
    result = StepResult(loss=loss, gradient_norm=norm.item())
    if result.finite:
        if clip is not None:
            clip_gradients(trained_parameters(model).values(), clip, norm)
        optimizer.step()
    else:
        suspects = ranks.joined(suspects) or ranks.joined([name for batch in batches for name in batch.ids])
    optimizer.zero_grad(set_to_none=True)
    return replace(result, suspects=tuple(suspects))
