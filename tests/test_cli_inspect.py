"""`sightline inspect` and `sightline loss`: answers on stdout, exit codes, one line for a mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sightline.recipe import TrainSpec
from tests.command_line import Captured, assert_refused, sightline
from tests.tiny_checkpoint import save_assistant, tiny_assistant, write_tiny_recipe


def sample(name: str, answer: str = "Red.", **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": answer}]
    return {"id": name, "image": "good.png", "conversations": turns, **more}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a recipe that would make one like it, good and bad samples, a picture."""
    folder = tmp_path_factory.mktemp("place")
    save_assistant(folder / "run", *tiny_assistant())
    (folder / "pictures").mkdir()
    for path in (folder, folder / "pictures"):
        Image.new("RGB", (40, 30), (200, 30, 30)).save(path / "good.png")
    (folder / "samples.jsonl").write_text(json.dumps(sample("1")) + "\n" + json.dumps(sample("2", "A car.")) + "\n")
    (folder / "mixed.json").write_text(json.dumps([sample("1"), sample("2", ""), sample("3", image="none.png")]))
    write_tiny_recipe(folder, data="samples.jsonl")
    (folder / "unfinished").mkdir()
    shutil.copy(folder / "recipe.yaml", folder / "unfinished" / "recipe.yaml")
    return folder


