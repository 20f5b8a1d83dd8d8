"""The gateway for pixels. Params are named after the bad input."""

from __future__ import annotations

import io
import itertools
import os
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from sightline.data import image as gateway
from sightline.data.image import REFUSALS, check_image, jpeg_scale, open_image, read_image_file, to_rgb
from sightline.errors import DataError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


# ---- makers of files -------------------------------------------------------------------------------------------------


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, *, depth: int = 8, color: int = 2, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG by hand: whatever header, whatever data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def many_scans() -> bytes:
    data = encoded(noise(64, 64), "JPEG", progressive=True)
    start, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    return data[:start] + data[start:end] * 200 + data[end:]


def animated(form: str) -> bytes:
    return encoded(noise(20, 20), form, save_all=True, append_images=[noise(20, 20).rotate(90)] * 3)


def with_orientation(value: object, form: str = "PNG") -> bytes:
    """30 x 20: the left third red, the rest green, turned as the EXIF tag says."""
    picture = Image.new("RGB", (30, 20), GREEN)
    picture.paste(RED, (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(picture, form, exif=exif)


def reason_of(source: str | Path | bytes, *, root: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        open_image(source, root=root)
    error = caught.value
    name = "picture" if isinstance(source, bytes) else ascii(str(source))
    assert str(error) == f"{name}: {REFUSALS[error.reason]}"  # constant words: nothing of Pillow's
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return error.reason


# ---- what is refused -------------------------------------------------------------------------------------------------

JPEG, PNG = encoded(noise(64, 48), "JPEG"), encoded(noise(64, 48), "PNG")

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "zero bytes": (lambda: b"", "image_empty"),
    "text named jpg": (lambda: b"not a picture at all", "image_unreadable"),
    "HTML named jpg": (lambda: b"<!DOCTYPE html><html><body>404</body></html>", "image_unreadable"),
    "JPEG cut in half": (lambda: JPEG[: len(JPEG) // 2], "image_unreadable"),
    "PNG cut in half": (lambda: PNG[: len(PNG) // 2], "image_unreadable"),
    "GIF cut in half": (lambda: encoded(noise(64, 48), "GIF")[:800], "image_unreadable"),
    "BMP cut in half": (lambda: encoded(noise(64, 48), "BMP")[:800], "image_unreadable"),
    "WebP cut in half": (lambda: encoded(noise(64, 48), "WEBP")[:400], "image_unreadable"),
    "PNG header and zeros": (lambda: PNG[:33] + bytes(1000), "image_unreadable"),
    "1 x 1": (lambda: encoded(noise(1, 1), "PNG"), "image_too_small"),
    "0 wide": (lambda: png(0, 10), "image_unreadable"),
    "1 x 30000": (lambda: png(1, 30000, depth=1, color=0, rows=bytes(2) * 30000), "image_aspect"),
    "101 to 1": (lambda: encoded(noise(202, 2), "PNG"), "image_aspect"),
    "14000 x 14000": (lambda: png(14000, 14000, depth=1, color=0), "image_too_large"),
    "13000 x 13000, within Pillow's limit": (lambda: png(13000, 13000, depth=1, color=0), "image_too_large"),
    "4097 x 4096": (lambda: png(4097, 4096, depth=1, color=0), "image_too_large"),
    "side of 8193": (lambda: png(8193, 100, depth=1, color=0), "image_too_large"),
    "progressive JPEG of 51 Mpx": (
        lambda: encoded(Image.new("L", (7200, 7200)), "JPEG", progressive=True), "image_too_large",
    ),
    "JPEG of 200 scans": (many_scans, "image_unreadable"),
    "PNG with 50 MB of text": (
        lambda: png(8, 8, rows=bytes(25) * 8, extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))),
        "image_unreadable",
    ),
    "PNG with a 50 MB profile": (
        lambda: png(8, 8, rows=bytes(25) * 8, extra=chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000)))),
        "image_unreadable",
    ),
    "animated GIF": (lambda: animated("GIF"), "image_animated"),
    "animated PNG": (lambda: animated("PNG"), "image_animated"),
    "animated WebP": (lambda: animated("WEBP"), "image_animated"),
    "TIFF": (lambda: encoded(noise(8, 8), "TIFF"), "image_unsupported_format"),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image_unsupported_format"),
    "PDF": (lambda: b"%PDF-1.7\n", "image_unsupported_format"),
    "EPS": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image_unsupported_format"),
    "PSD": (lambda: b"8BPS\0\1" + bytes(30), "image_unsupported_format"),
    "FITS": (lambda: b"SIMPLE  =                    T" + bytes(50), "image_unsupported_format"),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic" + bytes(20), "image_unsupported_format"),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_picture_is_refused_under_its_reason_without_a_warning(name: str) -> None:
    make, reason = REFUSED[name]
    assert reason_of(make()) == reason


@pytest.mark.parametrize("name", ["14000 x 14000", "1 x 30000", "13000 x 13000, within Pillow's limit"])
def test_a_bomb_is_refused_from_its_header(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = REFUSED[name][0]()
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert reason_of(content) == REFUSED[name][1]


def test_an_encoded_file_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gateway, "MAX_BYTES", len(PNG) - 1)
    (tmp_path / "a.png").write_bytes(PNG)
    assert reason_of(PNG) == "image_too_large"
    assert reason_of("a.png", root=tmp_path) == "image_too_large"


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_32_bits_are_refused(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda file, formats: Image.new(mode, (9, 9)))
    assert reason_of(b"some bytes") == "image_unsupported_mode"


# ---- where a picture may lie -----------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image root with a picture, and one outside of it."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(PNG)
    (folder / "sub" / "b.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(PNG)
    (folder / "inside.png").symlink_to(folder / "a.png")
    (folder / "outside.png").symlink_to(tmp_path / "secret.png")
    (folder / "away").symlink_to(tmp_path)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param("../secret.png", "image_path_outside_root", id="climbing out"),
        pytest.param("sub/../a.png", "image_path_outside_root", id="climbing and coming back"),
        pytest.param("/etc/passwd", "image_path_outside_root", id="absolute"),
        pytest.param("outside.png", "image_path_outside_root", id="link out"),
        pytest.param("away/secret.png", "image_path_outside_root", id="linked folder out"),
        pytest.param("zero.png", "image_path_outside_root", id="link to a device"),
        pytest.param("a.png\0.txt", "image_path_outside_root", id="NUL"),
        pytest.param("b.png", "image_missing", id="missing"),
        pytest.param("a.png/b.png", "image_missing", id="below a file"),
        pytest.param("x" * 5000, "image_missing", id="name too long"),
        pytest.param("\ud800.png", "image_missing", id="lone surrogate"),
        pytest.param("loop.png", "image_missing", id="loop of links"),
        pytest.param("sub", "image_not_a_file", id="folder"),
        pytest.param("", "image_not_a_file", id="the root itself"),
        pytest.param("pipe.png", "image_not_a_file", id="pipe"),
    ],
)
def test_only_regular_files_below_the_root_are_opened(root: Path, path: str, reason: str) -> None:
    assert reason_of(path, root=root) == reason
    with pytest.raises(DataError) as caught:
        read_image_file(path, root=root)
    assert caught.value.reason == reason


@pytest.mark.parametrize("path", ["a.png", "sub/b.png", "inside.png", "./a.png"])
def test_a_file_below_the_root_is_opened(root: Path, path: str) -> None:
    assert open_image(path, root=root).size == (64, 48)
    assert check_image(path, root=root) == (64, 48)
    assert read_image_file(path, root=root) == (root / path).read_bytes()


def test_a_file_that_the_user_named_needs_no_root(root: Path) -> None:
    assert open_image(root.parent / "secret.png").size == (64, 48)
    assert reason_of(root / "pipe.png") == "image_not_a_file"
    assert reason_of("/dev/zero") == "image_not_a_file"
    assert reason_of("a\0b") == "image_missing"


def test_no_more_of_a_file_is_read_than_a_picture_may_have(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "MAX_BYTES", 100)
    assert read_image_file("a.png", root=root) == (root / "a.png").read_bytes()[:101]


def test_a_file_without_permission_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "words of the system")

    monkeypatch.setattr(os, "open", denied)
    assert reason_of("a.png", root=root) == "image_permission"


