"""What is added to a base model's tensors: differences, and low-rank adapters.

Comes in: foreign tensors under our names. Goes out: `Change`s by our names, for a plan. Knows no configuration but
peft's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.errors import CheckpointError
from sightline.exchange.import_plan import HEAD, Change, unused_reason
from sightline.exchange.tensor_files import Stored, TensorReader

FINAL_NORM = "language_model.model.norm.weight"
"""The last norm's scales: about 1 in a model, about 0 in the difference of two."""
_GROWN = ("language_model.model.embed_tokens.weight", HEAD)
_LOW_RANK = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
# What peft can do to an adapter that the original never asks for; each would change the sum that is computed here.
_UNKNOWN_LORA = (
    *("use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out", "rank_pattern", "alpha_pattern"),
    *("layer_replication", "target_parameters", "trainable_token_indices", "alora_invocation_tokens"),
)


@dataclass(frozen=True, slots=True)
class AddBase:
    """A difference becomes a weight again: the base is added, as in the original's apply_delta.py.

    `grown`: the difference may have more rows than the base; those stay as they are.
    """

    base: Stored
    grown: bool

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Change.shape`."""
        base = self.base.shape
        overlaps = self.grown and len(base) == len(shape) and all(b <= s for b, s in zip(base, shape, strict=True))
        if shape != base and not overlaps:
            raise CheckpointError(
                f"{self.base} has shape {list(base)}, the difference to be added has {list(shape)}: "
                "not the base it was made from"
            )
        return shape

    def __call__(self, tensor: Tensor, reader: TensorReader) -> Tensor:
        base = reader.read(self.base).to(tensor.dtype)
        total = tensor.clone()
        total[tuple(slice(length) for length in base.shape)] += base
        return total


@dataclass(frozen=True, slots=True)
class AddLowRank:
    """W + scale * B A, summed in float32 as peft does (Hu et al. 2021, section 4.1)."""

    down: Stored
    up: Stored
    scale: float

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Change.shape`."""
        (rank, width), (height, up_rank) = self.down.shape, self.up.shape
        if rank != up_rank or (height, width) != shape:
            raise CheckpointError(
                f"{self.down} has shape {[rank, width]} and lora_B {[height, up_rank]}: "
                f"they do not make the {list(shape)} that they are added to"
            )
        return shape

    def __call__(self, tensor: Tensor, reader: TensorReader) -> Tensor:
        update = (reader.read(self.up).float() @ reader.read(self.down).float()) * self.scale
        return (tensor.float() + update).to(tensor.dtype)


def is_difference(tensors: Mapping[str, Stored], base: Mapping[str, Stored] | None, reader: TensorReader) -> bool:
    """Whether weights are a difference to another model's.

    Told by the final norm: a fine-tuned model's scales are nearly those of its base, a difference of the two nearly 0.

    Args:
        base: the model that it may be a difference to, if one is given. None: scales below a hundredth tell, beside a
            projector, which is no difference and so is not zero.
    """
    if FINAL_NORM not in tensors:
        return False
    size = reader.read(tensors[FINAL_NORM]).float().abs().mean().item()
    if base is not None and FINAL_NORM in base:
        return size < reader.read(base[FINAL_NORM]).float().abs().mean().item() / 2
    projector = [stored for name, stored in tensors.items() if name.startswith("multi_modal_projector.")]
    return size < 0.01 and any(bool(reader.read(stored).any()) for stored in projector)


def base_changes(tensors: Mapping[str, Stored], base: Mapping[str, Stored]) -> dict[str, tuple[Change, ...]]:
    """The changes that make a difference a model. Only the projector may have nothing in the base.

    Raises:
        CheckpointError: names the tensor that is in one of them only.
    """
    changes: dict[str, tuple[Change, ...]] = {}
    for name, stored in tensors.items():
        if name in base:
            changes[name] = (AddBase(base[name], grown=name in _GROWN),)
        elif not name.startswith("multi_modal_projector.") and unused_reason(name, stored) is None:
            raise CheckpointError(f"{stored} is a difference to a tensor that the base does not have")
    for name, stored in base.items():
        if name not in tensors and unused_reason(name, stored) is None:
            raise CheckpointError(f"{stored} of the base has no counterpart in the difference")
    return changes


def low_rank_changes(
    adapter: Mapping[str, Stored], settings: Mapping[str, Any], *, rename: Callable[[str], str], where: Path
) -> dict[str, tuple[Change, ...]]:
    """The changes that melt an adapter into its base.

    Args:
        adapter: by the names that peft gave.
        settings: of its `adapter_config.json`.
        rename: from the name of an adapted weight to ours.

    Raises:
        CheckpointError: no LoRA, one with extras that are not read here, or a half of a pair is missing.
    """
    alpha = _check_settings(settings, where=where)
    pairs: dict[str, dict[str, Stored]] = {}
    for key, stored in adapter.items():
        found = _LOW_RANK.fullmatch(key)
        if found is None or len(stored.shape) != 2:
            raise CheckpointError(f"{stored} of shape {list(stored.shape)} is no part of a low-rank adapter")
        pairs.setdefault(rename(f"{found[1]}.weight"), {})[found[2]] = stored
    changes: dict[str, tuple[Change, ...]] = {}
    for name, pair in pairs.items():
        if len(pair) != 2:
            (half, stored), *_ = pair.items()
            raise CheckpointError(f"{stored} has no lora_{'B' if half == 'A' else 'A'} beside it")
        rank = pair["A"].shape[0]
        scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        changes[name] = (AddLowRank(pair["A"], pair["B"], scale),)
    return changes


def _check_settings(settings: Mapping[str, Any], *, where: Path) -> float:
    """alpha, if the settings say a plain LoRA."""
    if settings.get("peft_type") != "LORA":
        raise CheckpointError(f"{where}: peft_type is {settings.get('peft_type')!r}, expected LORA")
    unknown = [key for key in _UNKNOWN_LORA if settings.get(key)]
    if unknown:
        raise CheckpointError(
            f"{where}: {unknown[0]} is set, which is not read here: merge the adapter with peft first"
        )
    alpha = settings.get("lora_alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise CheckpointError(f"{where}: lora_alpha is {alpha!r}, expected a number")
    return float(alpha)
