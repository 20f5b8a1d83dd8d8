"""The one gateway for pixels: nothing else in the project opens a picture.

Comes in: a file below a named root, a file that the user named, or bytes. Goes out: an RGB picture as a viewer shows
it, or `DataError` with a stable reason; then float32 pixels under the checkpoint's policy. Limits are checked on the
header, before anything is decoded. Messages are ours and constant per reason: Pillow's own words never leave here.

Reasons: `image_missing`, `image_permission`, `image_not_a_file`, `image_path_outside_root`, `image_empty`,
`image_unsupported_format`, `image_unreadable`, `image_animated`, `image_too_small`, `image_too_large`, `image_aspect`,
`image_unsupported_mode`.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from sightline.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""Decoders that may run. Pillow registers 43; each is code that untrusted bytes reach."""

MAX_BYTES = 64 * 2**20
"""Largest encoded file."""
MAX_PIXELS = 16_000_000
"""Largest picture that is decoded in full; three bytes a pixel."""
MAX_JPEG_PIXELS = 200_000_000
"""Largest JPEG, by its header: JPEG decodes straight to 1/2, 1/4 or 1/8 of its size, so a camera's picture is fine."""
MIN_SIDE, MAX_SIDE = 2, 8192
MAX_ASPECT = 100
PAD_LIMIT = 4096
"""Longest side that is padded to a square as it is; a longer picture is first shrunk by a whole factor, so that an
accepted 8192 x 82 picture never becomes a canvas of 200 MB."""

_READABLE_MODES = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
)
_SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_BACKGROUND = (255, 255, 255)
"""What shines through transparent pixels: white, as in a viewer."""


def open_image(source: str | Path | bytes, *, root: Path | None = None) -> Image.Image:
    """A picture in RGB, upright, transparency composited on white.

    Args:
        source: a path, relative to `root` if one is given, or the encoded bytes.
        root: the folder that the path must lie in, links followed; None when the user named the file.

    Raises:
        DataError: with one of the reasons of this module.
    """
    with _opened(source, root) as picture:
        name = _name(source)
        upright = _oriented(_decoded(picture, name), name)
    return _rgb(upright, name)


def check_image(source: str | Path | bytes, *, root: Path | None = None) -> tuple[int, int]:
    """Width and height from the header, with all checks that need no decoding. `DataError` as in `open_image`."""
    with _opened(source, root) as picture:
        return picture.size


@contextmanager
def _opened(source: str | Path | bytes, root: Path | None) -> Iterator[Image.Image]:
    """The picture with only its header read, and every limit checked."""
    name = _name(source)
    content = source if isinstance(source, bytes) else _read(source, root)
    if not content:
        raise _refused(name, "image_empty", "the file is empty; replace it or drop the sample")
    if len(content) > MAX_BYTES:
        raise _refused(name, "image_too_large", f"{len(content)} bytes, at most {MAX_BYTES}; save it smaller")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise _refused(
                name,
                "image_unsupported_format",
                f"not a picture of {', '.join(FORMATS)}; convert it or drop the sample",
            ) from error
        except (Image.DecompressionBombError, OSError, ValueError, SyntaxError, OverflowError) as error:
            raise _unreadable(name) from error
        with picture:
            _check_header(picture, name)
            yield picture


