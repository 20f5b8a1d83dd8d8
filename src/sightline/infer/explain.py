"""Where a model looked for its answer: a map over every picture of a conversation.

Comes in: the conversation, its pictures, an answer, which of its words. Goes out: a `Heat` per picture. The tokens are
those of training, the measure that of `relevance`. The model is left as it was. Does not draw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from sightline.data.processor import Processor
from sightline.data.sample import ImageRef, Sample, Turn
from sightline.data.values import checked_text
from sightline.errors import ConfigError
from sightline.infer.chat import stop_rule
from sightline.infer.generate import context_of
from sightline.infer.relevance import Asked, Method, integrated_gradients
from sightline.infer.words import AnswerText, StopRule
from sightline.model.vlm import VisionLanguageModel

Grid = npt.NDArray[np.float32]
Edges = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Heat:
    """How much each part of one picture mattered to some words of an answer.

    Attributes:
        grid: float32[h, w], of the patches of the square that the encoder saw, from 0 to 1, which is the most that any
            patch of any picture of the conversation mattered.
        box: where the picture's edges lie in the grid, in patches. Inside it where the picture was padded, outside
            where its sides were cut off.
        words: those that are explained.
    """

    grid: Grid
    box: Edges
    words: tuple[str, ...]

    def over_picture(self, width: int, height: int) -> Grid:
        """The heat at width x height points spread evenly over the whole picture: float32[height, width].

        Bilinear between the patches' centers; 0 where the encoder saw nothing.
        """
        left, top, right, bottom = self.box
        rows = _along(top, bottom, height, cells=self.grid.shape[0])
        columns = _along(left, right, width, cells=self.grid.shape[1])
        return (rows @ self.grid @ columns.T).astype(np.float32)


def to_json(heats: Sequence[Heat]) -> dict[str, Any]:
    """As POST /v1/explain answers: `words`, and over each picture `width` x `height` numbers, row by row.

    There is about one number per patch; all pictures have as many as the one that has most.
    """
    boxes = [heat.box for heat in heats]
    width = max(1, *(round(right - left) for left, _, right, _ in boxes))
    height = max(1, *(round(bottom - top) for _, top, _, bottom in boxes))
    grids = [heat.over_picture(width, height).astype(float).round(4).tolist() for heat in heats]
    return {"width": width, "height": height, "heat": grids, "words": list(heats[0].words)}


def _along(start: float, end: float, count: int, *, cells: int) -> npt.NDArray[np.float64]:
    """float[count, cells]: with what weights the values of a row of cells make up those of points from start to end."""
    points = start + (np.arange(count) + 0.5) / count * (end - start)
    places = np.clip(points - 0.5, 0, cells - 1)
    weights: npt.NDArray[np.float64] = np.clip(1 - np.abs(places[:, None] - np.arange(cells)), 0, None)
    weights[(points < 0) | (points > cells)] = 0
    return weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """Which tokens are explained.

    Attributes:
        ids: the conversation up to the last of them.
        places: theirs among `ids`, rising.
        words: that they spell.
    """

    ids: list[int]
    places: list[int]
    words: tuple[str, ...]


def explain(
    model: VisionLanguageModel,
    processor: Processor,
    turns: Sequence[Turn],
    pictures: Sequence[Image.Image],
    answer: str,
    *,
    system: str | None = None,
    words: slice | None = None,
    method: Method = integrated_gradients,
) -> list[Heat]:
    """One `Heat` per picture, in the order of `pictures`. See `told` and `look`."""
    if not pictures:
        raise ConfigError("the conversation has no picture: there is nothing to look at")
    asked = told(processor, turns, answer, system=system, words=words)
    return look(model, processor, asked, pictures, method=method)


def told(
    processor: Processor, turns: Sequence[Turn], answer: str, *, system: str | None = None, words: slice | None = None
) -> Told:
    """The tokens of some words of an answer.

    Args:
        turns: the conversation up to the question, which is the last.
        answer: the model's, or any other: what would speak for it is asked.
        words: which of its words, as `answer.split()` counts them; all if not given.

    Raises:
        ConfigError: there is no such word.
        DataError: the template has no form for the turns.
    """
    prompt = processor.prompt(turns, system=system)
    replied = _whole(processor, turns, answer, system)[len(prompt) :]
    found = words_of(replied, stop_rule(processor))
    chosen = found if words is None else found[words]
    if not chosen:
        raise ConfigError(f"words: none of the answer's {len(found)} are chosen; name at least one")
    places = sorted({len(prompt) + place for word in chosen for place in word.tokens})
    ids = [*prompt, *replied][: places[-1] + 1]
    return Told(ids=ids, places=places, words=tuple(word.text for word in chosen))


def look(
    model: VisionLanguageModel,
    processor: Processor,
    asked: Told,
    pictures: Sequence[Image.Image],
    *,
    method: Method = integrated_gradients,
) -> list[Heat]:
    """Where what speaks for the tokens is; `pictures` are in RGB, those that the conversation refers to.

    Raises:
        ConfigError: the conversation is longer than the context.
    """
    if len(asked.ids) > context_of(model):
        raise ConfigError(
            f"the conversation takes {len(asked.ids)} positions, the language model has {context_of(model)}"
        )
    with _at_rest(model):
        relevance = method(_asked(model, processor, asked, pictures)).clamp_min(0).float().cpu()
    side = model.vision.image_size // model.vision.patch_size
    maps = relevance.view(len(pictures), -1)[:, -(side * side) :].reshape(-1, side, side)
    maps = maps / maps.max().clamp_min(torch.finfo(torch.float32).tiny)
    return [
        Heat(grid=grid.numpy(), box=_scaled(processor.transform.frame(*picture.size), side), words=asked.words)
        for grid, picture in zip(maps, pictures, strict=True)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """One word of an answer, and the places of its tokens in it."""

    text: str
    tokens: tuple[int, ...]


def words_of(answer: Sequence[int], stop: StopRule) -> list[Word]:
    """The words of an answer's ids, as `split` finds them, without what ended it. A token may belong to two of them."""
    shown = AnswerText(stop)
    text = ""
    ends: list[int] = []  # how much of the text there is with each token
    for token in answer:
        new = shown.push(token)
        if shown.over and not new:
            break
        text += new
        ends.append(len(text))
    text += shown.finish()
    starts, end = [0, *ends], len(text)
    for place in reversed(range(len(ends))):  # what shows nothing by itself begins a character that others end
        ends[place] = end = end if ends[place] == starts[place] else ends[place]
    found = []
    for word in re.finditer(r"\S+", text):
        tokens = [place for place, end in enumerate(ends) if starts[place] < word.end() and end > word.start()]
        found.append(Word(text=word.group(), tokens=tuple(tokens)))
    return found


