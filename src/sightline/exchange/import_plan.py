"""Which foreign tensor fills which of ours: all of them accounted for before a byte is written.

Comes in: our tensors' names and shapes, and where foreign tensors lie under our names. Goes out: a `Plan`, from which
our tensors come one at a time, and the account of what was used, left out and made. Knows nothing of configurations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from sightline.errors import CheckpointError
from sightline.exchange.tensor_files import Stored, TensorReader
from sightline.model.weights import FLOATS

# What files hold besides parameters: buffers that are computed when a model is made (transformers before 4.40 wrote
# them), and the other half of a model whose image encoder is taken.
_UNUSED = (
    (re.compile(r"rotary_emb\.inv_freq$"), "rotary frequencies, computed from the configuration"),
    (re.compile(r"embeddings\.position_ids$"), "the numbers 0, 1, 2, ..., made anew"),
    (re.compile(r"^(vision_tower\.(vision_model\.)?)?(text_model\.|(text|visual)_projection\.|logit_(scale|bias)$)"),
     "the text side of the model that the encoder is from"),
)  # fmt: skip


HEAD = "language_model.lm_head.weight"
"""The output matrix in our files."""


class Change(Protocol):
    """What is done to a tensor after it was read."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that comes of it; `CheckpointError` when it cannot be done to this shape."""

    def __call__(self, tensor: Tensor, reader: TensorReader) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class GrowRows:
    """Rows for new tokens: the mean of the old ones, as in LLaVA's `smart_tokenizer_and_embedding_resize`.

    The logits of the old tokens stay what they were, and that of a new one is their mean: it is never the greatest, and
    of V old tokens it takes at most 1 / (V + 1) of the probability.
    """

    old: int
    new: int

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Change.shape`; other shapes than `old` rows stay as they are, and will not fit."""
        return (self.new, *shape[1:]) if shape[:1] == (self.old,) else shape

    def __call__(self, tensor: Tensor, reader: TensorReader) -> Tensor:
        mean = tensor.mean(dim=0, dtype=torch.float32).to(tensor.dtype)
        return torch.cat([tensor, mean.expand(self.new - self.old, -1)])


@dataclass(frozen=True, slots=True)
class Supply:
    """Foreign tensors under our names. `what` stands in the account: `checkpoint`, `base`, `vision`."""

    what: str
    tensors: dict[str, Stored]


@dataclass(slots=True)
class Plan:
    """Our tensors, where each comes from, and the account.

    Attributes:
        pieces: name -> a foreign tensor and what is done to it, or a tensor that is made here; in the order of writing.
        used: how many tensors came from each supply.
        unused: foreign tensors that are not needed, and why, by what they are.
        made: tensors of ours that no file has, and why.
    """

    pieces: dict[str, tuple[Stored | Tensor, tuple[Change, ...]]] = field(default_factory=dict)
    planned: dict[str, Tensor] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)

    def content(self, reader: TensorReader) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of ours, one at a time, in the order of `planned`.

        Raises:
            CheckpointError: one has values that are not finite, before or after its changes.
        """
        for name in self.planned:
            yield name, self._make(name, reader)

    def _make(self, name: str, reader: TensorReader) -> Tensor:
        origin, changes = self.pieces[name]
        tensor = origin if isinstance(origin, Tensor) else reader.read(origin)
        for change in changes:
            tensor = change(tensor, reader)
        if changes and not tensor.isfinite().all():
            raise CheckpointError(f"{origin} has values that are not finite in {tensor.dtype} once it is changed")
        return tensor


def unused_reason(name: str, stored: Stored) -> str | None:
    """Why a model needs no such tensor, going by its name; None for one that it might need."""
    reasons = (reason for pattern, reason in _UNUSED if pattern.search(name) or pattern.search(stored.key))
    return next(reasons, None)


def unused_tensors(tensors: Mapping[str, Stored]) -> dict[str, str]:
    """Those of a model's tensors that no model needs, and why."""
    reasons = {str(stored): unused_reason(name, stored) for name, stored in tensors.items()}
    return {place: reason for place, reason in reasons.items() if reason is not None}


def make_plan(
    wanted: Mapping[str, Tensor],
    fillers: Mapping[str, Tensor],
    supplies: list[Supply],
    changes: Mapping[str, tuple[Change, ...]],
    *,
    their_name: Callable[[str], str],
    reader: TensorReader,
) -> Plan:
    """Fill every tensor of ours from the first supply that has it.

    Args:
        wanted: our own tensors (meta will do), `fillers` those of the standard projector that our connector lacks.
        changes: by our names.
        their_name: from our name to the one that the user finds in the files, for messages.

    Raises:
        CheckpointError: a tensor is missing, of another shape or type, or belongs to nothing.
    """
    plan = Plan()
    for name, target in wanted.items():
        stored = next((supply.tensors[name] for supply in supplies if name in supply.tensors), None)
        if stored is None:
            places = " and ".join(sorted({str(one.path.parent) for s in supplies for one in s.tensors.values()}))
            raise CheckpointError(f"{places}: {their_name(name)} of shape {list(target.shape)} is missing")
        done = changes.get(name, ())
        _check(stored, target, done)
        plan.pieces[name] = stored, done
    for supply in supplies:
        plan.used[supply.what] = 0
        for name, stored in supply.tensors.items():
            if plan.pieces.get(name, (None,))[0] is stored:
                plan.used[supply.what] += 1
            elif name not in fillers:
                plan.unused[str(stored)] = _reason(name, stored, plan)
    for name, filler in fillers.items():
        _fill_in(plan, name, filler, supplies, reader)
    _order(plan)
    return plan


def _check(stored: Stored, target: Tensor, changes: tuple[Change, ...]) -> None:
    if stored.dtype not in FLOATS:
        raise CheckpointError(f"{stored} has type {stored.dtype}, expected {', '.join(FLOATS)}")
    shape = stored.shape
    for change in changes:
        shape = change.shape(shape)
    if shape != tuple(target.shape):
        rows = [change.old for change in changes if isinstance(change, GrowRows)] or list(target.shape[:1])
        needed = [*rows, *target.shape[1:]]
        raise CheckpointError(f"{stored} has shape {list(stored.shape)}, the configuration needs {needed}")


def _reason(name: str, stored: Stored, plan: Plan) -> str:
    """Why a tensor is not used; one for which there is no reason is refused."""
    if name in plan.pieces:
        return f"replaced by {plan.pieces[name][0]}"
    reason = unused_reason(name, stored)
    if reason is None:
        raise CheckpointError(f"{stored} of shape {list(stored.shape)} does not belong to this model")
    return reason


def _fill_in(plan: Plan, name: str, filler: Tensor, supplies: list[Supply], reader: TensorReader) -> None:
    """An identity layer of the standard projector: from a file that has just that, or made."""
    for supply in supplies:
        stored = supply.tensors.get(name)
        if stored is None:
            continue
        if stored.shape != tuple(filler.shape) or not torch.equal(reader.read(stored).float(), filler.float()):
            raise CheckpointError(f"{stored} of shape {list(stored.shape)} does not belong to this model")
        plan.pieces[name] = stored, ()
        plan.used[supply.what] += 1
        return
    plan.pieces[name] = filler, ()
    plan.made[name] = "identity, which the standard projector needs and this connector does not have"


def _order(plan: Plan) -> None:
    """Larger types first, as `stream_weights` wants it, and then file by file, so that each is opened once."""

    def key(name: str) -> tuple[int, str, str]:
        origin = plan.pieces[name][0]
        if isinstance(origin, Tensor):
            return -origin.itemsize, "", name
        return -FLOATS[origin.dtype].itemsize, str(origin.path), origin.key

    for name in sorted(plan.pieces, key=key):
        origin, changes = plan.pieces[name]
        if isinstance(origin, Tensor):
            shape, dtype = tuple(origin.shape), origin.dtype
        else:
            shape, dtype = origin.shape, FLOATS[origin.dtype]
        for change in changes:
            shape = change.shape(shape)
        plan.planned[name] = torch.empty(shape, dtype=dtype, device="meta")
