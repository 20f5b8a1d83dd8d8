"""What a tokenizer's chat template says around the words, read off it once.

Comes in: a tokenizer with a chat template. Goes out: `ChatLiterals`, the constant texts before, between and after the
words, the same at every turn. They are found by rendering conversations whose words are sentinels and cutting there:
no template is parsed and no words of a user ever pass through one. Knows no ids, no segments, no masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import jinja2

from sightline.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Each occurs in no template and none is part of another. Four questions and three answers: the conversation ends with a
# question, so every answer is history. Qwen3 puts an empty think block before an answer that is not.
_QUESTIONS = tuple(f"sightlinequestion{name}" for name in ("alpha", "beta", "gamma", "delta"))
_ANSWERS = tuple(f"sightlineanswer{name}" for name in ("alpha", "beta", "gamma"))
_SYSTEM = "sightlinesystem"
_PAD = "\n "

_TODAY = datetime(2024, 7, 26)
"""The day that templates see: the date Llama-3.1's own template falls back to. A prompt of tomorrow must start like the
training text of today, so no template is told the real date."""

# Stands before a template that asks for the date, in place of the function of this name. The newline at its end is
# eaten by `trim_blocks`, which transformers sets.
_CALENDAR = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f".replace('%{code}', '{_TODAY.strftime('%' + code)}')" for code in "aAbBdHIjmMpSyY")
    + " }}{%- endmacro %}\n"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """Which ends of the words the template strips of whitespace."""

    left: bool = False
    right: bool = False

    def __call__(self, text: str) -> str:
        text = text.lstrip() if self.left else text
        return text.rstrip() if self.right else text


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatLiterals:
    """The constant texts of a chat template, special tokens spelt out.

    A conversation reads `opening question header answer joint question header answer joint ...`.

    Args:
        opening: before the first question when there is no system text; holds the template's own default, if any.
        around_system: the texts before and after the system text; None when the template has no place for one
            that is the same at every turn (Gemma refuses it, Mistral puts it before the last question).
        header: from a question to its answer.
        joint: from an answer to the next question: the answer's end marker and what follows it.
        without_system: in place of `opening` for a system text that is empty; None when it is written like any other.
        end: the start of `joint` that is written after the last answer too; `LiteralTemplate` finds it.
    """

    opening: str
    around_system: tuple[str, str] | None
    header: str
    joint: str
    strip_question: Strip = Strip()
    strip_answer: Strip = Strip()
    strip_system: Strip = Strip()
    without_system: str | None = None
    end: str = ""


def read_literals(tokenizer: PreTrainedTokenizerBase) -> ChatLiterals:
    """Read the literals off the tokenizer's chat template.

    Raises:
        ConfigError: there is no chat template, it fails, or it treats turns unlike one another.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            f'the tokenizer of "{tokenizer.name_or_path}" has no chat template for template: own; '
            "choose template: vicuna_v1"
        )
    opening, header, joint = _frame(tokenizer)
    questions, answers = _frame(tokenizer, pad_questions=_PAD), _frame(tokenizer, pad_answers=_PAD)
    literals = ChatLiterals(
        opening=opening,
        around_system=None,
        header=header,
        joint=joint,
        strip_question=Strip(left=questions[0] == opening, right=questions[1] == header),
        strip_answer=Strip(left=answers[1] == header, right=answers[2] == joint),
    )
    return _with_system(literals, tokenizer)


def _with_system(literals: ChatLiterals, tokenizer: PreTrainedTokenizerBase) -> ChatLiterals:
    """Add where the system text goes, if the template has a constant place for it."""
    try:
        opening, header, joint = _frame(tokenizer, system=_SYSTEM)
        padded, _, _ = _frame(tokenizer, system=_PAD + _SYSTEM + _PAD)
    except ConfigError:  # the template refuses the role, or moves the text about: the caller folds it into a question
        return literals
    before, found, after = opening.partition(_SYSTEM)
    if not found or _SYSTEM in after or (header, joint) != (literals.header, literals.joint):
        return literals
    padded_before, _, padded_after = padded.partition(_SYSTEM)
    return replace(
        literals,
        around_system=(before, after),
        strip_system=Strip(left=padded_before == before, right=padded_after == after),
    )


def _frame(
    tokenizer: PreTrainedTokenizerBase, *, system: str = "", pad_questions: str = "", pad_answers: str = ""
) -> tuple[str, str, str]:
    """Render sentinels; return the texts before the first question, question to answer, and answer to question."""
    messages = [{"role": "system", "content": system}] if system else []
    for index, question in enumerate(_QUESTIONS):
        messages.append({"role": "user", "content": pad_questions + question + pad_questions})
        if index < len(_ANSWERS):
            messages.append({"role": "assistant", "content": pad_answers + _ANSWERS[index] + pad_answers})
    words = [word for pair in zip(_QUESTIONS, _ANSWERS, strict=False) for word in pair] + [_QUESTIONS[-1]]
    opening, *rest, _ = _cut(_render(tokenizer, messages), words)
    headers, joints = rest[0::2], rest[1::2]
    for texts in (headers, joints):
        if len(set(texts)) > 1:
            raise ConfigError(
                f"the tokenizer's chat template treats turns unlike one another: {texts[0]!r} at the first, "
                f"{texts[-1]!r} at the last; choose template: vicuna_v1"
            )
    return opening, headers[0], joints[0]


def _cut(text: str, words: Sequence[str]) -> list[str]:
    """The texts before, between and after `words`, each of which must occur once, in order."""
    pieces = []
    for word in words:
        before, found, after = text.partition(word)
        if not found or word in after:
            raise ConfigError(
                "the tokenizer's chat template drops, repeats or reorders the words of a conversation; "
                "choose template: vicuna_v1"
            )
        pieces.append(before)
        text = after
    return [*pieces, text]


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    try:
        template = tokenizer.get_chat_template()
        if "strftime_now" in template:
            template = _CALENDAR + template
        rendered: str = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=False
        )
    except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:  # what a template can raise
        reason = " ".join(str(error).split())
        raise ConfigError(f"the tokenizer's chat template fails: {reason}; choose template: vicuna_v1") from error
    return rendered
