"""One optimizer step.

Comes in: a model, an optimizer, the micro-batches of a step. Goes out: the new weights and the step's numbers; or, when
the loss or the gradient is not finite, the old weights and the names of the samples. Does not know files or schedules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sightline.data.batch import Batch
from sightline.errors import TrainingError
from sightline.model.vlm import VisionLanguageModel
from sightline.train.device import autocast
from sightline.train.loss import loss_sum
from sightline.train.state import trained_parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """A step's numbers: the loss is the mean over the step's trained tokens, the norm is the one before clipping."""

    loss: float
    gradient_norm: float
    suspects: tuple[str, ...]
    """Ids of the samples in micro-batches whose loss was not finite; all of the step when only the gradient was."""

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


def accumulate(model: VisionLanguageModel, batches: Sequence[Batch], *, dtype: torch.dtype) -> tuple[float, list[str]]:
    """Adds the step's gradient to `.grad`: that of the summed loss over the global count of trained tokens.

    Returns:
        The loss, and the ids of the samples in micro-batches with a non-finite loss.

    Raises:
        TrainingError: the whole step has not one trained token.
    """
    count = sum(batch.trained_tokens for batch in batches)
    if count == 0:
        raise TrainingError(f"no trained token in a whole step (samples {', '.join(batches[0].ids[:3])}, ...)")
    device = next(model.parameters()).device
    losses: list[torch.Tensor] = []
    for batch in batches:
        with autocast(device, dtype):
            loss = loss_sum(model, batch.to(device)) / count
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    values = torch.stack(losses).tolist()
    suspects = [
        name for batch, value in zip(batches, values, strict=True) if not math.isfinite(value) for name in batch.ids
    ]
    return sum(values), suspects


def take_step(
    model: VisionLanguageModel,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    clip: float | None,
    dtype: torch.dtype,
) -> StepResult:
    """Gradient, clipping, update. A non-finite loss or gradient reaches neither weights nor moments."""
    optimizer.zero_grad(set_to_none=True)
    loss, suspects = accumulate(model, batches, dtype=dtype)
    gradients = [parameter.grad for parameter in trained_parameters(model).values() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    result = StepResult(
        loss=loss,
        gradient_norm=norm.item(),
        suspects=tuple(suspects or [name for batch in batches for name in batch.ids]),
    )
    if result.finite:
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(list(trained_parameters(model).values()), clip, norm)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return result
