"""`sightline check` and `sightline stats`: answers on stdout, exit codes, one line for a mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command_line import Captured, assert_refused, sightline
from tests.data.shards import asked, png
from tests.tiny_checkpoint import write_tiny_recipe


def shown(name: str, answer: str = "", **more: Any) -> str:
    turns = asked(f"<image>\nWhat is {name}?", answer or f"It is {name}.")
    return json.dumps({"id": name, "image": "1.png", "conversations": turns, **more}) + "\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    for name in ("pictures", "eval", "empty"):
        (folder / name).mkdir()
    (folder / "pictures" / "1.png").write_bytes(png())
    (folder / "eval" / "q.png").write_bytes(png())
    (folder / "1.png").write_bytes(png("lime"))
    (folder / "clean.jsonl").write_text(shown("a") + shown("b"))
    (folder / "bad.jsonl").write_text(shown("a") + shown("<b>", "</s>") + shown("c", image="none.png"))
    (folder / "long.jsonl").write_text(shown("a") + shown("word " * 2000))
    (folder / "twice.jsonl").write_text(shown("a") + shown("a", "Other."))
    write_tiny_recipe(folder, data="clean.jsonl")
    return folder


def test_clean_data_is_exit_code_0(place: Path, capsys: Captured) -> None:
    assert sightline("check", place / "clean.jsonl") == 0
    assert capsys.readouterr().out == "2 of 2 samples are clean, 1 pictures checked\n"


def test_problems_are_lines_counts_and_exit_code_1(place: Path, capsys: Captured, tmp_path: Path) -> None:
    page, out = tmp_path / "new" / "page.html", tmp_path / "fixed" / "clean.jsonl"
    assert sightline("check", place / "bad.jsonl", "--html", page, "--fix", out) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"special_token: {place / 'bad.jsonl'}:2: turn 1: found the special token '</s>'")
    assert lines[1].startswith(f"image_missing: {place / 'bad.jsonl'}:3: id c: 'none.png'")
    assert sorted(lines[2:4]) == ["        1  image_missing", "        1  special_token"]
    assert lines[4] == "1 of 3 samples are clean, 2 pictures checked"
    assert lines[5:] == [str(out.with_name("clean.rejected.jsonl")), str(out), str(page)]
    assert out.read_text() == shown("a")
    html = page.read_text()
    assert "special_token" in html
    assert "<bdi>&lt;b&gt;</bdi>" in html
    assert not re.search(r"(?:src|href)=", html)


def test_json_has_everything(place: Path, capsys: Captured) -> None:
    assert sightline("check", place / "bad.jsonl", "--json") == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert (found["samples"], found["clean"], found["pictures"], found["omitted"]) == (3, 1, 2, 0)
    assert found["counts"] == {"special_token": 1, "image_missing": 1}
    assert [(one["line"], one["id"], one["reason"]) for one in found["problems"]] == [
        (2, "<b>", "special_token"), (3, "c", "image_missing"),
    ]  # fmt: skip
    assert found["files"] == [{"path": str(place / "bad.jsonl"), "samples": 3, "bad": 2, "broken_at": None}]


def test_a_recipe_tells_what_would_be_cut_off(place: Path, capsys: Captured) -> None:
    assert sightline("check", place / "long.jsonl") == 0
    capsys.readouterr()
    assert sightline("check", place / "long.jsonl", "--recipe", place / "recipe.yaml", "--json") == 1
    assert json.loads(capsys.readouterr().out)["counts"] == {"no_supervised_tokens": 1}


def test_what_the_recipe_says_about_its_data_holds(place: Path, capsys: Captured, tmp_path: Path) -> None:
    recipe = yaml.safe_load((place / "recipe.yaml").read_text())
    data = {"path": str(place / "twice.jsonl"), "images": str(place / "pictures"), "repeated_ids": "number"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"data": [data]}))
    evaluation = ("--eval-images", place / "eval")
    assert sightline("check", place / "twice.jsonl", "--json", *evaluation) == 1
    assert json.loads(capsys.readouterr().out)["counts"] == {"id_duplicate": 1}
    assert sightline("check", place / "twice.jsonl", "--recipe", tmp_path / "recipe.yaml", "--json", *evaluation) == 1
    assert json.loads(capsys.readouterr().out)["counts"] == {"evaluation_image": 2}


def test_reasons_can_be_ignored_where_they_may_be_meant(place: Path, capsys: Captured) -> None:
    assert sightline("check", place / "twice.jsonl", "--ignore", "id_duplicate") == 0
    capsys.readouterr()
    assert_refused(
        capsys, f"check {place}/bad.jsonl --ignore image_missing", "--ignore: image_missing cannot be ignored"
    )


@pytest.mark.parametrize(("command", "option"), [("check", "--fix"), ("check", "--html"), ("stats", "--plot")])
def test_what_cannot_be_written_is_one_line(
    command: str, option: str, place: Path, capsys: Captured, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert sightline(command, place / "clean.jsonl", option, tmp_path / "file" / "x") == 74
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith(f"sightline: {tmp_path / 'file'}")
    assert "cannot be written" in captured.err


def test_without_a_recipe_no_torch_is_imported(place: Path) -> None:
    data = str(place / "clean.jsonl")
    program = (
        "import sys\nfrom sightline.cli import app, run\nfrom functools import partial\n"
        f"for what in ('check', 'stats'):\n    assert run(partial(app, args=[what, {data!r}])) == 0\n"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_stats_print_a_table_or_json_and_draw(place: Path, capsys: Captured, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    assert sightline("stats", place / "bad.jsonl", "--recipe", place / "recipe.yaml", "--json", "--plot", plot) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["images"], found["sources"]) == (3, {"1": 3}, {".": 3})
    assert found["tokens"]["min"] > 16
    assert plot.stat().st_size > 10_000
    assert sightline("stats", place / "clean.jsonl") == 0
    assert capsys.readouterr().out.startswith("2 samples\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param("check none.jsonl", "none.jsonl: there is no such data file", id="no data"),
        pytest.param("check empty", "empty: found none of *.json", id="empty folder"),
        pytest.param("check none*.jsonl", "no file fits this pattern", id="pattern"),
        pytest.param("check clean.jsonl --images none", "--images: no folder none", id="no pictures"),
        pytest.param("check clean.jsonl --eval-images none", "--eval-images: no folder none", id="no evaluation"),
        pytest.param("check clean.jsonl --recipe none.yaml", "none.yaml: no such recipe", id="no recipe"),
        pytest.param("check clean.jsonl --recipe empty", "not a Sightline checkpoint", id="no checkpoint"),
        pytest.param("check clean.jsonl --fix clean.jsonl", "is the data itself", id="fix onto itself"),
        pytest.param("stats none.jsonl", "none.jsonl: there is no such data file", id="no data for stats"),
        pytest.param("stats 1.png", "1.png:1: found bytes that are not UTF-8", id="no data file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: str, words: str
) -> None:
    monkeypatch.chdir(place)
    before = (place / "clean.jsonl").read_bytes()
    if "--fix" in arguments:
        assert sightline(*arguments.split()) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]
        assert (place / "clean.jsonl").read_bytes() == before
        return
    assert_refused(capsys, arguments, words)
