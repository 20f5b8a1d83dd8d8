"""Pictures of a request: from the address to RGB.

Comes in: an address, and whether addresses on other machines may be asked. Goes out: a picture, or a `Refusal`. No
file is ever opened. The gateway for pixels does the decoding; what it lets through and a stranger may not send is
refused here, from the header.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable

from PIL import Image

from sightline.data.image import MAX_PIXELS, MAX_SIDE, check_image, open_image
from sightline.errors import DataError
from sightline.serve.limits import PICTURE_BYTES
from sightline.serve.refusals import Refusal

Fetch = Callable[[str], bytes]
"""Gets the bytes behind an https address."""

_DATA = re.compile(r"data:image/(png|jpeg|webp);base64,")
_BLANK = re.compile(r"[ \t\r\n]+")
_SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
"""How files begin: PNG specification 5.2, JPEG (ISO 10918-1) B.1.1.3, WebP container."""


def picture_at(address: str, *, fetch: Fetch | None) -> Image.Image:
    """The picture behind an address, in RGB and upright; as `encoded_at` and `opened`."""
    return opened(encoded_at(address, fetch=fetch))


def encoded_at(address: str, *, fetch: Fetch | None) -> bytes:
    """The file behind an address: PNG, JPEG or WebP by its first bytes.

    Args:
        fetch: None where only data addresses are allowed.

    Raises:
        Refusal: with the reason.
    """
    if address.startswith("data:"):
        return _decoded(address)
    if fetch is None or not address.startswith("https://"):
        raise Refusal("image_url_not_allowed")
    encoded = fetch(address)
    suffix_of(encoded)
    return encoded


def suffix_of(encoded: bytes) -> str:
    """`png`, `jpeg` or `webp`; `Refusal` where it begins like none of them."""
    for suffix, signature in _SIGNATURES.items():
        if encoded.startswith(signature):
            return suffix
    raise Refusal("image_unsupported_format")


def opened(encoded: bytes) -> Image.Image:
    """In RGB and upright, after all checks that the header allows. `Refusal` with the reason."""
    try:
        width, height = check_image(encoded)
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:  # the gateway lets larger JPEGs through
            raise Refusal("image_too_large")
        return open_image(encoded)
    except DataError as error:
        raise Refusal(error.reason) from None


def _decoded(address: str) -> bytes:
    """The bytes in a data address (RFC 2397), of a format that a stranger may send."""
    head = _DATA.match(address)
    if head is None:
        named = re.match(r"data:[a-z]+/[a-z0-9.+-]+;base64,", address)
        raise Refusal("image_unsupported_format" if named else "image_url_invalid")
    if (len(address) - head.end()) * 3 // 4 > PICTURE_BYTES + 2:
        raise Refusal("image_too_large")
    payload = _BLANK.sub("", address[head.end() :])
    try:
        encoded = binascii.a2b_base64(payload.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise Refusal("image_url_invalid") from None
    if not encoded:
        raise Refusal("image_empty")
    if len(encoded) > PICTURE_BYTES:
        raise Refusal("image_too_large")
    if suffix_of(encoded) != head.group(1):
        raise Refusal("image_unsupported_format")
    return encoded
