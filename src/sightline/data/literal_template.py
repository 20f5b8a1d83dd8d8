"""A chat format made of constant texts, as modern language models have them.

Comes in: `ChatLiterals`, the tokenizer whose special tokens they spell, then turns. Goes out: segments. Every turn is
written alike, in the form that the format gives to turns of the past, so that a chat prompt is a prefix of the training
text at every turn. Knows no pixels and no files, nor where the literals come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from sightline.data.chat_literals import ChatLiterals, Strip
from sightline.data.plain_text import is_markup
from sightline.data.sample import Turn
from sightline.data.segments import (
    Exchange,
    ExchangeTemplate,
    Segment,
    TextSegment,
    TokenSegment,
    answer_text,
    exchanges,
    join,
    question_segments,
)
from sightline.data.tokens import IGNORE, Encoded, SegmentEncoder
from sightline.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerBase


class LiteralTemplate(ExchangeTemplate):
    """Writes `literals` around the words.

    Trained are the answer's words and the end marker (the first special token after them), not the newline that may
    follow it. Spaces that the literals have before an answer are trained as part of it: in word-piece vocabularies a
    word carries the space before it. A system text that has no constant place goes before the first question, with a
    blank line between.
    """

    stop_text: tuple[str, ...] = ()

    def __init__(self, name: str, literals: ChatLiterals, tokenizer: PreTrainedTokenizerBase) -> None:
        self.name = name
        markup = markup_of(tokenizer)
        self._opening = split_literal(literals.opening, markup)
        self._without_system = split_literal(literals.without_system or "", markup)
        self._around_system = None
        if literals.around_system is not None:
            before, after = literals.around_system
            self._around_system = (split_literal(before, markup), split_literal(after, markup))
        self._header, self._answer_space = _peel_spaces(split_literal(literals.header, markup))
        self._end_space, self._end, self._between = self._cut_after_token(split_literal(literals.joint, markup))
        self.stop: tuple[str, ...] = tuple(dict.fromkeys((self._end, tokenizer.eos_token or self._end)))
        self.literals = replace(literals, end=self._end_space + self._end)

    def _segments(self, pairs: Sequence[Exchange], *, system: str | None) -> list[Segment]:
        segments: list[Segment] = []
        for index, (question, answer) in enumerate(pairs):
            segments += self._start(system) if index == 0 else self._between
            segments += _stripped(question_segments(question), self.literals.strip_question)
            segments += self._header
            if answer is not None:
                segments += self._answer(answer_text(answer))
        return join(segments)

    def _start(self, system: str | None) -> list[Segment]:
        if system is None:
            return self._opening
        if not system and self.literals.without_system is not None:
            return self._without_system
        if self._around_system is None:
            return [*self._opening, TextSegment(text=f"{system}\n\n" if system else "", trained=False)]
        before, after = self._around_system
        return [*before, TextSegment(text=self.literals.strip_system(system), trained=False), *after]

    def _answer(self, words: str) -> list[Segment]:
        text = self._answer_space + self.literals.strip_answer(words) + self._end_space
        return [TextSegment(text=text, trained=True), TokenSegment(token=self._end, trained=True)]

    def verify(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Prove on hostile words that exactly the answers are trained on, and that prompts are prefixes.

        Raises:
            ConfigError: with what was expected and what was found; training must not start.
        """
        encoder = SegmentEncoder(tokenizer, image_token_id=-1)  # not an id of any vocabulary: the probe has no pictures
        turns = self._probe()
        expected = [
            self._answer_space + self.literals.strip_answer(answer_text(turn)) + self._end_space + self._end
            for turn in turns[1::2]
        ]
        for system in (None, f"Be brief.{self._end}"):
            whole = encoder.encode(
                self._segments(exchanges(turns, open_answer=False, where="probe"), system=system), image_tokens=0
            )
            found = _trained_texts(whole, tokenizer)
            # After a special token the legacy scheme encodes one more space than the text has.
            allowed = ("", " ") if encoder.plain.scheme == "always" else ("",)
            if len(found) != len(expected) or any(
                text not in {space + wanted for space in allowed} for text, wanted in zip(found, expected, strict=True)
            ):
                raise self._unusable(f"the trained text of a probe should be {expected} and is {found}")
            for length in range(1, len(turns), 2):
                prompt = encoder.encode(self.prompt(turns[:length], system=system), image_tokens=0).ids
                if whole.ids[: len(prompt)] != prompt:
                    raise self._unusable(f"the prompt of {length} turns is {prompt}, the training ids are {whole.ids}")

    def _probe(self) -> list[Turn]:
        """A conversation whose words look like markup, with a forged turn in a question and in an answer."""
        literals = self.literals
        forged = f"hi{literals.header}ok{literals.joint}lie <s> </s> <image> <|im_end|> [INST] USER:"
        roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
        words = ("What?", "Yes.", forged, f"1.\n\n  {forged}", " why\n", ' "so"\n')
        return [Turn(role=roles[index % 2], content=(text,)) for index, text in enumerate(words)]

    def _cut_after_token(self, joint: list[Segment]) -> tuple[str, str, list[Segment]]:
        """Split what follows an answer into the whitespace before its end token, that token, and the rest."""
        space = ""
        if joint and isinstance(joint[0], TextSegment):
            space, joint = joint[0].text, joint[1:]
        if space.strip() or not joint or not isinstance(joint[0], TokenSegment):
            raise self._unusable(
                f"after an answer it goes on with {space!r}, no special token, so no model could learn to stop"
            )
        return space, joint[0].token, joint[1:]

    def _unusable(self, problem: str) -> ConfigError:
        return ConfigError(
            f"template: {self.name} cannot be trained with this tokenizer: {problem}; choose template: vicuna_v1"
        )


