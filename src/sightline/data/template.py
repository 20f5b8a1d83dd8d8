"""Conversations to segments: which words a template puts around them, and which of all that is trained on.

Comes in: a `Sample`, or the turns so far. Goes out: segments in reading order. Training and chat use the same code, so
the ids of a prompt are a prefix of the training ids. Knows no ids and no pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sightline.data import legacy_templates as legacy
from sightline.data.chat_literals import ChatLiterals
from sightline.data.markup_templates import MARKUP, has_markup, markup_template
from sightline.data.own_template import own_template
from sightline.data.sample import Sample, Turn
from sightline.data.segments import Segment
from sightline.errors import ConfigError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ChatTemplate(Protocol):
    """How a conversation is written down.

    `stop` names the tokens that end an answer, `stop_text` the texts that do; an answer ends at the first of either.
    """

    @property
    def name(self) -> str: ...

    @property
    def literals(self) -> ChatLiterals | None:
        """What is written around the words, for software that has its own way of writing; None: a caption only."""

    @property
    def stop(self) -> tuple[str, ...]: ...

    @property
    def stop_text(self) -> tuple[str, ...]: ...

    def render(self, sample: Sample) -> list[Segment]:
        """The whole conversation, for training. `DataError` when the template has no form for it."""

    def prompt(self, turns: Sequence[Turn], *, system: str | None = None) -> list[Segment]:
        """The conversation up to an open answer; the last turn is the user's. `DataError` as in `render`."""


def _mpt(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
    if has_markup("mpt", tokenizer):
        return markup_template("mpt", tokenizer)
    return legacy.SpeltMptTemplate(eos=tokenizer.eos_token)


TEMPLATES: dict[str, Callable[[PreTrainedTokenizerBase], ChatTemplate]] = {
    "own": own_template,
    "plain": lambda tokenizer: legacy.PlainTemplate(),
    "vicuna_v1": partial(legacy.vicuna, "vicuna_v1", legacy.VICUNA_SYSTEM),
    "llava_v1": partial(legacy.vicuna, "llava_v1", legacy.HUMAN_SYSTEM),
    "v0": lambda tokenizer: legacy.V0Template(eos=tokenizer.eos_token),
    "llama_2": partial(legacy.llama_2, "llama_2", legacy.SAFETY_SYSTEM),
    "llava_llama_2": partial(legacy.llama_2, "llava_llama_2", legacy.VISION_SYSTEM),
    "mistral_instruct": legacy.mistral_instruct,
    **{name: partial(markup_template, name) for name in MARKUP},
    "mpt": _mpt,
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
