"""Pictures on their way into the page: dropped, pasted, chosen, too large, turned, or none at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sightline.data.image import open_image
from tests.serve.page.scripted import Scripted
from tests.serve.page.visitor import Visitor, noise, painted, sent_bytes

ORIENTATION = 0x0112
"""The EXIF tag (EXIF 2.3, section 4.6.4)."""


def saved(picture: Image.Image, file: Path, **options: object) -> Path:
    picture.save(file, **options)
    return file


def sent(server: Scripted, number: int = 0) -> bytes:
    return sent_bytes(server.script.asked[-1]["messages"][0]["content"][number])


def test_two_pictures_go_in_order_and_one_can_be_taken_back(visitor: Visitor, server: Scripted, tmp_path: Path) -> None:
    one, two, three = (painted(tmp_path, index) for index in (1, 2, 3))
    visitor.arrive().choose(one, two, three)
    visitor.button("Remove picture 2").click()
    visitor.ask("Which has more?")
    visitor.settled("A red circle.")
    assert [sent(server, number) for number in (0, 1)] == [one.read_bytes(), three.read_bytes()]
    assert visitor.page.locator(".exchange .pictures img").count() == 2


def test_a_picture_is_pasted(visitor: Visitor, server: Scripted, tmp_path: Path) -> None:
    picture = painted(tmp_path, 1)
    visitor.arrive().give("paste", picture)
    visitor.page.locator("#pending li").wait_for()
    visitor.ask("What is it?")
    visitor.settled("A red circle.")
    assert sent(server) == picture.read_bytes()


def test_enter_right_after_a_paste_waits_for_the_picture(visitor: Visitor, server: Scripted, tmp_path: Path) -> None:
    large = saved(Image.fromarray(noise(1300, 1300)), tmp_path / "large.png", compress_level=0)
    visitor.arrive().field.fill("What is it?")
    visitor.give("paste", large)
    visitor.field.press("Enter")
    visitor.settled("A red circle.")
    assert [part["type"] for part in server.script.asked[0]["messages"][0]["content"]] == ["image_url", "text"]
    assert len(sent(server)) <= 2**20  # fewer pixels until it fits
    assert max(open_image(sent(server)).size) < 1300


def test_a_picture_is_dropped_anywhere(visitor: Visitor, tmp_path: Path) -> None:
    scene = painted(tmp_path, 1)
    visitor.arrive().give("dragover", scene)
    assert visitor.page.get_by_text("Drop to add").is_visible()
    visitor.give("drop", scene)
    visitor.page.locator("#pending li").wait_for()
    assert visitor.page.get_by_text("Drop to add").is_hidden()


def test_a_pasted_picture_of_20_megabytes_shrinks_in_the_browser(
    visitor: Visitor, server: Scripted, tmp_path: Path
) -> None:
    gradient = Image.linear_gradient("L").resize((2800, 2500)).convert("RGB")
    large = saved(gradient, tmp_path / "large.png", compress_level=0)
    assert large.stat().st_size > 20_000_000
    visitor.arrive().give("paste", large)
    visitor.page.locator("#pending li").wait_for()
    visitor.ask("What is it?")
    visitor.settled("A red circle.")
    assert len(sent(server)) <= 2**20
    assert open_image(sent(server)).size == (2048, 1829)


def test_a_turned_photograph_arrives_upright(visitor: Visitor, server: Scripted, tmp_path: Path) -> None:
    pixels = np.zeros((1500, 3000, 3), dtype=np.uint8)
    pixels[:, :300] = (255, 0, 0)  # the left edge, which orientation 6 (a quarter turn to the right) puts on top
    tags = Image.Exif()
    tags[ORIENTATION] = 6
    visitor.arrive().give("paste", saved(Image.fromarray(pixels), tmp_path / "turned.jpg", exif=tags))
    visitor.page.locator("#pending li").wait_for()
    visitor.ask("What is it?")
    visitor.settled("A red circle.")
    upright = np.asarray(open_image(sent(server)))
    assert upright.shape == (2048, 1024, 3)
    assert upright[20:180].mean((0, 1))[0] > 200
    assert upright[400:].mean() < 20
    assert b"Exif" not in sent(server)  # where a photograph was taken is nobody's business


def test_transparency_survives_being_drawn_anew(visitor: Visitor, server: Scripted, tmp_path: Path) -> None:
    pixels = np.zeros((64, 3000, 4), dtype=np.uint8)
    pixels[:, :1500] = (0, 0, 255, 255)
    visitor.arrive().give("paste", saved(Image.fromarray(pixels), tmp_path / "half.png"))
    visitor.page.locator("#pending li").wait_for()
    visitor.ask("What is it?")
    visitor.settled("A red circle.")
    seen = np.asarray(open_image(sent(server))).astype(int)
    assert np.abs(seen[:, :900] - (0, 0, 255)).mean() < 12
    assert np.abs(seen[:, 1100:] - 255).mean() < 3  # white shines through, as for the same file on the command line


def test_a_format_that_the_server_does_not_take_is_drawn_anew(
    visitor: Visitor, server: Scripted, tmp_path: Path
) -> None:
    bitmap = saved(open_image(painted(tmp_path, 1)), tmp_path / "named.png", format="BMP")
    visitor.arrive().give("paste", bitmap)  # the name does not decide
    visitor.page.locator("#pending li").wait_for()
    visitor.ask("What is it?")
    visitor.settled("A red circle.")
    assert server.script.asked[0]["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/webp;base64,")
    assert open_image(sent(server)).size == (96, 96)


def test_what_is_no_picture_is_said_and_the_rest_is_taken(visitor: Visitor, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("milk")
    visitor.arrive().page.set_input_files("#files", [str(notes), str(painted(tmp_path, 1))])
    visitor.expect("notes.txt is not a picture that this browser can read.")
    assert visitor.page.locator("#pending li").count() == 1


def test_a_strip_is_refused_before_anything_is_sent(visitor: Visitor, tmp_path: Path) -> None:
    visitor.arrive().give("paste", saved(Image.new("RGB", (1, 3000)), tmp_path / "strip.png"))
    visitor.expect("strip.png is 1 × 3000 pixels: too thin to look at.")


def test_no_more_pictures_than_the_server_takes(visitor: Visitor, tmp_path: Path) -> None:
    visitor.arrive().choose(*(painted(tmp_path, index) for index in range(6)))
    visitor.ask("Many")
    visitor.settled("A red circle.")
    visitor.page.set_input_files("#files", [str(painted(tmp_path, index)) for index in range(3)])
    visitor.expect("A conversation holds 8 pictures at most.")
    assert visitor.page.locator("#pending li").count() == 2
