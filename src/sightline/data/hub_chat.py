"""Our templates as the Jinja that other software renders.

Comes in: `ChatLiterals` and a tokenizer. Goes out: the text of a chat template whose rendering, tokenized by that
tokenizer, gives the ids of our prompts: for messages whose content is a string with `<image>` in it, or a list of
parts. Knows no files, and no template by its name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sightline.data.chat_literals import ChatLiterals, Strip
from sightline.data.literal_template import markup_of, split_literal
from sightline.data.segments import ImageSegment, Segment, TextSegment
from sightline.data.tokens import SegmentEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IMAGE = "<image>"

# The names that are set before this are those of `_constants`. A question's only picture comes first and its words are
# stripped, as `sample.canonical_content` has it; of several each has a line of its own.
_CONVERSATION = r"""
{%- macro words(content, mark='') -%}
{%- if content is string -%}{{ content }}
{%- else -%}
{%- for part in content -%}{{ mark if part['type'] == 'image' else part['text'] }}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- macro question(content) -%}
{%- set said = words(content, '<image>') -%}
{%- if said.split('<image>') | length == 2 -%}
{%- set rest = said.replace('<image>', '').strip() -%}
{{ picture + '\n' + rest if rest else picture_alone }}
{%- else -%}
{%- set said = words(content, '<image>\n') -%}
{{ (said.strip() if strip_question else said).replace('<image>', picture) }}
{%- endif -%}
{%- endmacro -%}
{%- set chat = namespace(start=opening, asked=false) -%}
{%- for message in messages if message['role'] == 'system' -%}
{%- set system = words(message['content']) -%}
{%- set system = system.strip() if strip_system else system -%}
{%- set chat.start = before_system + system + after_system if system else without_system -%}
{%- endfor -%}
{{ bos + chat.start }}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{ (between if chat.asked else '') + question(message['content']) + header }}
{%- set chat.asked = true -%}
{%- elif message['role'] == 'assistant' and chat.asked -%}
{%- set said = words(message['content']) -%}
{{ space + (said.strip() if strip_answer else said) + end }}
{%- endif -%}
{%- endfor -%}
"""


def chat_jinja(literals: ChatLiterals, tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template for `tokenizer`, which knows `<image>`.

    Whoever renders it and tokenizes the text without adding BOS gets the ids of our prompt. Where the tokenizer gives
    words after a special token no dummy space and we do (after BOS and after a picture, as the original), the template
    writes the space.
    """
    constants = _constants(literals, tokenizer)
    lines = [f"{{%- set {name} = {json.dumps(value, ensure_ascii=False)} -%}}" for name, value in constants.items()]
    return "\n".join(lines) + _CONVERSATION.rstrip("\n")


def _constants(literals: ChatLiterals, tokenizer: PreTrainedTokenizerBase) -> dict[str, str | bool]:
    encoder = SegmentEncoder(tokenizer, image_token_id=int(tokenizer.convert_tokens_to_ids(IMAGE)))
    before, after = literals.around_system or (literals.opening, "\n\n")
    empty = literals.opening if literals.around_system is None else before + after
    header = literals.header.rstrip(" ")
    both = Strip(left=True, right=True)
    picture = IMAGE + _gap(IMAGE, [ImageSegment(index=0)], tokenizer, encoder)
    return {
        "bos": _bos(literals, tokenizer, encoder),
        "opening": literals.opening,
        "before_system": before,
        "after_system": after,
        "without_system": empty if literals.without_system is None else literals.without_system,
        "header": header,
        "space": literals.header[len(header) :],
        "end": literals.end,
        "between": literals.joint.removeprefix(literals.end),
        "picture": picture,
        "picture_alone": picture if _starts_with_words(header, tokenizer) else IMAGE,
        "strip_question": literals.strip_question == both,
        "strip_answer": literals.strip_answer == both,
        "strip_system": literals.strip_system == both,
    }


def _bos(literals: ChatLiterals, tokenizer: PreTrainedTokenizerBase, encoder: SegmentEncoder) -> str:
    """BOS, where the tokenizer puts it before a text by itself and the literals do not have it."""
    bos = str(tokenizer.bos_token)
    if not encoder.adds_bos or literals.opening.startswith(bos):
        return ""
    return bos + _gap(bos, [], tokenizer, encoder) if _starts_with_words(literals.opening, tokenizer) else bos


def _starts_with_words(literal: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    return isinstance(split_literal(literal, markup_of(tokenizer))[0], TextSegment)


def _gap(token: str, before: list[Segment], tokenizer: PreTrainedTokenizerBase, encoder: SegmentEncoder) -> str:
    """What must be written after `token` for the tokenizer to give the ids that words have there with us.

    `before` is what stands for the token in segments: nothing for the BOS, which comes by itself.
    """
    probes = ("A b", "\nA b", " A b") if before else ("A b",)  # no opening starts with a space
    for gap in ("", " "):
        if all(
            tokenizer(token + gap + words, add_special_tokens=bool(before))["input_ids"]
            == encoder.encode([*before, TextSegment(text=words, trained=False)], image_tokens=1).ids
            for words in probes
        ):
            return gap
    return ""