def inspected(place: Path, capsys: Captured, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
    assert sightline("inspect", *arguments, "--json") == code
    return list(json.loads(capsys.readouterr().out))


def test_inspect_prints_an_array_of_the_samples(place: Path, capsys: Captured) -> None:
    first, second = inspected(place, capsys, place / "run", place / "samples.jsonl")
    assert (first["id"], first["template"], second["id"]) == ("1", "own", "2")
    assert first["input_ids"].count(-200) == 1
    assert len(first["labels"]) == len(first["input_ids"])
    assert first["supervised_text"] == "Red.<|im_end|>"
    (picture,) = first["images"]
    assert (picture["path"], picture["size"], picture["mode"]) == ("good.png", [40, 30], "RGB")


def test_a_recipe_and_an_unfinished_run_say_what_their_checkpoint_would(place: Path, capsys: Captured) -> None:
    data = place / "samples.jsonl"
    found = [inspected(place, capsys, place / name, data) for name in ("run", "recipe.yaml", "unfinished")]
    assert found[0][0]["input_ids"] == found[1][0]["input_ids"] == found[2][0]["input_ids"]
    length, other = (one["positions"] for one in found[0])
    assert [one["pack"]["row"] for one in found[1]] == [0, 1], "the recipe's steps are of one sample"
    assert found[0][1]["pack"] == {"row": 0, "start": length, "end": length + other}


def test_samples_lie_in_rows_as_long_as_a_run_here_would_have(
    place: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainSpec, "row_length_on", lambda self, device: 1 if device == "cpu" else 4096)
    found = {}
    for gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        samples = inspected(place, capsys, place / "run", place / "samples.jsonl")
        found[gpu] = sorted(one["pack"]["row"] for one in samples)
    assert found == {False: [0, 1], True: [0, 0]}


def test_no_weights_are_read(place: Path, capsys: Captured, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    for weights in (tmp_path / "run").glob("*.safetensors"):
        weights.unlink()
    assert len(inspected(place, capsys, tmp_path / "run", place / "samples.jsonl")) == 2


def test_template_id_limit_and_image_root(place: Path, capsys: Captured) -> None:
    data = place / "samples.jsonl"
    (only,) = inspected(place, capsys, place / "run", data, "--id", "2", "--template", "plain")
    assert (only["id"], only["template"], only["supervised_text"]) == ("2", "plain", "A car.\n")
    (of_recipe,) = inspected(place, capsys, place / "recipe.yaml", data, "--limit", 1, "--template", "plain")
    assert (of_recipe["id"], of_recipe["template"]) == ("1", "plain")
    (found,) = inspected(place, capsys, place / "run", data, "--limit", 1, "--image-root", place / "pictures")
    assert found["images"][0]["fault"] is None
    (missing,) = inspected(place, capsys, place / "run", data, "--limit", 1, "--image-root", place / "tokenizer")
    assert "image_missing" in missing["images"][0]["fault"]


def test_a_sample_without_supervised_tokens_is_shown_and_the_exit_code_is_1(place: Path, capsys: Captured) -> None:
    assert sightline("inspect", place / "run", place / "mixed.json", "--json") == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [(one["id"], one["reason"]) for one in found] == [("1", None), ("2", "answer_empty"), ("3", None)]
    assert [len(one["input_ids"]) > 0 for one in found] == [True, False, True]
    assert len(captured.err.splitlines()) == 2, "the empty answer, the missing picture"
    assert sightline("inspect", place / "run", place / "mixed.json") == 1
    assert "an empty answer" in capsys.readouterr().out


def test_for_people_it_prints_lines_and_writes_a_page(place: Path, capsys: Captured, tmp_path: Path) -> None:
    assert sightline("inspect", place / "run", place / "samples.jsonl") == 0
    captured = capsys.readouterr()
    assert "┃ Red." in captured.out
    assert captured.err == ""
    page = tmp_path / "new" / "page.html"
    assert sightline("inspect", place / "run", place / "samples.jsonl", "--html", page) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert page.read_text().startswith("<!doctype html>")
    assert "good.png" in page.read_text()


def test_loss_prints_one_object_or_a_table(place: Path, capsys: Captured) -> None:
    assert sightline("loss", place / "run", place / "samples.jsonl", "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert captured.err == "measured 2 samples\n"
    assert [one["id"] for one in found["samples"]] == ["1", "2"]
    assert found["tokens"] == sum(one["tokens"] for one in found["samples"])
    assert found["mean"] == pytest.approx(
        sum(one["loss"] * one["tokens"] for one in found["samples"]) / found["tokens"]
    )
    assert sightline("loss", place / "run", place / "mixed.json", "--template", "plain", "--batch", 1) == 0
    captured = capsys.readouterr()
    assert "perplexity" in captured.out
    assert "left out: answer_empty 1, image_missing 1" in captured.out
    assert len(captured.err.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param("inspect nowhere samples.jsonl", "nowhere: no such directory", id="no checkpoint"),
        pytest.param("inspect none.yaml samples.jsonl", "none.yaml: no such recipe", id="no recipe"),
        pytest.param("inspect good.png samples.jsonl", "good.png: cannot be read as a text file", id="no YAML"),
        pytest.param("inspect pictures samples.jsonl", "not a Sightline checkpoint", id="some directory"),
        pytest.param("inspect run none.jsonl", "none.jsonl: there is no such data file", id="no data"),
        pytest.param("inspect run none.jsonl --json", "none.jsonl: there is no such data file", id="no data for JSON"),
        pytest.param("inspect run samples.jsonl --id 9", 'no sample with the id "9"', id="no such id"),
        pytest.param("inspect run samples.jsonl --template plian", 'did you mean "plain"', id="template typo"),
        pytest.param("inspect recipe.yaml samples.jsonl --template plian", 'did you mean "plain"', id="in a recipe"),
        pytest.param("inspect run samples.jsonl --image-root none", "--image-root: no folder none", id="no folder"),
        pytest.param("inspect run samples.jsonl --limit 0", "--limit", id="limit of none"),
        pytest.param("loss nowhere samples.jsonl", "nowhere: no such directory", id="loss of nothing"),
        pytest.param("loss run none.jsonl", "none.jsonl: there is no such data file", id="loss on nothing"),
        pytest.param("loss run samples.jsonl --template plian", 'did you mean "plain"', id="loss, template typo"),
        pytest.param("loss run samples.jsonl --image-root none", "--image-root: no folder none", id="loss, no folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: str, words: str
) -> None:
    monkeypatch.chdir(place)
    assert_refused(capsys, arguments, words)
