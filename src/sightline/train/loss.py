"""The loss: a sum over trained tokens, and their count.

Comes in: a model and a batch. Goes out: the sum of the cross-entropies, to be divided by the count of the whole step,
whatever the packing, the accumulation or the number of ranks. Does not know optimizers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sightline.data.batch import Batch
from sightline.data.tokens import IGNORE
from sightline.model.packed import packing_arguments
from sightline.model.vlm import VisionLanguageModel
from sightline.train.linear_loss import linear_cross_entropy


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
        float32[n] losses in nats, and int64[n], the sample that each belongs to, as a number in the batch.
    """
    keep = predicting_positions(batch.labels)
    logits = model(batch.input_ids, keep=keep, **_shown(batch), **_rows(batch))
    targets = batch.labels[:, keep + 1]
    trained = targets != IGNORE
    losses = functional.cross_entropy(logits[trained].float(), targets[trained], reduction="none")
    return losses, batch.samples_of_positions[:, keep.cpu() + 1][trained.cpu()]


def loss_sum(model: VisionLanguageModel, batch: Batch) -> Tensor:
    """The sum of the cross-entropies over the batch's trained tokens; 0, with a gradient of 0, when it has none."""
    if batch.trained_tokens == 0:
        return torch.zeros((), device=batch.input_ids.device)
    if not model.plain_head:
        return token_losses(model, batch)[0].sum()
    embeddings = model.embed(batch.input_ids, **_shown(batch))
    trained = batch.labels != IGNORE
    states = model.states(embeddings, trained.roll(-1, dims=1), **_rows(batch))  # no sample's first position is trained
    head = model.language.get_output_embeddings()
    return linear_cross_entropy(states, head.weight, head.bias, batch.labels[trained])


def _rows(batch: Batch) -> dict[str, Any]:
    """How the batch's rows lie, as the model wants it said."""
    if batch.position_ids is None:
        return {"attention_mask": batch.attention_mask}
    return {"position_ids": batch.position_ids, **packing_arguments(batch.lengths)}


def _shown(batch: Batch) -> dict[str, Any]:
    """The batch's pictures, and what its rows are called, as the model wants it said."""
    names = batch.ids if batch.position_ids is None else (", ".join(batch.ids),)
    return {"pixels": batch.pixels, "features": batch.features, "shown": batch.shown, "ids": names}