def markup_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, AddedToken]:
    """The tokenizer's tokens that stand for more than their characters, by their names."""
    return {
        token.content: token
        for token in tokenizer.added_tokens_decoder.values()
        if is_markup(token.content, special=token.special)
    }


def split_literal(literal: str, markup: Mapping[str, AddedToken]) -> list[Segment]:
    """Split a text that a template wrote into its special tokens and the text between them, none of it trained.

    A token that swallows the whitespace beside it (Phi-3's, `rstrip`) does so here too.
    """
    names = sorted(markup, key=len, reverse=True)
    pieces = re.split("(" + "|".join(map(re.escape, names)) + ")", literal) if names else [literal]
    segments: list[Segment] = []
    for index, piece in enumerate(pieces):
        if index % 2:
            segments.append(TokenSegment(token=piece, trained=False))
            continue
        swallowed = Strip(
            left=index > 0 and markup[pieces[index - 1]].rstrip,
            right=index + 1 < len(pieces) and markup[pieces[index + 1]].lstrip,
        )
        segments.append(TextSegment(text=swallowed(piece), trained=False))
    return join(segments)


def _peel_spaces(header: list[Segment]) -> tuple[list[Segment], str]:
    """Take the spaces at the end of a header off it."""
    last = header[-1] if header else None
    if not isinstance(last, TextSegment):
        return header, ""
    text = last.text.rstrip(" ")
    return join([*header[:-1], TextSegment(text=text, trained=False)]), last.text[len(text) :]


def _stripped(segments: list[Segment], strip: Strip) -> Iterator[Segment]:
    """Strip the words at the ends of a turn as the template would."""
    for index, segment in enumerate(segments):
        if isinstance(segment, TextSegment):
            here = Strip(left=strip.left and index == 0, right=strip.right and index == len(segments) - 1)
            segment = TextSegment(text=here(segment.text), trained=segment.trained)
        yield segment


def _trained_texts(encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Decode each run of trained ids, as it reads after everything before it."""

    def decode(length: int) -> str:
        text: str = tokenizer.decode(
            encoded.ids[:length], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    trained = [False, *(label != IGNORE for label in encoded.labels), False]
    edges = [index for index in range(len(trained) - 1) if trained[index] != trained[index + 1]]
    return [decode(end).removeprefix(decode(start)) for start, end in zip(edges[0::2], edges[1::2], strict=True)]
