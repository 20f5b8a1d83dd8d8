"""The painted probes: that they are repeatable, balanced and true."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sightline.evaluate.probes.demonstrations import HEIGHTS, MAKERS, MOST, demonstrations
from sightline.evaluate.probes.painting import COLORS, Canvas, corners, font_of, wrapped
from tests.command_line import Captured, assert_refused, sightline


def test_same_seed_same_pictures_and_another_seed_others() -> None:
    first, again, other = (list(demonstrations(side=64, count=2, seed=seed)) for seed in (1, 1, 2))
    assert [(one.id, one.text, one.label) for one in first] == [(one.id, one.text, one.label) for one in again]
    assert all(a.picture.tobytes() == b.picture.tobytes() for a, b in zip(first, again, strict=True)
               if a.picture and b.picture)  # fmt: skip
    assert [one.text for one in first] != [one.text for one in other]


def test_neither_the_place_of_the_right_option_nor_the_label_gives_it_away() -> None:
    made = list(demonstrations(side=64, count=120))
    for name in ("quadrants", "relations", "binding", "real"):
        of_kind = [one for one in made if one.category == name]
        first = sum(one.options.index(one.label) == 0 for one in of_kind) / len(of_kind)
        assert 0.35 < first < 0.65, (name, first)
    assert Counter(one.label for one in made if one.category == "counting") == {str(n): 20 for n in range(1, MOST + 1)}
    assert {one.category for one in made} == set(MAKERS)
    assert all(one.more["chance"] == (1 / len(one.options) if one.options else 0) for one in made)


def test_relation_is_true_of_the_pixels() -> None:
    for one in demonstrations(side=120, count=24):
        if one.category != "relations":
            continue
        words = one.text.split("\n")[0].removesuffix("?").split()
        colors = [word for word in words if word in COLORS]
        assert one.picture is not None
        pixels = np.asarray(one.picture).astype(int)
        centers = []
        for color in colors:
            near = np.abs(pixels - np.array(COLORS[color])).sum(2) < 30
            rows, columns = np.nonzero(near)
            centers.append((columns.mean(), rows.mean()))
        (x, y), (x2, y2) = centers
        truth = {"left": x < x2, "right": x > x2, "above": y < y2, "below": y > y2}
        assert truth[one.label], one.text


@pytest.mark.parametrize("height", HEIGHTS)
def test_capitals_are_as_high_as_the_probe_says(height: int) -> None:
    canvas = Canvas(336, __import__("random").Random(0))
    canvas.words("H", 168, 168, height)
    dark = np.asarray(canvas.finished()).sum(2) < 300
    rows = np.nonzero(dark.any(1))[0]
    assert height <= rows[-1] - rows[0] + 1 <= height + 1


def test_lines_fit_where_words_allow_it() -> None:
    text = wrapped("one two three four", 60, 10)
    assert text.replace("\n", " ") == "one two three four"
    assert all(font_of(10).getlength(line) <= 60 for line in text.split("\n"))
    assert "\n" in text


def test_corners_lie_on_the_circle() -> None:
    assert {round(np.hypot(x - 5, y - 5), 6) for x, y in corners("square", 5, 5, 2)} == {2}
    assert len(corners("star", 0, 0, 1)) == 10


def test_command_writes_a_folder_with_all_pictures(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    assert sightline("probe", "demonstrations", "--out", out, "--count", 2, "--side", 64, "--plain") == 0
    entries = [json.loads(line) for line in (out / "probes.jsonl").read_text().splitlines()]
    assert len(entries) == 2 * (4 + 4 + 2)
    assert all((out / entry["image"]).is_file() for entry in entries)
    assert not any("single word" in entry["text"] for entry in entries)
    assert (out / "manifest.json").is_file()
    content = (out / "probes.jsonl").read_bytes()
    assert sightline("probe", "demonstrations", "--out", out, "--count", 2, "--side", 64, "--plain") == 0
    assert (out / "probes.jsonl").read_bytes() == content
    capsys.readouterr()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("x")
    assert_refused(capsys, f"probe typographic --out {tmp_path}/mine", "holds something else")
    assert (tmp_path / "mine/letter.txt").exists()
