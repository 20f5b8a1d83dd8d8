"""Requests on their way to their first token.

Comes in: requests, in the order in which they are answered. Goes out: rows, each with a lane of its own. Pictures that
came together go through the encoder together, prompts through the language model in pieces: answers that are being read
stand still for one batch of pictures, or for pieces of 256 to 511 positions, and not for everything that has come.
A request that fails here fails alone. Does not know the rows that are being answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.errors import SightlineError
from sightline.infer.generate import Prompt, generator_of
from sightline.infer.lanes import PIECE, Filling, Lane
from sightline.infer.words import AnswerText
from sightline.model.vlm import VisionLanguageModel
from sightline.serve.figures import Figures
from sightline.serve.request import Request
from sightline.serve.shelf import Shelf

ENCODED_TOGETHER = 8
"""Pictures that go through the encoder at once; more would hold memory that answers need."""
FAULTS = (
    RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, MemoryError,
    OSError, SightlineError,
)  # fmt: skip
"""What a model may raise for one request, which then fails alone. Anything else ends the engine."""


@dataclass(eq=False, kw_only=True, slots=True)
class Row:
    """A request that is being answered, or soon will be. `number` is that of its lane's row."""

    number: int
    request: Request
    words: AnswerText
    encoded: bool = False
    features: Tensor | None = None
    generator: torch.Generator | None = None
    filling: Filling | None = None
    reused: int = 0
    answer: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """Of the prompt and of the answer so far."""
        return self.request.ids + self.answer


class Arrivals:
    """First come, first served.

    Args:
        fail: told of a request that failed, and why. It has left by then.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        shelf: Shelf,
        figures: Figures,
        *,
        fail: Callable[[Request, BaseException], None],
    ) -> None:
        self._model, self._shelf, self._figures, self._fail = model, shelf, figures, fail
        self._rows: deque[Row] = deque()
        self._number = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def requests(self) -> list[Request]:
        """All that are on their way."""
        return [row.request for row in self._rows]

    def add(self, requests: Iterable[Request]) -> None:
        """Puts requests behind those that are there."""
        for request in requests:
            self._number += 1
            self._rows.append(Row(number=self._number, request=request, words=AnswerText(request.stop)))

    def drop(self, gone: Iterable[Request]) -> None:
        """Lets requests go, with all that was computed for them."""
        gone = set(gone)
        self._rows = deque(row for row in self._rows if row.request not in gone)

    def step(self) -> list[tuple[Row, Lane]]:
        """Does a bounded piece of work, and returns who has arrived with it."""
        if self._rows and not self._rows[0].encoded and self._encode(self._together()):
            return []
        arrived: list[tuple[Row, Lane]] = []
        computed = 0
        while self._rows and self._rows[0].encoded and computed < PIECE:
            row = self._rows[0]
            try:
                row.filling = row.filling or self._begun(row)
                computed += row.filling.next
                lane = row.filling.step()
            except FAULTS as error:
                self._rows.popleft()
                self._fail(row.request, error)
                continue
            if lane is not None:
                row.filling = None
                self._rows.popleft()
                arrived.append((row, lane))
        return arrived

    def _together(self) -> list[Row]:
        """The first request and those behind it whose pictures go through the encoder with its own."""
        together: list[Row] = []
        pictures: set[bytes] = set()
        for row in self._rows:
            pictures.update(row.request.pictures)
            if together and len(pictures) > ENCODED_TOGETHER:
                break
            together.append(row)
        return together

    def _encode(self, rows: Sequence[Row]) -> bool:
        """Gives requests the features of their pictures, each new one encoded once; whether there were new ones."""
        pixels: dict[bytes, Tensor] = {}
        for row in rows:
            pixels.update(zip(row.request.pictures, row.request.pixels, strict=True))
        known = {picture: feature for picture in pixels if (feature := self._shelf.feature(picture)) is not None}
        fresh = [picture for picture in pixels if picture not in known]
        try:
            if fresh:
                seen = self._model.vision(torch.stack([pixels[picture] for picture in fresh]).to(self._device))
                known.update(zip(fresh, seen, strict=True))
                self._figures.pictures += len(fresh)
            for row in rows:
                if row.request.pictures:
                    row.features = torch.stack([known[picture] for picture in row.request.pictures])
                row.encoded = True
        except FAULTS as error:
            if len(rows) > 1:
                for row in rows:
                    self._encode([row])
            else:
                self.drop([rows[0].request])
                self._fail(rows[0].request, error)
        return bool(fresh)

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    def _begun(self, row: Row) -> Filling:
        """A request's prompt, but for what an earlier turn left of it."""
        request = row.request
        prompt = Prompt(ids=request.ids, pixels=request.pixels[:0])
        if request.sampling.seed is not None and request.sampling.temperature > 0:
            row.generator = generator_of(prompt, request.sampling.seed, self._device)
        memory = self._shelf.recall(request.pictures, request.ids)
        memory.features = row.features
        row.reused = len(memory.ids)
        return Filling(self._model, prompt, memory, row=row.number)
