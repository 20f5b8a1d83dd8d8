"""Examples as tensors for one pass through a model: packed into a row without padding, or padded to a rectangle.

Comes in: `Example`s. Goes out: `Batch`es. Pure; the plan of rows depends on the lengths alone. Does not know models.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sightline.data.processor import Example
from sightline.data.tokens import IGNORE


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Examples for one pass, S of them.

    Attributes:
        ids: the samples' ids, S of them, in reading order.
        lengths: the samples' positions, S of them.
        input_ids: int64[B, T]. Packed: B is 1 and the samples follow one another. Padded: B is S.
        labels: int64[B, T], `IGNORE` where nothing is learnt, as at the first position of every sample.
        attention_mask: int64[B, T], 0 on padding; None for a packed row.
        position_ids: int64[1, T], from 0 in every sample; None for padded ones.
        features: float[F, K, C], what a frozen encoder makes of the first F pictures; None when there are none.
        pixels: float32[N, 3, H, W], the other pictures, which are still to be encoded; None when there are none.
        shown: int64[M], for each place that shows a picture, in reading order, which of the F + N. Each is there once,
            those of a kind in the order of their first showing.
    """

    ids: tuple[str, ...]
    lengths: tuple[int, ...]
    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor | None
    features: Tensor | None
    pixels: Tensor | None
    shown: Tensor

    @property
    def trained_tokens(self) -> int:
        """Labels that count."""
        return int((self.labels != IGNORE).sum())

    @property
    def tokens(self) -> int:
        """Positions that are not padding."""
        return sum(self.lengths)

    @property
    def samples_of_positions(self) -> Tensor:
        """int64[B, T]: which sample a position is of; padding counts to its row's."""
        if self.position_ids is None:
            return torch.arange(len(self.ids))[:, None].expand(self.input_ids.shape)
        return torch.arange(len(self.ids)).repeat_interleave(torch.tensor(self.lengths))[None]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch where a GPU can fetch it while computing; `DataLoader` asks for it by this name."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        names = ("input_ids", "labels", "attention_mask", "position_ids", "features", "pixels", "shown")
        found: dict[str, Any] = {name: getattr(self, name) for name in names}
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in found.items() if tensor is not None}
        return replace(self, **changed)


def pack(examples: Sequence[Example]) -> Batch:
    """One row with the examples behind one another."""
    return Batch(
        ids=tuple(example.id for example in examples),
        lengths=tuple(len(example.input_ids) for example in examples),
        input_ids=torch.cat([example.input_ids for example in examples])[None],
        labels=torch.cat([_predictable(example.labels) for example in examples])[None],
        attention_mask=None,
        position_ids=torch.cat([torch.arange(len(example.input_ids)) for example in examples])[None],
        **_pictures(examples),
    )


def pad(examples: Sequence[Example], *, pad_id: int) -> Batch:
    """A row for each example, padded on the right to the longest."""
    lengths = tuple(len(example.input_ids) for example in examples)
    input_ids = torch.full((len(examples), max(lengths)), pad_id, dtype=torch.int64)
    labels = torch.full_like(input_ids, IGNORE)
    attention_mask = torch.zeros_like(input_ids)
    for row, (example, length) in enumerate(zip(examples, lengths, strict=True)):
        input_ids[row, :length] = example.input_ids
        labels[row, :length] = _predictable(example.labels)
        attention_mask[row, :length] = 1
    return Batch(
        ids=tuple(example.id for example in examples),
        lengths=lengths,
        input_ids=input_ids,
        labels=labels,
        attention_mask=attention_mask,
        position_ids=None,
        **_pictures(examples),
    )


def _predictable(labels: Tensor) -> Tensor:
    """Labels without that of the first position, which nothing comes before."""
    return torch.cat([labels.new_full((1,), IGNORE), labels[1:]])


def _pictures(examples: Sequence[Example]) -> dict[str, Any]:
    """`features`, `pixels` and `shown`: a picture that occurs again, by its name, is not there again."""
    features: dict[str, Tensor] = {}
    pixels: dict[str, Tensor] = {}
    for example in examples:
        kind, tensors = (pixels, example.pixels) if example.features is None else (features, example.features)
        for name, tensor in zip(example.pictures, tensors, strict=True):
            if name not in features and name not in pixels:
                kind[name] = tensor
    place = {name: number for number, name in enumerate([*features, *pixels])}
    return {
        "features": torch.stack([*features.values()]) if features else None,
        "pixels": torch.stack([*pixels.values()]) if pixels else None,
        "shown": torch.tensor([place[name] for example in examples for name in example.pictures], dtype=torch.int64),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class RowPlan:
    """How the examples of a step are cut into batches.

    Attributes:
        packed: into rows of at most `row_length` positions, else into padded batches of `micro_batch` samples.
    """

    packed: bool
    row_length: int
    micro_batch: int
    pad_id: int

    def batches(self, examples: Sequence[Example]) -> list[Batch]:
        """The sum of the losses does not depend on the cut, so it may follow the lengths and costs no randomness."""
        if self.packed:
            lengths = [len(example.input_ids) for example in examples]
            rows = plan_rows(lengths, limit=self.row_length, together=[example.pictures for example in examples])
            return [pack([examples[index] for index in row]) for row in rows]
        ordered = sorted(examples, key=lambda example: (len(example.input_ids), example.id))
        size = self.micro_batch
        return [pad(ordered[start : start + size], pad_id=self.pad_id) for start in range(0, len(ordered), size)]


def plan_rows(lengths: Sequence[int], *, limit: int, together: Sequence[Hashable] | None = None) -> list[list[int]]:
    """First-fit decreasing (Johnson 1973): which samples share a row.

    Args:
        lengths: positions of each sample. One that is longer than `limit` has a row to itself.
        limit: positions of a row.
        together: samples of equal values lie side by side, as far as they fit: they show the same pictures, which are
            encoded once a row.

    Returns:
        Rows of indexes into `lengths`, each index once, ascending in a row. A function of the arguments alone.
    """
    groups: dict[Hashable, list[int]] = {}
    for index in range(len(lengths)):
        key = (index,) if together is None or not together[index] else together[index]
        groups.setdefault(key, []).append(index)
    items = [part for group in groups.values() for part in _cut(group, lengths, limit)]
    items.sort(key=lambda part: (-sum(lengths[index] for index in part), part[0]))
    rows: list[list[int]] = []
    room: list[int] = []
    for part in items:
        taken = sum(lengths[index] for index in part)
        for number, free in enumerate(room):
            if taken <= free:
                rows[number] += part
                room[number] -= taken
                break
        else:
            rows.append(list(part))
            room.append(limit - taken)
    return [sorted(row) for row in rows]


def _cut(group: Sequence[int], lengths: Sequence[int], limit: int) -> list[list[int]]:
    """A group in parts of at most `limit` positions, in order."""
    parts: list[list[int]] = [[]]
    for index in group:
        if parts[-1] and sum(lengths[other] for other in parts[-1]) + lengths[index] > limit:
            parts.append([])
        parts[-1].append(index)
    return parts
