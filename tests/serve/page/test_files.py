"""What the page is made of: small, whole, nothing from elsewhere, vendored files as npm has them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from sightline.data.image import open_image
from sightline.demo.paint import paint
from sightline.demo.teacher import description
from sightline.demo.world import draw_scene
from tests.serve.page.scripted import PAGE

OWN = sorted(file for file in PAGE.iterdir() if file.suffix in (".html", ".js", ".css"))
VENDORED = {
    # SHA-256 in the package on npm; the versions stand in vendor/NOTICE.md
    "marked/marked.esm.js": "5371fea86fd0656b4fc7bea7c94c663109d82789b69433eeee78d42895aa44de",
    "dompurify/purify.min.js": "8053ee2a6a09f9d50f7fcd6fb7f07072f52c7f3fa9aa12147cab4feaf65ee970",
}
EXAMPLES = json.loads((PAGE / "examples" / "examples.json").read_text())
SEED = 2026
"""With which the examples were drawn and painted."""


def test_the_page_is_small() -> None:
    served = [*OWN, *(PAGE / "vendor" / name for name in VENDORED)]  # all but the example pictures
    assert sum(file.stat().st_size for file in served) < 150_000


@pytest.mark.parametrize("name", VENDORED)
def test_vendored_files_are_those_of_npm_and_bring_their_licence(name: str) -> None:
    file = PAGE / "vendor" / name
    assert hashlib.sha256(file.read_bytes()).hexdigest() == VENDORED[name]
    assert "licen" in (file.parent / "LICENSE").read_text().lower()


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    html = (PAGE / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", html) == []
    for file in OWN:
        for address in re.findall(r"(?:src|href)=\"([^\"]+)\"|url\(([^)]+)\)|from \"([^\"]+)\"", file.read_text()):
            assert (
                "".join(address).startswith(("#", "data:", "./", "style.css", "app.js", "${"))
                or "".join(address) == "#question"
            )


def test_no_two_elements_share_a_name() -> None:
    names = re.findall(r"\sid=\"([^\"]+)\"", (PAGE / "index.html").read_text())
    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", [file for file in OWN if file.suffix == ".js"], ids=lambda file: file.name)
def test_no_markup_is_put_together_from_strings(file: Path) -> None:
    text = file.read_text()
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text) == []
    assert text.startswith("// ")  # a module opens with its contract


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["picture"])
def test_an_example_is_what_our_own_demo_paints(example: dict[str, str]) -> None:
    number = int(re.findall(r"\d+", example["picture"])[0])
    scene = draw_scene(number, seed=SEED)
    kept = np.asarray(open_image(PAGE / "examples" / example["picture"])).astype(int)
    assert np.abs(kept - np.asarray(paint(scene, seed=SEED))).max() <= 2  # fonts and filters differ a little
    assert example["alt"] == description(scene)
