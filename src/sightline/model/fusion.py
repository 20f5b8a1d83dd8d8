"""Put image features where their placeholders are.

Comes in: text embeddings, image features, and where the placeholders stand. Goes out: one row of embeddings. Knows
nothing of how either was made. The data layer decides how many placeholders there are; here they are only counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sightline.errors import SightlineError


def scatter_features(
    embeddings: Tensor, features: Tensor, is_image: Tensor, *, ids: Sequence[str] | None = None
) -> Tensor:
    """Replace the embeddings of placeholders by features, in reading order over rows and positions.

    Args:
        embeddings: [B, T, D]
        features: [M, D], or [N, K, D] with M = N * K; cast to the type of the embeddings.
        is_image: bool[B, T], true at exactly M positions.
        ids: names of the rows, for the message.

    Returns:
        [B, T, D], a new tensor; gradients reach both inputs.

    Raises:
        SightlineError: the number of placeholders differs from the number of features.
    """
    flat = features.reshape(-1, features.shape[-1])
    placeholders = int(is_image.sum())
    if placeholders != len(flat):
        raise SightlineError(_mismatch(is_image, features, ids))
    return embeddings.masked_scatter(is_image.unsqueeze(-1), flat.to(embeddings.dtype))


def _mismatch(is_image: Tensor, features: Tensor, ids: Sequence[str] | None) -> str:
    counts = [int(count) for count in is_image.sum(dim=1)]
    names = [f'sample "{name}"' for name in ids] if ids is not None else [f"row {row}" for row in range(len(counts))]
    rows = ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True) if count)
    given = f"{features.shape[0]} images x {features.shape[1]} = " if features.dim() == 3 else ""
    total = features.shape[:-1].numel()
    return (
        f"{sum(counts)} image placeholders ({rows or 'in no row'}) but {given}{total} image features: "
        "the prompt and the pictures do not belong together"
    )
