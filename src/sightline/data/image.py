"""The one gateway for pixels: nothing else in the project opens a picture.

Comes in: a file below a named root, what lies in such a file (see `held`), a file that the user named, or bytes. Goes
out: an RGB picture as a viewer shows it, or `DataError` with a stable reason (the keys of `REFUSALS`). Limits are
checked on the header, before anything is decoded. Messages are ours and constant per reason: Pillow's own words and
warnings never leave here.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from sightline.data.held import MARK, open_held
from sightline.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""Decoders that may run. Pillow registers 43; each is code that untrusted bytes reach."""

MAX_BYTES = 64 * 2**20
"""Largest encoded file: a 16-bit photograph of `MAX_PIXELS` as PNG fits."""
MAX_PIXELS = 2**24
"""Most pixels that are decoded: 4096 x 4096, which take 64 MiB in Pillow."""
MIN_SIDE, MAX_SIDE, MAX_ASPECT = 2, 8192, 100
"""Sides of the decoded picture, and how many times the longer may hold the shorter."""
MAX_JPEG_PIXELS = 178_956_970
"""Largest JPEG by its header, where Pillow stops too. JPEG decodes straight to 1/2, 1/4 or 1/8 of its size, so that a
photograph of 24 or 100 megapixels is usable, and costs no more than one of `MAX_PIXELS`."""
MAX_PROGRESSIVE_PIXELS = 50_000_000
"""The same for progressive JPEG, whose decoder holds 6 bytes for each pixel of the header: 300 MB here."""
MAX_JPEG_SCANS = 100
"""Scans of a progressive JPEG. Encoders write about 10; each one in a hostile file costs a pass over all pixels."""

REFUSALS = {
    "image_missing": "there is no such file; check the path and the image root",
    "image_permission": "the file may not be read; change its permissions",
    "image_not_a_file": "not a regular file; name a picture",
    "image_path_outside_root": "the path leads out of the image root; write it relative to the root",
    "image_empty": "the file is empty; replace it or drop the sample",
    "image_unsupported_format": f"not one of {', '.join(FORMATS)}; convert it",
    "image_unreadable": "no picture, or one that is damaged or cut short; replace it or drop the sample",
    "image_animated": "it has several frames; save one of them",
    "image_too_small": f"a side is shorter than {MIN_SIDE} pixels; replace it or drop the sample",
    "image_aspect": f"one side is more than {MAX_ASPECT} times the other; crop it",
    "image_too_large": f"more than {MAX_PIXELS} pixels, {MAX_SIDE} a side or {MAX_BYTES} bytes; save it smaller",
    "image_unsupported_mode": "its pixels are neither 8 nor 16 bits deep; convert it",
}
"""Reason -> what the message says after the name."""

# How files of the commonest formats that are not read begin, to tell "convert it" from "damaged".
_OTHER_FORMATS = (
    b"II*\0", b"MM\0*", b"8BPS", b"%PDF", b"%!PS", b"SIMPLE  =", b"<svg", b"<?xml", b"\0\0\1\0", b"\xff\n",
)  # fmt: skip
_OTHER_FORMATS_AT_4 = (b"ftyp", b"jP  ", b"JXL ")  # HEIC and AVIF, JPEG 2000, JPEG XL

_SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}) | _SIXTEEN_BITS
_BACKGROUND = (255, 255, 255)  # what shines through transparent pixels: white, as in a viewer

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF tag 0x0112 -> what makes the picture upright (EXIF 2.3, section 4.6.4)."""

# What Pillow raises on damaged files. Its parsers index, unpack and convert before they check.
_BROKEN = (
    OSError, ValueError, TypeError, SyntaxError, EOFError, LookupError, ArithmeticError, AttributeError, AssertionError,
    RuntimeError, struct.error, zlib.error,
)  # fmt: skip
_TOO_MUCH = (Image.DecompressionBombError, MemoryError)

_FILTERS = threading.Lock()

KEPT_BLOCKS = 4
"""Blocks of memory, of 16 MiB at most, that Pillow keeps for its next pictures (its documentation: Block allocator); it
keeps none unless asked to. Without them the system clears new pages for every picture: a third of the time of a
photograph of 640 x 480. A picture has four stations on its way to an encoder."""

if "PILLOW_BLOCKS_MAX" not in os.environ:
    Image.core.set_blocks_max(KEPT_BLOCKS)  # type: ignore[attr-defined]  # documented, but untyped


def open_image(source: str | Path | bytes, *, root: Path | None = None) -> Image.Image:
    """A picture in RGB, upright, transparency composited on white. A JPEG above `MAX_PIXELS` comes smaller.

    Args:
        source: a path, relative to `root` if one is given, or the encoded bytes.
        root: the folder that the path must lie in, links followed; None when the user named the file.

    Raises:
        DataError: with one of the reasons of `REFUSALS`.
    """
    name = _name(source)
    with _opened(source, root) as picture:
        try:
            scale = jpeg_scale(*picture.size)
            if scale is not None and scale > 1:
                picture.draft(picture.mode, (picture.width // scale, picture.height // scale))
            picture.load()  # raises on a file that ends early: no half-grey pictures
            turn = _upright(picture)
            image = to_rgb(picture) if turn is None else to_rgb(picture).transpose(turn)
        except _TOO_MUCH:
            raise _refused(name, "image_too_large") from None
        except _BROKEN:
            raise _refused(name, "image_unreadable") from None
    image.info = {}  # nobody shall turn it again
    return image


def read_image_file(source: str | Path, *, root: Path | None = None) -> bytes:
    """A picture's file as it is, one byte more than `MAX_BYTES` at most. `DataError` when there is none to read."""
    try:
        with _open_file(source, root) as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        raise _refused(_name(source), "image_unreadable") from None


def image_file_size(source: str | Path, *, root: Path | None = None) -> int:
    """Bytes of a picture's file. `DataError` when there is none to read."""
    with _open_file(source, root) as file:
        return file.seek(0, os.SEEK_END)


def check_image(source: str | Path | bytes, *, root: Path | None = None) -> tuple[int, int]:
    """Width and height from the header, with all checks that need no decoding. `DataError` as in `open_image`."""
    with _opened(source, root) as picture:
        return picture.size


def read_header(source: str | Path | bytes, *, root: Path | None = None) -> tuple[int, int, str]:
    """Width and height as a viewer shows it, and the file's mode (`RGB`, `L`, `P`, ...). Otherwise as `check_image`."""
    with _opened(source, root) as picture:
        lies = _upright(picture) in [_UPRIGHT[tag] for tag in (5, 6, 7, 8)]
        return *(reversed(picture.size) if lies else picture.size), picture.mode


@contextmanager
def _opened(source: str | Path | bytes, root: Path | None) -> Iterator[Image.Image]:
    """The picture with only its header read, and every limit checked."""
    name = _name(source)
    with io.BytesIO(source) if isinstance(source, bytes) else _open_file(source, root) as file:
        size = file.seek(0, os.SEEK_END)
        if not 0 < size <= MAX_BYTES:
            raise _refused(name, "image_too_large" if size else "image_empty")
        try:
            with _no_warnings():
                picture = Image.open(file, formats=FORMATS)
            reason = _wrong_header(picture, file)
        except UnidentifiedImageError:
            reason = "image_unsupported_format" if _is_other_format(file) else "image_unreadable"
        except _TOO_MUCH:
            reason = "image_too_large"
        except _BROKEN:
            reason = "image_unreadable"
        if reason is not None:
            raise _refused(name, reason)
        with picture:
            yield picture


