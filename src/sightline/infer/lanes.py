"""Rows that go through the language model together.

Comes in: prompts. Goes out: `Lane`s, which know the logits of the next token of each of their rows and take the tokens
that were chosen. Every prompt is computed in its own length, together with those of the same length, or by itself and
piece by piece (`Filling`); then all share one cache, padded on the left and masked. A row that is over leaves it, and
others may join. Does not know when that is, nor how tokens are chosen.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.infer.memory import Memory
from sightline.model.cache import copy_row, drop_first, join, stackable
from sightline.model.vlm import VisionLanguageModel

PIECE = 256
"""Positions of a conversation's prompt that are computed at once, so that others' steps can come between.

On one core of a CPU a prompt of 2,000 positions took 2.20 s of its time in pieces of 256, 2.84 s in pieces of 128 and
2.21 s at once (`mid` of `benchmarks.sizes`); a piece took 0.2 to 0.4 s, as long as four to six steps of 16 rows.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One prompt.

    Attributes:
        ids: with K placeholders per picture.
        pixels: float32[N, 3, H, W], of the pictures (with a `Memory`: of those that it does not know).
        number: tells prompts apart whose answers are drawn with one seed.
    """

    ids: list[int]
    pixels: Tensor
    number: int = 0


@dataclass
class Lane:
    """Rows with one cache.

    Attributes:
        rows: the numbers of the prompts, in the order of the cache's rows.
        padding: positions of the cache before each row's first.
        logits: [len(rows), V], of the next token.
    """

    rows: list[int]
    padding: list[int]
    cache: Any
    logits: Tensor

    def step(self, model: VisionLanguageModel, tokens: Sequence[int]) -> None:
        """Takes one token per row."""
        ids = torch.tensor(tokens, device=self.logits.device)[:, None]
        mask = positions = None
        if any(self.padding):
            length = self.cache.get_seq_length()
            padding = torch.tensor(self.padding, device=ids.device)[:, None]
            mask = torch.arange(length + 1, device=ids.device) >= padding
            positions = length - padding
        self.logits, self.cache = model.decode(ids, self.cache, attention_mask=mask, position_ids=positions)

    def keep(self, rows: Container[int]) -> None:
        """Lets all rows but these go, and the positions that only they had. At least one row stays."""
        places = compacted([place for place, row in enumerate(self.rows) if row in rows])
        if len(places) == len(self.rows):
            return
        self.cache.batch_select_indices(torch.tensor(places, device=self.logits.device))
        self.logits = self.logits[places]
        self.rows = [self.rows[place] for place in places]
        self.padding = [self.padding[place] for place in places]
        unused = min(self.padding)
        if unused and drop_first(self.cache, unused):
            self.padding = [count - unused for count in self.padding]

    def join(self, others: Sequence[Lane]) -> None:
        """Takes in the rows of other lanes, behind its own."""
        lanes = (self, *others)
        lengths = [lane.cache.get_seq_length() for lane in lanes]
        more = [max(lengths) - length for length in lengths]
        padding = [count + new for lane, new in zip(lanes, more, strict=True) for count in lane.padding]
        logits = torch.cat([lane.logits for lane in lanes])
        join(self.cache, [lane.cache for lane in others])
        self.rows, self.padding, self.logits = [row for lane in lanes for row in lane.rows], padding, logits

    def copied(self, row: int, length: int, config: Any) -> Lane | None:
        """A row as a lane of its own, with its first `length` positions; None where the cache has not kept them all."""
        place = self.rows.index(row)
        start = self.padding[place]
        cache = copy_row(self.cache, place, start=start, end=start + length, config=config)
        if cache is None:
            return None
        return Lane(rows=[row], padding=[0], cache=cache, logits=self.logits[place : place + 1])


def compacted(places: Sequence[int]) -> list[int]:
    """Which place's row each of the first `len(places)` places is to hold, so that the fewest rows move: the last do.

    Args:
        places: those that stay, rising.
    """
    late = [place for place in places if place >= len(places)]
    staying = set(places)
    return [place if place in staying else late.pop() for place in range(len(places))]


def prefill(model: VisionLanguageModel, prompts: Sequence[Prompt]) -> list[Lane]:
    """Takes prompts in: one lane, or one per prompt where the model's cache cannot hold rows of different lengths."""
    device = next(model.parameters()).device
    together = len(prompts) == 1 or stackable(model.language.config)
    groups: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(len(prompt.ids) if together else row, []).append(row)
    ids = torch.tensor([[token for prompt in prompts for token in prompt.ids]], device=device)
    pixels = torch.cat([prompt.pixels for prompt in prompts]).to(device)
    embeddings = torch.split(model.embed(ids, pixels)[0], [len(prompt.ids) for prompt in prompts])
    lanes = []
    for rows in groups.values():
        logits, cache = model.decode(torch.stack([embeddings[row] for row in rows]))
        lanes.append(Lane(rows=rows, padding=[0] * len(rows), cache=cache, logits=logits))
    if together and len(lanes) > 1:
        lanes[0].join(lanes[1:])
        return lanes[:1]
    return lanes


class Filling:
    """A conversation's prompt on its way into a lane: what it has beyond its memory is computed piece by piece.

    Where the pieces end depends on the prompt and its memory alone, so the sums do not depend on who asks. After every
    piece the memory knows so much of the prompt.
    """

    def __init__(self, model: VisionLanguageModel, prompt: Prompt, memory: Memory, *, row: int = 0) -> None:
        self._model, self._ids, self._memory, self._row = model, prompt.ids, memory, row
        self._embeddings = memory.embed(model, prompt.ids, prompt.pixels)
        self._known = memory.resume(prompt.ids)
        left = len(prompt.ids) - self._known
        # From a recurrent state some layers go on by one position only.
        self._most = PIECE if left > PIECE and stackable(model.language.config) else left

    @property
    def next(self) -> int:
        """How many positions the next piece has."""
        return min(self._most, len(self._ids) - self._known)

    def step(self) -> Lane | None:
        """Computes the next piece; the last one gives the lane."""
        end = self._known + self.next
        logits, self._memory.cache = self._model.decode(self._embeddings[:, self._known : end], self._memory.cache)
        self._known, self._memory.ids = end, self._ids[:end]
        if end < len(self._ids):
            return None
        return Lane(rows=[self._row], padding=[0], cache=self._memory.cache, logits=logits)


def prefill_new(model: VisionLanguageModel, prompt: Prompt, memory: Memory) -> Lane:
    """Takes in what a conversation's prompt has beyond its memory, which then knows the whole prompt."""
    filling = Filling(model, prompt, memory)
    while (lane := filling.step()) is None:
        pass
    return lane
