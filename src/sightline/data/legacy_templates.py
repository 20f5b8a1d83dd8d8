"""The original LLaVA's templates, with its ids and its labels.

Comes in: a tokenizer, then turns. Goes out: segments. Each template says what of it is a quirk that the original's
checkpoints were trained with and that is therefore kept; what we do otherwise stands in docs/differences.md. Texts and
forms are those of llava/conversation.py, masks those of llava/train/train.py (1.2.2).

Two quirks are common to all and are made by `tokens`: with a sentencepiece tokenizer the text on each side of a picture
is a text of its own, so there is a lone space piece before the picture ("USER: ") and after it (the dummy space).
A third is made by `sample.canonical_content`: a turn's only picture stands first and its words are stripped.

The roles are ordinary words here, so words can imitate a turn to the model, but never move the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sightline.data.chat_literals import ChatLiterals
from sightline.data.literal_template import LiteralTemplate
from sightline.data.markup_templates import MPT
from sightline.data.sample import ImageRef, Sample, Turn
from sightline.data.segments import (
    Exchange,
    ExchangeTemplate,
    ImageSegment,
    Segment,
    TextSegment,
    answer_text,
    exchanges,
    join,
    question_segments,
)
from sightline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
"""`conv_vicuna_v1`, with which v1.5 was trained."""

HUMAN_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
"""`conv_vicuna_v0` and `conv_llava_v1`."""

SAFETY_SYSTEM = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information."
)
"""`conv_llama_2`: Meta's own."""

