"""What is suspicious in the words of a sample that could be read.

Comes in: texts. Goes out: what was found, or None. Pure. Nothing here is an error of training: text stays text there,
whatever it says. But it is hardly what somebody meant a model to learn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = r"\s*(-?(?:\d+\.?\d*|\.\d+))\s*"
BOX = re.compile(rf"\[{','.join([_NUMBER] * 4)}\]")
"""Four numbers in brackets, each a group."""
_TOKENS = (
    r"<\|[A-Za-z][A-Za-z0-9_]{0,30}\|>",  # ChatML, Llama 3, Phi, GPT-2: <|im_end|>, <|eot_id|>, <|endoftext|>
    r"</?s>", r"<unk>", r"<pad>", r"<bos>", r"<eos>",  # sentencepiece, Gemma
    r"<(?:start|end)_of_turn>",  # Gemma
    r"\[/?INST\]", r"<</?SYS>>",  # Llama 2
    r"<im(?:age|_patch|_start|_end)>", r"<video>",  # LLaVA's constants.py and its successors
)  # fmt: skip
"""Forms of the special tokens of the families that templates are for, and of LLaVA's marks."""


def special_pattern(names: Iterable[str] = ()) -> re.Pattern[str]:
    """What finds special tokens in a text: the usual ones, and those of a tokenizer by their `names`."""
    own = sorted({re.escape(name) for name in names if len(name) > 2 and not name.isalnum()}, key=len, reverse=True)
    return re.compile("|".join([*own, *_TOKENS]))


def special_token(text: str, pattern: re.Pattern[str]) -> str | None:
    """The first special token that is written out in a text."""
    found = pattern.search(text)
    return None if found is None else found.group()


def bad_box(text: str) -> tuple[str, str] | None:
    """The first box `[x1, y1, x2, y2]` in a text that cannot be one, and why: `box_range` or `box_order`.

    A box is four numbers in brackets, one of them with a decimal point: corners from 0 to 1, as LLaVA writes them. Four
    whole numbers may be anything, and are passed over.
    """
    if "[" not in text:
        return None
    for found in BOX.finditer(text):
        if not any("." in number for number in found.groups()):
            continue
        x1, y1, x2, y2 = (float(number) for number in found.groups())
        if not all(0 <= each <= 1 for each in (x1, y1, x2, y2)):
            return found.group(), "box_range"
        if x1 > x2 or y1 > y2:
            return found.group(), "box_order"
    return None
