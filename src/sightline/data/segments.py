"""The pieces a conversation is rendered into, before anything is a number.

Comes in: turns, and what a template says around them. Goes out: `TextSegment`, `TokenSegment` and `ImageSegment`; each
text and token carries whether it is trained on: the mask is born here. Knows no tokenizer and no particular template.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sightline.data.sample import Sample, Turn
from sightline.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSegment:
    """Words. Whatever they spell, they are encoded as plain text, never as a special token."""

    text: str
    trained: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSegment:
    """One token by its name, such as `</s>` or `<|im_end|>`. Only templates write these."""

    token: str
    trained: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSegment:
    """The place of picture `index` of the sample; never trained on."""

    index: int


Segment = TextSegment | TokenSegment | ImageSegment

Exchange = tuple[Turn, Turn | None]
"""A question and its answer, if there is one yet."""


def join(segments: Iterable[Segment]) -> list[Segment]:
    """Melt neighbouring texts of the same mask into one and drop empty texts.

    A header and the words after it become one text, so they are encoded as the language model saw them in its own
    training; where the mask changes, the boundary stays, and no token ever lies on both sides of it.
    """
    joined: list[Segment] = []
    for segment in segments:
        last = joined[-1] if joined else None
        if not isinstance(segment, TextSegment):
            joined.append(segment)
        elif isinstance(last, TextSegment) and last.trained == segment.trained:
            joined[-1] = TextSegment(text=last.text + segment.text, trained=last.trained)
        elif segment.text:
            joined.append(segment)
    return joined


def question_segments(turn: Turn) -> list[Segment]:
    """The words and pictures of a user's turn, in order, not trained on."""
    return [
        TextSegment(text=part, trained=False) if isinstance(part, str) else ImageSegment(index=part.index)
        for part in turn.content
    ]


def answer_text(turn: Turn) -> str:
    """The words of an assistant's turn."""
    words = [part for part in turn.content if isinstance(part, str)]
    assert len(words) == len(turn.content), "the reader lets no picture into an answer"
    return "".join(words)


def exchanges(turns: Sequence[Turn], *, open_answer: bool, where: str) -> list[Exchange]:
    """Pair each question with its answer; with `open_answer` the last question waits for one (None).

    Raises:
        DataError: `turns_do_not_alternate`: the turns are not user, assistant, user, ... up to the expected end.
    """
    for index, turn in enumerate(turns):
        expected = ("user", "assistant")[index % 2]
        if turn.role != expected:
            raise DataError(
                f"{where}: turn {index + 1} is by {turn.role}, expected {expected}: questions and answers "
                "must alternate",
                reason="turns_do_not_alternate",
            )
    if not turns or len(turns) % 2 != int(open_answer):
        end = "a question that waits for its answer" if open_answer else "an answer"
        raise DataError(
            f"{where}: {len(turns)} turns, expected the last to be {end}: add or remove the last turn",
            reason="turns_do_not_alternate",
        )
    answers: list[Turn | None] = [*turns[1::2], None] if open_answer else [*turns[1::2]]
    return list(zip(turns[0::2], answers, strict=True))


class ExchangeTemplate(ABC):
    """A template that writes questions and answers in pairs: one `_segments` for training and for chat."""

    def render(self, sample: Sample) -> list[Segment]:
        """See `ChatTemplate.render`."""
        return self._segments(exchanges(sample.turns, open_answer=False, where=sample.source), system=sample.system)

    def prompt(self, turns: Sequence[Turn], *, system: str | None = None) -> list[Segment]:
        """See `ChatTemplate.prompt`."""
        return self._segments(exchanges(turns, open_answer=True, where="prompt"), system=system)

    @abstractmethod
    def _segments(self, pairs: Sequence[Exchange], *, system: str | None) -> list[Segment]:
        """The conversation; a last answer of None is the one that chat waits for."""
