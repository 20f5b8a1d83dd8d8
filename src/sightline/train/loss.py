"""The loss: a sum over trained tokens, and their count.

Comes in: a model and a micro-batch. Goes out: the sum of the cross-entropies, to be divided by the count of the whole
step, whatever the accumulation or the number of ranks. Does not know optimizers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sightline.data.loader import Batch
from sightline.data.tokens import IGNORE
from sightline.model.vlm import VisionLanguageModel


def predicting_positions(labels: Tensor) -> Tensor:
    """The positions whose next token is trained on in at least one row.

    Args:
        labels: int64[B, T].

    Returns:
        int64[n], ascending: the language head need run on these alone.
    """
    return (labels[:, 1:] != IGNORE).any(dim=0).nonzero().squeeze(1)


def token_losses(model: VisionLanguageModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """The cross-entropy of every trained token.

    Returns:
        float32[n] losses in nats, and int64[n], the row that each belongs to.
    """
    keep = predicting_positions(batch.labels)
    logits = model(batch.input_ids, pixels=batch.pixels, attention_mask=batch.attention_mask, keep=keep, ids=batch.ids)
    targets = batch.labels[:, keep + 1]
    trained = targets != IGNORE
    losses = functional.cross_entropy(logits[trained].float(), targets[trained], reduction="none")
    return losses, trained.nonzero()[:, 0]


def loss_sum(model: VisionLanguageModel, batch: Batch) -> Tensor:
    """The sum of the cross-entropies over the batch's trained tokens; 0, with a gradient of 0, when it has none."""
    if batch.trained_tokens == 0:
        return torch.zeros((), device=batch.input_ids.device)
    return token_losses(model, batch)[0].sum()