def _whole(processor: Processor, turns: Sequence[Turn], answer: str, system: str | None) -> list[int]:
    """The ids of the conversation with its answer, as training has them."""
    checked_text(answer, "answer")
    shown = sum(isinstance(part, ImageRef) for turn in turns for part in turn.content)
    conversation = Sample(
        id="explained",
        images=("",) * shown,
        turns=(*turns, Turn(role="assistant", content=(answer,))),
        system=system,
    )
    return [token for piece in processor.pieces(conversation) for token in piece.ids]


def _asked(model: VisionLanguageModel, processor: Processor, asked: Told, pictures: Sequence[Image.Image]) -> Asked:
    """The conversation as the language model takes it."""
    device = next(model.parameters()).device
    row = torch.tensor([asked.ids], device=device)
    explained = torch.tensor(asked.places, device=device)
    return Asked(
        model=model,
        embeddings=model.embed(row, processor.pixels(pictures).to(device)),
        places=(row[0] == model.image_token_id).nonzero()[:, 0],
        pictures=len(pictures),
        before=explained - 1,
        tokens=row[0, explained],
    )


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """In the block the model is in evaluation mode, and no gradient is kept that is not asked for."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _scaled(box: Edges, factor: int) -> Edges:
    left, top, right, bottom = box
    return left * factor, top * factor, right * factor, bottom * factor