def _check_header(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if min(width, height) < MIN_SIDE:
        raise _refused(name, "image_too_small", f"{width} x {height} pixels, at least {MIN_SIDE} a side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise _refused(name, "image_aspect", f"{width} x {height} pixels, sides may differ {MAX_ASPECT}-fold; crop it")
    most = MAX_JPEG_PIXELS if picture.format == "JPEG" else MAX_PIXELS
    side = MAX_SIDE * 8 if picture.format == "JPEG" else MAX_SIDE
    if width * height > most or max(width, height) > side:
        raise _refused(
            name, "image_too_large", f"{width} x {height} pixels, at most {most} and {side} a side; resize it"
        )
    if getattr(picture, "n_frames", 1) != 1:
        raise _refused(name, "image_animated", "it has several frames; save one of them")
    if picture.mode not in _READABLE_MODES | _SIXTEEN_BITS:
        raise _refused(name, "image_unsupported_mode", f"pixels of mode {picture.mode}; convert it to 8 or 16 bits")


def _read(source: str | Path, root: Path | None) -> bytes:
    """The bytes of a regular file; never waits on a pipe or a device."""
    name = str(source)
    path = Path(source) if root is None else _inside(source, root)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise _refused(
            name, "image_missing", f"no such file under {root or '.'}; check the path and the image root"
        ) from error
    except PermissionError as error:
        raise _refused(name, "image_permission", "it may not be read; change its permissions") from error
    except (OSError, ValueError) as error:
        raise _refused(name, "image_not_a_file", "it cannot be opened as a file; give a regular file") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _refused(name, "image_not_a_file", "it is a folder, pipe or device; give a regular file")
        if status.st_size > MAX_BYTES:
            raise _refused(name, "image_too_large", f"{status.st_size} bytes, at most {MAX_BYTES}; save it smaller")
        return file.read(MAX_BYTES + 1)


def _inside(source: str | Path, root: Path) -> Path:
    """The path below the root, links followed."""
    outside = _refused(
        str(source), "image_path_outside_root", f"it leads out of {root}; give a path relative to the image root"
    )
    if "\0" in str(source) or Path(source).is_absolute():
        raise outside
    base = root.resolve()
    try:
        path = (base / source).resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise _refused(str(source), "image_not_a_file", "its links lead nowhere; give a regular file") from error
    if not path.is_relative_to(base):
        raise outside
    return path


def _decoded(picture: Image.Image, name: str) -> Image.Image:
    """The pixels, all of them: a file that ends early is refused, not filled up with grey."""
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        if picture.format == "JPEG" and picture.width * picture.height > MAX_PIXELS:
            scale = next(factor for factor in (2, 4, 8) if picture.width * picture.height <= MAX_PIXELS * factor**2)
            picture.draft(picture.mode, (picture.width // scale, picture.height // scale))
        picture.load()
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        OverflowError,
        MemoryError,
        Image.DecompressionBombError,
    ) as error:
        raise _unreadable(name) from error
    return picture


def _oriented(picture: Image.Image, name: str) -> Image.Image:
    """Upright, by the EXIF orientation. A broken EXIF block says nothing about the pixels, so they stay as they are."""
    try:
        turned = ImageOps.exif_transpose(picture)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, ZeroDivisionError, OverflowError):
        return picture
    assert turned is not None, name
    return turned


def _rgb(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode in _SIXTEEN_BITS:
        levels = np.asarray(picture).astype(np.uint16)
        picture = Image.fromarray((levels >> 8).astype(np.uint8))
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture.copy()
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, (*_BACKGROUND, 255))
        return Image.alpha_composite(canvas, layer).convert("RGB")
    try:
        return picture.convert("RGB")
    except ValueError as error:
        raise _unreadable(name) from error


def _name(source: str | Path | bytes) -> str:
    return "picture" if isinstance(source, bytes) else str(source)


def _refused(name: str, reason: str, words: str) -> DataError:
    return DataError(f"{name!r}: {words}", reason=reason)


def _unreadable(name: str) -> DataError:
    return _refused(name, "image_unreadable", "it is damaged or cut short; replace it or drop the sample")


# ---- pixels for a model ----------------------------------------------------------------------------------------------


def pad_to_square(image: Image.Image, color: tuple[int, int, int]) -> Image.Image:
    """The picture in the middle of a square of its longer side; an odd pixel falls to the right or below.

    LLaVA's `expand2square` (llava/mm_utils.py).
    """
    if image.width == image.height:
        return image
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), color)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def resized_sides(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height when the shorter side becomes `size`; the longer one is cut to a whole number.

    transformers' `get_resize_output_image_size`, which CLIP's processor uses.
    """
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle `size` x `size` pixels; offsets as in transformers' `center_crop`: floor((side - size) / 2)."""
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTransform:
    """How a checkpoint's pictures become pixels.

    `pad`: to a square in the mean colour, as LLaVA-1.5's stage 2. `crop`: the shorter side to `size`, the middle of the
    longer, as its stage 1. Resizing is bicubic on 8-bit channels.
    """

    policy: Literal["pad", "crop"]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def pad_color(self) -> tuple[int, int, int]:
        """The mean in 8 bits, cut to whole numbers: (122, 116, 104) for CLIP, as in LLaVA's train.py."""
        red, green, blue = (int(channel * 255) for channel in self.mean)
        return red, green, blue

    def __call__(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """RGB -> float32[3, size, size], normalised."""
        if max(image.size) > PAD_LIMIT:
            image = image.reduce(-(-max(image.size) // PAD_LIMIT))
        if self.policy == "pad":
            image = pad_to_square(image, self.pad_color)
        sides = resized_sides(image.width, image.height, self.size)
        if sides != image.size:
            image = image.resize(sides, Image.Resampling.BICUBIC)
        pixels = np.asarray(center_crop(image, self.size), dtype=np.float32) / np.float32(255)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        normalised = (pixels - mean) / std
        return np.ascontiguousarray(normalised.transpose(2, 0, 1), dtype=np.float32)