VISION_SYSTEM = (
    "You are a helpful language and vision assistant. "
    "You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)
"""`conv_llava_llama_2`."""


class PlainTemplate:
    """Pictures, then a caption that ends with a newline: LLaVA's stage 1. The question is not written; no EOS."""

    name = "plain"
    literals = None
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


class V0Template:
    r"""`SYSTEM\n\n### Human: question\n### Assistant: answer\n### Human: ...\n### `: LLaVA v0, Vicuna's first form.

    Kept quirks: everything is trained but the system text and, of the questions, what follows their `###`. So the
    header `### Assistant:` is, and the `### ` after the last answer with its lone space; nothing ends with EOS. It is
    the form that was trained; the original's own chat used another (without newlines, with a conversation about
    renewable energy before it).
    """

    name = "v0"
    stop_text: tuple[str, ...] = ("###",)
    literals = ChatLiterals(
        opening=f"{HUMAN_SYSTEM}\n\n### Human: ",
        around_system=("", "\n\n### Human: "),
        without_system="### Human: ",
        header="\n### Assistant: ",
        joint="\n### Human: ",
        end="\n",
    )

    def __init__(self, *, eos: str | None) -> None:
        self.stop: tuple[str, ...] = () if eos is None else (eos,)

    def render(self, sample: Sample) -> list[Segment]:
        """See `ChatTemplate.render`."""
        exchanges(sample.turns, open_answer=False, where=sample.source)
        return [*self._segments(sample.turns, sample.system), TextSegment(text="### ", trained=True)]

    def prompt(self, turns: Sequence[Turn], *, system: str | None = None) -> list[Segment]:
        """See `ChatTemplate.prompt`."""
        exchanges(turns, open_answer=True, where="prompt")
        return [*self._segments(turns, system), TextSegment(text="### Assistant:", trained=True)]

    def _segments(self, turns: Sequence[Turn], system: str | None) -> list[Segment]:
        opening = HUMAN_SYSTEM if system is None else system
        segments: list[Segment] = [TextSegment(text=f"{opening}\n\n" if opening else "", trained=False)]
        for turn in turns:
            if turn.role == "user":
                header, end = TextSegment(text=" Human: ", trained=False), TextSegment(text="\n", trained=False)
                segments.append(TextSegment(text="###", trained=True))
                segments += join([header, *question_segments(turn), end])
            else:  # two texts, so that the prompt, which ends with the first, is a prefix in any vocabulary
                segments.append(TextSegment(text="### Assistant:", trained=True))
                segments.append(TextSegment(text=f" {answer_text(turn)}\n", trained=True))
        return segments


class SpeltMptTemplate(ExchangeTemplate):
    r"""`<|im_start|>system\nSYSTEM<|im_end|><|im_start|>user\nquestion<|im_end|><|im_start|>assistant\nanswer<|im_end|>`.

    LLaVA's `mpt` for tokenizers without these tokens, such as LLaMA's: they are written as words, as the original did.
    (With the tokens it is one of `markup_templates`.) Each answer and its end marker are trained.

    Kept quirk: `><` is one piece, so between two turns the end marker that is trained reads `<|im_end|><`.
    """

    name = "mpt"
    stop_text: tuple[str, ...] = ("<|im_end|>",)
    literals = replace(MPT, end="<|im_end|>")

    def __init__(self, *, eos: str | None) -> None:
        self.stop: tuple[str, ...] = () if eos is None else (eos,)

    def _segments(self, pairs: Sequence[Exchange], *, system: str | None) -> list[Segment]:
        literals = self.literals
        assert literals.around_system is not None
        opening = literals.opening if system is None else system.join(literals.around_system)
        seam = literals.joint.index("><") + len("><")
        segments: list[Segment] = []
        for index, (question, answer) in enumerate(pairs):
            segments.append(TextSegment(text=literals.joint[seam:] if index else opening, trained=False))
            segments += question_segments(question)
            segments.append(TextSegment(text=literals.header, trained=False))
            if answer is not None:
                end = literals.end if index == len(pairs) - 1 else literals.joint[:seam]
                segments.append(TextSegment(text=answer_text(answer) + end, trained=True))
        return join(segments)


def vicuna(name: str, system: str, tokenizer: PreTrainedTokenizerBase) -> LiteralTemplate:
    """`SYSTEM USER: question ASSISTANT: answer</s>USER: ...`: LLaVA v1 and v1.5, with the tokenizer's EOS for `</s>`.

    Kept quirk: nothing stands between `</s>` and `USER`, which are other pieces there than at the start of a text.

    Raises:
        ConfigError: the tokenizer has no EOS.
    """
    literals = ChatLiterals(
        opening=f"{system} USER: ",
        around_system=("", " USER: "),
        without_system="USER: ",
        header=" ASSISTANT: ",
        joint=f"{_eos(tokenizer)}USER: ",
    )
    return LiteralTemplate(name, literals, tokenizer)


def llama_2(name: str, system: str, tokenizer: PreTrainedTokenizerBase) -> LiteralTemplate:
    r"""`[INST] <<SYS>>\nSYSTEM\n<</SYS>>\n\nquestion [/INST] answer </s><s>[INST] ...`: LLaVA on Llama 2.

    Kept quirks: there is a space before `</s>`, and it is trained; `[INST]` is a word like any other. `<s>` and `</s>`
    are the tokenizer's BOS (none where it has none) and EOS.

    Raises:
        ConfigError: the tokenizer has no EOS.
    """
    before, after = "[INST] <<SYS>>\n", "\n<</SYS>>\n\n"
    literals = ChatLiterals(
        opening=f"{before}{system}{after}",
        around_system=(before, after),
        without_system="[INST] ",
        header=" [/INST] ",
        joint=f" {_eos(tokenizer)}{tokenizer.bos_token or ''}[INST] ",
    )
    return LiteralTemplate(name, literals, tokenizer)


def mistral_instruct(tokenizer: PreTrainedTokenizerBase) -> LiteralTemplate:
    """Llama 2's form without a system text and without `<s>` between turns: LLaVA on Mistral. As in `llama_2`."""
    literals = ChatLiterals(
        opening="[INST] ",
        around_system=("[INST] <<SYS>>\n", "\n<</SYS>>\n\n"),
        without_system="[INST] ",
        header=" [/INST] ",
        joint=f" {_eos(tokenizer)}[INST] ",
    )
    return LiteralTemplate("mistral_instruct", literals, tokenizer)


def _eos(tokenizer: PreTrainedTokenizerBase) -> str:
    if tokenizer.eos_token is None:
        raise ConfigError(
            f'the tokenizer of "{tokenizer.name_or_path}" has no EOS token to end an answer with: '
            "set eos_token in its tokenizer_config.json"
        )
    return str(tokenizer.eos_token)


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
