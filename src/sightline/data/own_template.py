"""The chat format that a language model was trained with, from its tokenizer's chat template.

Comes in: a tokenizer with a chat template. Goes out: a `LiteralTemplate` that writes as it does. Knows no ids, and no
words are ever passed through the chat template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.data.chat_literals import read_literals
from sightline.data.literal_template import LiteralTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def own_template(tokenizer: PreTrainedTokenizerBase) -> LiteralTemplate:
    """The tokenizer's own chat format, verified; `ConfigError` when it has none or it cannot be trained with."""
    template = LiteralTemplate("own", read_literals(tokenizer), tokenizer)
    template.verify(tokenizer)
    return template
