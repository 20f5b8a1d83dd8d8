"""The chat formats of families whose turns are marked by tokens of their own, written down once.

Comes in: a tokenizer that has the family's tokens. Goes out: a `LiteralTemplate`. They are for language models without
a chat template of their own, and for those who want the same form whatever the tokenizer says. The original masked
these formats wrongly (docs/differences.md).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from sightline.data.chat_literals import ChatLiterals, Strip
from sightline.data.literal_template import LiteralTemplate, markup_of
from sightline.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BOTH = Strip(left=True, right=True)

CHATML = ChatLiterals(
    opening="<|im_start|>user\n",
    around_system=("<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n"),
    header="<|im_end|>\n<|im_start|>assistant\n",
    joint="<|im_end|>\n<|im_start|>user\n",
)
"""OpenAI's chatml.md, a newline after each turn; no system turn unless there is a system text."""

QWEN = replace(CHATML, opening="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
"""chat_template of Qwen/Qwen2-7B-Instruct, whose system sentence is there unless another is given."""

LLAMA_3 = ChatLiterals(
    opening="<|start_header_id|>user<|end_header_id|>\n\n",
    around_system=(
        "<|start_header_id|>system<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
    ),
    header="<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    joint="<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
    strip_question=_BOTH,
    strip_answer=_BOTH,
    strip_system=_BOTH,
)
"""chat_template of meta-llama/Meta-Llama-3-8B-Instruct."""

GEMMA = ChatLiterals(
    opening="<start_of_turn>user\n",
    around_system=None,
    header="<end_of_turn>\n<start_of_turn>model\n",
    joint="<end_of_turn>\n<start_of_turn>user\n",
    strip_question=_BOTH,
    strip_answer=_BOTH,
    strip_system=_BOTH,
)
"""chat_template of google/gemma-2b-it, which has no system turn."""

PHI = ChatLiterals(
    opening="<|user|>\n",
    around_system=("<|system|>\n", "<|end|>\n<|user|>\n"),
    header="<|end|>\n<|assistant|>\n",
    joint="<|end|>\n<|user|>\n",
)
"""chat_template of microsoft/Phi-3-mini-4k-instruct."""

WRITES_BOS = frozenset({"llama_3", "gemma"})
"""Whose chat_template begins with bos_token, so that it is there even if the tokenizer does not put it before texts."""

MPT = ChatLiterals(
    opening="<|im_start|>system\nA conversation between a user and an LLM-based AI assistant. "
    "The assistant gives helpful and honest answers.<|im_end|><|im_start|>user\n",
    around_system=("<|im_start|>system\n", "<|im_end|><|im_start|>user\n"),
    header="<|im_end|><|im_start|>assistant\n",
    joint="<|im_end|><|im_start|>user\n",
)
"""`conv_mpt` of LLaVA's conversation.py: ChatML without the newline after a turn."""

MARKUP = {"chatml": CHATML, "qwen": QWEN, "llama_3": LLAMA_3, "gemma": GEMMA, "phi": PHI, "mpt": MPT}
"""Template names -> their literals."""

_TOKEN = re.compile(r"<\|?\w+\|?>")


def markup_template(name: str, tokenizer: PreTrainedTokenizerBase) -> LiteralTemplate:
    """The template `name` of `MARKUP`, verified.

    Raises:
        ConfigError: the tokenizer lacks one of the template's tokens, or it fails the verification.
    """
    literals = MARKUP[name]
    missing = _missing(name, tokenizer)
    if missing:
        raise ConfigError(
            f'template: {name} writes {missing[0]!r}, which the tokenizer of "{tokenizer.name_or_path}" does not have '
            "as a token of its own: choose template: own or vicuna_v1"
        )
    if name in WRITES_BOS:
        literals = _after(tokenizer.bos_token or "", literals)
    template = LiteralTemplate(name, literals, tokenizer)
    template.verify(tokenizer)
    return template


def has_markup(name: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer has all tokens that the template `name` of `MARKUP` writes."""
    return not _missing(name, tokenizer)


def _missing(name: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    literals = MARKUP[name]
    written = _TOKEN.findall(literals.header + literals.joint + "".join(literals.around_system or ()))
    known = markup_of(tokenizer)
    return [token for token in written if token not in known]


def _after(bos: str, literals: ChatLiterals) -> ChatLiterals:
    around = literals.around_system
    return replace(
        literals,
        opening=bos + literals.opening,
        around_system=None if around is None else (bos + around[0], around[1]),
    )
