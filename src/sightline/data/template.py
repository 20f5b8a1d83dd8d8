"""Conversations to segments: which words a template puts around them, and which of all that is trained on.

Comes in: a `Sample`, or the turns so far. Goes out: segments in reading order. Training and chat use the same code, so
the ids of a prompt are a prefix of the training ids. Knows no ids and no pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from sightline.data.own_template import OwnTemplate
from sightline.data.sample import ImageRef, Sample, Turn
from sightline.data.segments import (
    ImageSegment,
    Segment,
    TextSegment,
    TokenSegment,
    answer_text,
    exchanges,
    join,
    question_segments,
)
from sightline.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "TEMPLATES",
    "ChatTemplate",
    "ImageSegment",
    "OwnTemplate",
    "PlainTemplate",
    "Segment",
    "TextSegment",
    "TokenSegment",
    "VicunaTemplate",
    "build_template",
]

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
"""The system sentence of `conv_vicuna_v1` in LLaVA's conversation.py, with which v1.5 was trained."""


class ChatTemplate(Protocol):
    """How a conversation is written down.

    `stop` names the tokens that end an answer, `stop_text` the texts that do; an answer ends at the first of either.
    """

    @property
    def name(self) -> str: ...

    @property
    def stop(self) -> tuple[str, ...]: ...

    @property
    def stop_text(self) -> tuple[str, ...]: ...

    def render(self, sample: Sample) -> list[Segment]:
        """The whole conversation, for training. `DataError` when the template has no form for it."""

    def prompt(self, turns: Sequence[Turn], *, system: str | None = None) -> list[Segment]:
        """The conversation up to an open answer; the last turn is the user's. `DataError` as in `render`."""


class PlainTemplate:
    """Pictures, then a caption that ends with a newline: LLaVA's stage 1. The question is not written; no EOS."""

    name = "plain"
    stop: tuple[str, ...] = ()
    stop_text: tuple[str, ...] = ("\n",)

    def render(self, sample: Sample) -> list[Segment]:
        """See `ChatTemplate.render`."""
        (question, answer), *more = exchanges(sample.turns, open_answer=False, where=sample.source)
        if more or answer is None:
            raise _needs_one_exchange(sample.source, len(sample.turns))
        return [*_pictures(question, where=sample.source), TextSegment(text=answer_text(answer) + "\n", trained=True)]

    def prompt(self, turns: Sequence[Turn], *, system: str | None = None) -> list[Segment]:
        """See `ChatTemplate.prompt`; the system text is not written."""
        (question, _), *more = exchanges(turns, open_answer=True, where="prompt")
        if more:
            raise _needs_one_exchange("prompt", len(turns))
        return _pictures(question, where="prompt")


class VicunaTemplate:
    """`SYSTEM USER: question ASSISTANT: answer</s>USER: ...`: LLaVA v1 and v1.5. EOS is trained at every turn.

    The roles are ordinary words here, so words can imitate a turn to the model, but never move the mask.
    """

    name = "vicuna_v1"
    stop_text: tuple[str, ...] = ()

    def __init__(self, *, end: str = "</s>") -> None:
        self._end = end
        self.stop: tuple[str, ...] = (end,)

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase) -> VicunaTemplate:
        """With the tokenizer's EOS in the place of `</s>`; `ConfigError` when it has none."""
        if tokenizer.eos_token is None:
            raise ConfigError(
                f'the tokenizer of "{tokenizer.name_or_path}" has no EOS token to end an answer with: '
                "set eos_token in its tokenizer_config.json"
            )
        return cls(end=tokenizer.eos_token)

    def render(self, sample: Sample) -> list[Segment]:
        """See `ChatTemplate.render`."""
        return self._segments(exchanges(sample.turns, open_answer=False, where=sample.source), system=sample.system)

    def prompt(self, turns: Sequence[Turn], *, system: str | None = None) -> list[Segment]:
        """See `ChatTemplate.prompt`."""
        return self._segments(exchanges(turns, open_answer=True, where="prompt"), system=system)

    def _segments(self, pairs: Sequence[tuple[Turn, Turn | None]], *, system: str | None) -> list[Segment]:
        opening = VICUNA_SYSTEM if system is None else system
        segments: list[Segment] = [TextSegment(text=f"{opening} " if opening else "", trained=False)]
        for question, answer in pairs:
            segments.append(TextSegment(text="USER: ", trained=False))
            segments += question_segments(question)
            segments.append(TextSegment(text=" ASSISTANT:", trained=False))
            if answer is not None:  # the space belongs to the answer's first word piece, so it is trained with it
                segments.append(TextSegment(text=f" {answer_text(answer)}", trained=True))
                segments.append(TokenSegment(token=self._end, trained=True))
        return join(segments)


TEMPLATES: dict[str, Callable[[PreTrainedTokenizerBase], ChatTemplate]] = {
    "own": OwnTemplate.from_tokenizer,
    "plain": lambda tokenizer: PlainTemplate(),
    "vicuna_v1": VicunaTemplate.from_tokenizer,
}
"""Template names of recipes -> how to make one for a tokenizer."""


def build_template(name: str, tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
    """Make the template `name` for `tokenizer`.

    Raises:
        ConfigError: unknown name, or the tokenizer does not serve the template.
    """
    if name not in TEMPLATES:
        choices = ", ".join(TEMPLATES)
        raise ConfigError(f'template: found "{name}", expected one of {choices}{nearest(name, TEMPLATES)}')
    return TEMPLATES[name](tokenizer)


def _pictures(question: Turn, *, where: str) -> list[Segment]:
    pictures: list[Segment] = [
        ImageSegment(index=part.index) for part in question.content if isinstance(part, ImageRef)
    ]
    if not pictures:
        raise DataError(
            f"{where}: no picture in the question, and template plain writes nothing else: use own or vicuna_v1",
            reason="plain_needs_image",
        )
    return pictures


def _needs_one_exchange(where: str, turns: int) -> DataError:
    return DataError(
        f"{where}: {turns} turns, expected one question and one answer with template plain: use own or vicuna_v1",
        reason="plain_needs_one_exchange",
    )
