"""Values of a sample that are checked for themselves: texts and the keys of objects.

Comes in: what JSON gave. Goes out: the same value, or a `SampleError` that names the key. Knows nothing of samples.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from sightline.data.reading import SampleError
from sightline.errors import nearest

MAX_TEXT_CHARS = 1_000_000
"""Longest text of a turn: some 250,000 tokens, beyond any context, and refused before a tokenizer sees it."""

# Control characters (C0 but for tab and line ends, DEL, C1) and halves of surrogate pairs, which UTF-8 cannot hold. One
# class alone is searched for twice as fast as with an alternative beside it.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LONE_RETURN = re.compile("\r(?!\n)")


def checked_text(value: object, key: str) -> str:
    """A text, byte for byte, if it can be one."""
    if not isinstance(value, str):
        raise SampleError(key, "text_invalid", found=show(value), expected="a text", fix="write it as a JSON string")
    if len(value) > MAX_TEXT_CHARS:
        raise SampleError(
            key, "text_too_long", found=f"{len(value)} characters", expected=f"at most {MAX_TEXT_CHARS}", fix="split it"
        )
    forbidden = _FORBIDDEN.search(value) or ("\r" in value and _LONE_RETURN.search(value)) or None
    if forbidden is not None:
        surrogate = "\ud800" <= forbidden.group() <= "\udfff"
        raise SampleError(
            key, "text_surrogate" if surrogate else "text_control",
            found=f"U+{ord(forbidden.group()):04X} at character {forbidden.start()}",
            expected="text without control characters and lone surrogates", fix="remove it",
        )  # fmt: skip
    return value


def check_keys(found: dict[str, object], allowed: Collection[str], key: str, reason: str) -> None:
    """Refuses an object with a key that is not allowed; `key` is where the object stands."""
    unknown = [name for name in found if name not in allowed]
    if unknown:
        hint = nearest(unknown[0], allowed)
        name = ascii(unknown[0])[1:-1][:60]  # it may hold line ends, or be endless
        raise SampleError(
            f"{key}.{name}" if key else name, reason, found="an unknown key",
            expected=f"only {', '.join(sorted(allowed))}", fix=f"remove or rename it{hint}",
        )  # fmt: skip


def show(value: object) -> str:
    """A value in a message: short, on one line."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