# ---- what is accepted, and looks as in a viewer ----------------------------------------------------------------------


def transparent(mode: str) -> Image.Image:
    """Left half red, right half red too, but invisible."""
    picture = Image.new("RGBA", (20, 10), (*RED, 255))
    picture.paste((*RED, 0), (10, 0, 20, 10))
    return picture if mode == "RGBA" else picture.convert(mode)


def palette_with_transparency(transparency: int | bytes) -> bytes:
    picture = Image.new("P", (20, 10), 0)
    picture.putpalette([*RED, *BLUE])
    picture.paste(1, (10, 0, 20, 10))
    return encoded(picture, "PNG", transparency=transparency)


@pytest.mark.parametrize(
    ("content", "left", "right"),
    [
        pytest.param(encoded(transparent("RGBA"), "PNG"), RED, WHITE, id="RGBA hides colours"),
        pytest.param(encoded(transparent("RGBA"), "WEBP", lossless=True), RED, WHITE, id="RGBA in WebP"),
        pytest.param(encoded(transparent("LA"), "PNG"), (76, 76, 76), WHITE, id="LA"),
        pytest.param(palette_with_transparency(1), RED, WHITE, id="palette and one transparent colour"),
        pytest.param(palette_with_transparency(b"\xff\x00"), RED, WHITE, id="palette and tRNS"),
        pytest.param(encoded(Image.new("P", (20, 10), 0), "GIF"), (0, 0, 0), (0, 0, 0), id="GIF of one frame"),
        pytest.param(encoded(Image.new("1", (20, 10), 1), "PNG"), WHITE, WHITE, id="1 bit"),
        pytest.param(encoded(Image.new("L", (20, 10), 7), "PNG"), (7, 7, 7), (7, 7, 7), id="grey"),
        pytest.param(encoded(Image.new("RGB", (20, 10), BLUE), "BMP"), BLUE, BLUE, id="BMP"),
        pytest.param(png(20, 10, depth=16, color=0, rows=(b"\0" + b"\x01\x2c" * 20) * 10,
                         extra=chunk(b"tRNS", b"\x01\x2c")), WHITE, WHITE, id="16 bits and tRNS"),
        pytest.param(encoded(Image.new("RGB", (20, 10), BLUE), "PNG") + b"PK\x03\x04 a ZIP", BLUE, BLUE, id="polyglot"),
    ],
)  # fmt: skip
def test_every_mode_comes_out_as_a_viewer_shows_it(
    content: bytes, left: tuple[int, int, int], right: tuple[int, int, int]
) -> None:
    picture = open_image(content)
    assert (picture.mode, picture.size, picture.info) == ("RGB", (20, 10), {})
    assert picture.getpixel((2, 5)) == left
    assert picture.getpixel((17, 5)) == right