def _wrong_header(picture: Image.Image, file: BinaryIO) -> str | None:
    """The reason why a picture is refused without decoding it, or None."""
    # A camera's MPO is a JPEG with a second picture behind the first, such as a preview or a depth map: no animation.
    is_jpeg = picture.format in ("JPEG", "MPO")
    short, long = sorted(picture.size)
    if long > MAX_ASPECT * short:
        return "image_aspect"
    if short < MIN_SIDE:
        return "image_too_small"
    scale = jpeg_scale(*picture.size)
    if scale is None or (scale > 1 and not is_jpeg):
        return "image_too_large"
    if "progressive" in picture.info:
        if picture.width * picture.height > MAX_PROGRESSIVE_PIXELS:
            return "image_too_large"
        file.seek(0)
        if file.read().count(b"\xff\xda") > MAX_JPEG_SCANS:
            return "image_unreadable"
    if not is_jpeg and getattr(picture, "is_animated", False):
        return "image_animated"
    return None if picture.mode in _MODES else "image_unsupported_mode"


def jpeg_scale(width: int, height: int) -> int | None:
    """The least of 1, 2, 4 and 8 that a JPEG has to be divided by to be within the limits; None if none will do."""
    if width * height > MAX_JPEG_PIXELS:
        return None
    for scale in (1, 2, 4, 8):
        sides = -(-width // scale), -(-height // scale)
        if sides[0] * sides[1] <= MAX_PIXELS and max(sides) <= MAX_SIDE:
            return scale
    return None


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any of the accepted modes as RGB: 16 bits scaled to 8, CMYK converted, transparency composited on white."""
    if picture.mode in _SIXTEEN_BITS:
        return _eight_bits(picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    canvas = Image.new("RGB", layer.size, _BACKGROUND)
    canvas.paste(layer, mask=layer.getchannel("A"))
    return canvas


def _eight_bits(picture: Image.Image) -> Image.Image:
    """The high byte of 16-bit grey, as Pillow does with 16-bit colours; the grey that PNG makes transparent: white."""
    levels = np.asarray(picture)
    grey = (levels >> 8).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey[levels == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _upright(picture: Image.Image) -> Image.Transpose | None:
    """The turn that EXIF asks for. A broken EXIF block says nothing about the pixels, so they stay as they are."""
    try:
        with _no_warnings():
            return _UPRIGHT.get(picture.getexif().get(0x0112, 1))
    except _BROKEN:
        return None


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Python's warning filters belong to the process, and two threads that swap them at once leave them swapped."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open_file(source: str | Path, root: Path | None) -> BinaryIO:
    """A regular file, or what lies in one, opened."""
    outer, mark, inner = os.fspath(source).partition(MARK)
    if not mark or root is None or not os.path.isfile(path := _inside(outer, root)):  # noqa: PTH113  as in _inside
        return _open_regular(source, root)
    found = open_held(_open_regular(outer, root), path, inner)
    if found is None:
        raise _refused(_name(source), "image_missing")
    return found


def _open_regular(source: str | Path, root: Path | None) -> BinaryIO:
    """A regular file, opened; never waits on a pipe or a device."""
    name = _name(source)
    try:
        path = source if root is None else _inside(source, root)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise _refused(name, "image_permission") from None
    except (OSError, ValueError, RuntimeError):  # no such name, or none that can be one; RuntimeError: a loop of links
        raise _refused(name, "image_missing") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _refused(name, "image_not_a_file")
    return os.fdopen(descriptor, "rb")


def _inside(source: str | Path, root: Path) -> str:
    """The path below the root, links followed. One that climbs is refused even if it comes back."""
    path = os.fspath(source)
    if os.path.isabs(path) or ".." in path.split("/") or "\0" in path:  # noqa: PTH117  a Path for each costs more
        raise _refused(_name(source), "image_path_outside_root")
    base = os.path.realpath(root)
    resolved = os.path.realpath(f"{base}/{path}")
    if resolved != base and not resolved.startswith(base.rstrip("/") + "/"):
        raise _refused(_name(source), "image_path_outside_root")
    return resolved


def _is_other_format(file: BinaryIO) -> bool:
    file.seek(0)
    start = file.read(16)
    return start.startswith(_OTHER_FORMATS) or start[4:].startswith(_OTHER_FORMATS_AT_4)


def _name(source: str | Path | bytes) -> str:
    return "picture" if isinstance(source, bytes) else ascii(str(source))


def _refused(name: str, reason: str) -> DataError:
    return DataError(f"{name}: {REFUSALS[reason]}", reason=reason)
