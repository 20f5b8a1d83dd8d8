"""LLaVA-1.5's prompts, one function to a benchmark.

Comes in: a question of the official files. Goes out: the words that stand behind the picture. Pure. The words are those
of LLaVA-1.5's question files and loaders (haotian-liu/LLaVA c121f043, llava/eval/model_vqa*.py; arXiv 2310.03744,
table 7). A benchmark that LLaVA-1.5 was not run on gets the form of its nearest relative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sightline.evaluate.tasks.mmmu import CHOICE as MULTIPLE_CHOICE
from sightline.evaluate.tasks.task import Question

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
LETTER_CN = "\n请直接回答选项字母。"
UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
OCR = "\nReference OCR token: "
CAPTION = "Provide a one-sentence caption for the provided image."
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NO_OPTION = frozenset(("nan", "none"))
"""Texts, in any case, that LLaVA's reader takes for the end of the options, also where an option says so."""


def plain(question: Question) -> str:
    """The question alone: LLaVA-Bench, MM-Vet."""
    return question.text


def short(question: Question) -> str:
    """VQAv2, OK-VQA, GQA, POPE, OCR-VQA, ChartQA, DocVQA."""
    return question.text + SHORT


def vizwiz(question: Question) -> str:
    return question.text + UNANSWERABLE + SHORT


def textvqa(question: Question, tokens: Sequence[str] | None) -> str:
    """The first letter is a capital. Without a file of tokens there is no line of them; without a token it is empty.

    White space within a token is one blank: a newline would make a prompt that LLaVA's scorer cannot read.
    """
    asked = question.text[:1].upper() + question.text[1:]
    if tokens is None:
        return asked + SHORT
    return asked + OCR + ", ".join(" ".join(token.split()) for token in tokens) + SHORT


def mme(question: Question) -> str:
    """MME's own `Please answer yes or no.` gives way to the common suffix; the key holds the words without it."""
    asked: str = question.more["key"][2]
    return asked + SHORT


def lettered(options: Sequence[str]) -> str:
    """`A. ...`, each on a line of its own, in front of each a newline."""
    return "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def seedbench(question: Question) -> str:
    return question.text + lettered(question.options) + LETTER


def scienceqa(question: Question) -> str:
    """LLaVA's CQM-A: context, question, options."""
    context = f"Context: {question.hint}\n" if question.hint else ""
    return context + question.text + lettered(question.options) + LETTER


def mmbench_options(options: Mapping[str, str]) -> list[str]:
    """The options up to the first that is absent, or whose text is one of `NO_OPTION`: LLaVA's reader stops there."""
    found = []
    for letter in "ABCD":
        option = options.get(letter)
        if option is None or option.lower() in NO_OPTION:
            break
        found.append(option)
    return found


def mmbench_question(question: Question) -> str:
    """Hint, question and options: what stands in LLaVA's answer file. The model is given the suffix as well."""
    hint = f"{question.hint}\n" if question.hint and question.hint.lower() not in NO_OPTION else ""
    return hint + question.text + lettered(mmbench_options(question.more["options"]))


def mmbench(question: Question) -> str:
    return mmbench_question(question) + LETTER


def mmbench_cn(question: Question) -> str:
    return mmbench_question(question) + LETTER_CN


def mmmu(question: Question) -> str:
    """MMMU's own for LLaVA-1.5 (MMMU-Benchmark/MMMU, mmmu/configs/llava1.5.yaml and construct_prompt in
    mmmu/utils/data_utils.py): each option ends with a newline, and the words behind them begin with one."""
    if question.more["type"] != MULTIPLE_CHOICE:
        return question.text + SHORT
    options = "".join(f"({letter}) {option}\n" for letter, option in zip(LETTERS, question.options, strict=False))
    return f"{question.text}\n{options}{LETTER}"


def caption(question: Question) -> str:
    return CAPTION