def test_half_transparent_pixels_mix_with_white() -> None:
    assert open_image(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), "PNG")).getpixel((0, 0)) == (255, 127, 127)


def test_16_bits_are_scaled_not_clipped() -> None:
    levels = Image.fromarray(np.array([[0, 256], [32768, 65535]], np.uint16))
    assert np.asarray(open_image(encoded(levels, "PNG")))[..., 0].tolist() == [[0, 1], [128, 255]]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "PA", "RGBX", "YCbCr", "CMYK"])
def test_rarer_modes_become_rgb(mode: str) -> None:
    picture = Image.new("RGB", (4, 4), WHITE).convert(mode) if mode[0] != "I" else Image.new(mode, (4, 4), 65535)
    assert to_rgb(picture).getpixel((0, 0)) == WHITE


def test_cmyk_jpeg_has_the_colours_that_were_saved() -> None:
    picture = open_image(encoded(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=100))
    assert np.abs(np.array(picture.getpixel((8, 8))) - RED).max() <= 3


@pytest.mark.parametrize(
    ("value", "size", "red"),
    [
        (1, (30, 20), (2, 10)), (2, (30, 20), (27, 10)), (3, (30, 20), (27, 10)), (4, (30, 20), (2, 10)),
        (5, (20, 30), (10, 2)), (6, (20, 30), (10, 2)), (7, (20, 30), (10, 27)), (8, (20, 30), (10, 27)),
        (0, (30, 20), (2, 10)), (9, (30, 20), (2, 10)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_exif_orientation_is_applied_once(value: int, size: tuple[int, int], red: tuple[int, int], form: str) -> None:
    picture = open_image(with_orientation(value, form))
    assert picture.size == size
    assert np.abs(np.array(picture.getpixel(red)) - RED).max() < 40
    assert open_image(encoded(picture, "PNG")).size == size


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "damage",
    [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\1\x12"],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_with_broken_exif_still_decodes(damage: bytes, form: str) -> None:
    assert open_image(encoded(noise(30, 20), form, exif=damage)).size == (30, 20)


def test_a_camera_jpeg_with_a_second_picture_behind_it_is_no_animation() -> None:
    content = encoded(Image.new("RGB", (64, 48), RED), "MPO", save_all=True, append_images=[noise(64, 48)])
    assert np.abs(np.array(open_image(content).getpixel((5, 5))) - RED).max() <= 3


@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [
        (4096, 4096, 1), (4097, 4096, 2), (6000, 4000, 2), (8193, 100, 2), (12000, 9000, 4), (13377, 13377, 4),
        (65535, 2000, 8), (13378, 13378, None), (65537, 700, None),
    ],
)  # fmt: skip
def test_a_jpeg_is_divided_until_it_is_within_the_limits(width: int, height: int, scale: int | None) -> None:
    assert jpeg_scale(width, height) == scale


def test_a_photograph_of_24_megapixels_is_decoded_at_half_size_and_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(encoded(Image.new("RGB", (6000, 4000), BLUE), "JPEG", exif=exif)).size == (2000, 3000)


@pytest.mark.skipif("PILLOW_BLOCKS_MAX" in os.environ, reason="PILLOW_BLOCKS_MAX is set")
def test_the_memory_of_a_picture_is_used_again() -> None:
    data = encoded(noise(640, 480), "JPEG")
    open_image(data)
    Image.core.reset_stats()
    open_image(data)
    stats = Image.core.get_stats()
    assert stats["new_count"] > 0
    assert stats["allocated_blocks"] == 0


def test_a_jpeg_within_the_limits_is_not_divided() -> None:
    assert np.array_equal(np.asarray(open_image(JPEG)), np.asarray(Image.open(io.BytesIO(JPEG))))


def test_threads_leave_the_warning_filters_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    original, before = Image.open, list(warnings.filters)

    def slow(*given: Any, **options: Any) -> Image.Image:
        time.sleep(0.005 * next(delays))  # the first to come is the first to go, with the filters of none
        return original(*given, **options)

    delays = itertools.cycle([1, 3])
    monkeypatch.setattr(Image, "open", slow)
    with ThreadPoolExecutor(2) as pool:
        assert {picture.size for picture in pool.map(open_image, [PNG] * 6)} == {(64, 48)}
    assert list(warnings.filters) == before
