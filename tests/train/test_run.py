"""Preparing a run: every mistake is found before it costs anything; and what a finished run leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline.atomic import sha256_file
from sightline.data.sample import ImageRef, Turn
from sightline.errors import CheckpointError, ConfigError, DataError, SightlineError
from sightline.infer.load import load
from sightline.recipe import Recipe
from sightline.train import run as run_module
from sightline.train.run import prepare
from tests.train.small_run import (
    STEPS,
    align_recipe,
    align_samples,
    instruct_recipe,
    make_world,
    prepared,
    result_hashes,
    trained,
)


def refused(recipe: Recipe, kind: type[SightlineError] = ConfigError, *, new: bool = False) -> str:
    """The one line that a recipe is refused with. Its run holds no lock afterwards."""
    try:
        prepared(recipe, new=new)
    except kind as error:
        message = str(error)
    else:
        raise AssertionError("it was not refused")
    assert "\n" not in message
    return message


def contents(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): sha256_file(path) for path in directory.rglob("*") if path.is_file()}


def no_weights(patch: pytest.MonkeyPatch) -> None:
    """From here on, reading or making a model's weights fails the test."""

    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("weights were asked for")

    patch.setattr(run_module, "assemble_model", fail)


# ---- mistakes that cost nothing --------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Callable[[Path], dict[str, Any]], list[str]]] = {
    "77-context-too-short": (lambda world: {"max_length": 31}, ["max_length", "31", "16 positions", "at least 32"]),
    "78-no-image-root": (
        lambda world: {"data": [{"path": str(world / "align.json"), "images": "absent"}]},
        ["data.0.images", "absent"],
    ),
    "no-data-file": (lambda world: {"data": [{"path": "absent.json"}]}, ["data.0.path", "absent.json"]),
    "no-second-data-file": (
        lambda world: {
            "data": [{"path": str(world / "align.json"), "images": str(world / "pictures")}, {"path": "absent.json"}]
        },
        ["data.1.path", "absent.json"],
    ),
    "no-validation-file": (lambda world: {"validation": [{"path": "absent.json"}]}, ["validation.0.path", "absent"]),
    "no-vision": (
        lambda world: {"model": {"vision": str(world / "absent"), "language": str(world / "language")}},
        ["vision", "absent"],
    ),
    "no-language": (
        lambda world: {"model": {"vision": str(world / "vision"), "language": str(world / "absent")}},
        ["tokenizer", "absent"],
    ),
    "no-tokenizer": (
        lambda world: {
            "model": {"vision": str(world / "vision"), "language": {"config": str(world / "language" / "config.json")}}
        },
        ["model.tokenizer", "missing"],
    ),
    "no-such-layer": (
        lambda world: {
            "model": {"vision": str(world / "vision"), "language": str(world / "language"), "vision_layer": -9}
        },
        ["vision_layer", "-9", "3"],
    ),
    "no-such-template": (lambda world: {"template": "vicuna"}, ["template", "vicuna_v1"]),
    "no-start": (lambda world: {"model": {"start": str(world / "absent")}}, ["model.start", "absent"]),
    "no-such-device": (lambda world: {"train": {"device": "abacus"}}, ["train.device", "abacus"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_before_any_weights_are_read_and_leaves_nothing(
    mistake: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_weights(monkeypatch)
    change, words = MISTAKES[mistake]
    message = refused(align_recipe(world, tmp_path / "run", **change(world)))
    for word in words:
        assert word in message
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_named(world: Path, tmp_path: Path) -> None:
    assert "no GPU" in refused(align_recipe(world, tmp_path / "run", train={"device": "cuda"}))


def test_context_of_one_picture_and_sixteen_positions_is_enough(world: Path, tmp_path: Path) -> None:
    short = [{**align_samples()[0], "conversations": align_samples()[0]["conversations"]}]
    (tmp_path / "short.json").write_text(json.dumps(short))
    data = [{"path": str(tmp_path / "short.json"), "images": str(world / "pictures")}]
    assert prepared(align_recipe(world, tmp_path / "run", max_length=32, data=data)).state.step == 0


def test_bad_samples_stop_the_run_before_any_weights_are_read(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_weights(monkeypatch)
    samples = align_samples()
    samples[7]["image"] = "absent.png"
    (tmp_path / "data.json").write_text(json.dumps(samples))
    data = [{"path": str(tmp_path / "data.json"), "images": str(world / "pictures")}]
    message = refused(align_recipe(world, tmp_path / "run", data=data), DataError)
    assert "data.json:1[7]" in message
    assert not (tmp_path / "run").exists()


def test_left_out_samples_are_said_written_down_and_not_trained_on(world: Path, tmp_path: Path) -> None:
    samples = align_samples()
    samples[7]["image"] = "absent.png"
    (tmp_path / "data.json").write_text(json.dumps(samples))
    data = [{"path": str(tmp_path / "data.json"), "images": str(world / "pictures")}]
    bad = {"policy": "skip", "max_fraction": 0.1}
    said: list[str] = []
    run = prepare(align_recipe(world, tmp_path / "run", data=data, bad_samples=bad), say=said.append)
    assert "left out 1 of 13 samples: image_missing 1" in said
    (line,) = (tmp_path / "run" / "bad_samples.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "image_missing"
    assert "a7" not in {name for step in range(30) for batch in run.make_step(step).batches for name in batch.ids}


def test_a_part_that_has_nothing_to_train_is_refused(world: Path, tmp_path: Path) -> None:
    model = {"vision": str(world / "vision"), "language": str(world / "language"), "connector": "identity"}
    assert "train.lr.connector" in refused(align_recipe(world, tmp_path / "run", model=model))


def test_a_disk_without_room_is_refused(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    assert "GiB free" in refused(align_recipe(world, tmp_path / "run"))


def test_a_start_that_is_not_finished_is_refused(world: Path, tmp_path: Path) -> None:
    run = prepared(align_recipe(world, tmp_path / "align"))
    message = refused(instruct_recipe(world, tmp_path / "run", start=run.directory), CheckpointError)
    assert "align" in message


def test_steps_are_counted_from_epochs(world: Path, tmp_path: Path) -> None:
    recipe = align_recipe(world, tmp_path / "run", train={"steps": None, "epochs": 2.5})
    assert prepared(recipe).total == 9  # 13 x 2.5 = 32.5 samples, 4 a step


def test_rows_are_as_long_as_suits_a_cpu_unless_the_recipe_says(world: Path, tmp_path: Path) -> None:
    assert prepared(align_recipe(world, tmp_path / "a")).rows.row_length == 2048
    assert prepared(align_recipe(world, tmp_path / "b", train={"row_length": 77})).rows.row_length == 77


def test_batches_may_be_grouped_by_modality(world: Path, tmp_path: Path) -> None:
    """Nine samples with pictures and two without make four batches of the one kind, one of the other, and one mixed."""
    settings = {"group_by_modality": True, "batch": 2, "micro_batch": 2}
    run = prepared(instruct_recipe(world, tmp_path / "run", start=None, train=settings))
    with_pictures = {sample.id for sample in run.samples.samples if sample.images}
    found = [
        {name in with_pictures for batch in run.make_step(step).batches for name in batch.ids} for step in range(5)
    ]
    assert sorted(map(sorted, found)) == [[False], [True], [True], [True], [True]]


# ---- one output, one run ---------------------------------------------------------------------------------------------


@pytest.fixture
def finished(world: Path, tmp_path: Path) -> Path:
    return trained(align_recipe(world, tmp_path / "run"))


OTHERS: dict[str, dict[str, Any]] = {
    "seed": {"seed": 6},
    "rate": {"train": {"lr": {"connector": 2e-2}}},
    "steps": {"train": {"steps": STEPS + 1}},
    "template": {"template": "own"},
    "name": {"name": "other"},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_an_output_of_another_recipe_is_refused_and_untouched(
    change: dict[str, Any], world: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_weights(monkeypatch)
    before = contents(finished)
    message = refused(align_recipe(world, finished, **change))
    assert str(finished) in message
    assert "--new" in message
    assert contents(finished) == before


def test_an_unfinished_run_of_another_recipe_is_refused_too(world: Path, finished: Path) -> None:
    for path in ("finished.json", "model.safetensors", "manifest.json"):
        (finished / path).unlink()
    assert "--new" in refused(align_recipe(world, finished, seed=6))


def test_states_without_a_name_tag_are_refused_too(world: Path, finished: Path) -> None:
    for path in ("run.json", "config.json"):
        (finished / path).unlink()
    message = refused(align_recipe(world, finished, seed=6), CheckpointError)
    assert "another recipe" in message


def test_other_data_under_the_same_name_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world")
    finished = trained(align_recipe(world, tmp_path / "run"))
    (world / "align.json").write_text(json.dumps(align_samples()[:-1]))
    assert "other data" in refused(align_recipe(world, finished))


@pytest.mark.parametrize("train", [{"save_every": 1}, {"micro_batch": 1}, {"workers": 1}, {"keep": 7}])
def test_where_and_how_often_it_saves_makes_no_other_run(train: dict[str, Any], world: Path, finished: Path) -> None:
    run = prepared(align_recipe(world, finished, train=train))
    assert run.state.step == STEPS


def test_an_output_without_results_may_be_taken_by_another_recipe(world: Path, tmp_path: Path) -> None:
    run = prepared(align_recipe(world, tmp_path / "run"))
    run.release()
    assert prepared(align_recipe(world, tmp_path / "run", seed=6)).state.step == 0


def test_new_puts_the_old_run_aside_and_loses_nothing(world: Path, finished: Path) -> None:
    before = contents(finished)
    other = prepared(align_recipe(world, finished, seed=6), new=True)
    assert other.state.step == 0
    aside = finished.with_name("run.old-1")
    assert contents(aside) == before
    load(aside)
    other.release()
    prepared(align_recipe(world, finished, seed=7), new=True)
    assert contents(aside) == before
    assert finished.with_name("run.old-2").is_dir()


def test_new_on_an_output_that_is_not_there_is_just_a_start(world: Path, tmp_path: Path) -> None:
    assert prepared(align_recipe(world, tmp_path / "run"), new=True).state.step == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_output_that_is_a_file_is_refused(world: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("thesis")
    for new in (False, True):
        assert "is a file" in refused(align_recipe(world, tmp_path / "run"), new=new)
    assert (tmp_path / "run").read_text() == "thesis"


def test_a_model_that_no_run_has_written_is_never_written_over(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    before = contents(world)
    for part in ("vision", "language"):
        assert "holds a model that no run has written" in refused(align_recipe(world, world / part))
    assert contents(world) == before


@pytest.mark.parametrize("new", [False, True])
def test_a_second_run_on_the_same_output_is_refused_with_the_pid_of_the_first(
    new: bool, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = align_recipe(world, tmp_path / "run")
    first = prepared(recipe)
    with monkeypatch.context() as patch:
        no_weights(patch)
        message = refused(recipe, new=new)
    assert re.search(rf"in use by process {os.getpid()}\b", message)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    first.release()
    assert prepared(recipe).state.step == 0


# ---- what a finished run leaves --------------------------------------------------------------------------------------


LORA = {"lora": {"rank": 4, "alpha": 8}}


@pytest.mark.parametrize(
    ("template", "policy", "train"),
    [("own", "pad", {}), ("own", "crop", {}), ("vicuna_v1", "pad", {}), ("own", "pad", LORA)],
    ids=["pad", "crop", "vicuna", "lora"],
)
def test_a_finished_run_answers_alike_here_and_in_transformers(
    template: str, policy: str, train: dict[str, Any], world: Path, aligned: Path, tmp_path: Path
) -> None:
    changes = {"template": template, "image_policy": policy}
    finished = trained(instruct_recipe(world, tmp_path / "run", start=aligned, train=train, **changes))
    model, processor = load(finished)
    theirs = AutoModelForImageTextToText.from_pretrained(finished).eval()
    their_processor = AutoProcessor.from_pretrained(finished)
    with Image.open(world / "pictures" / "3.png") as file:
        picture = file.convert("RGB")
    talk = [{"role": "user", "content": "<image>\nWhat colour is the car?"}]
    text = their_processor.apply_chat_template(talk, add_generation_prompt=True)
    inputs = their_processor(images=picture, text=text, return_tensors="pt", add_special_tokens=False)
    turn = Turn(role="user", content=(ImageRef(index=0), "\nWhat colour is the car?"))
    ids, pixels = torch.tensor([processor.prompt([turn])]), processor.pixels([picture])
    assert inputs["input_ids"].tolist() == ids.tolist()
    torch.testing.assert_close(inputs["pixel_values"], pixels, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        found = model(ids, pixels=pixels)
        expected = theirs(**inputs).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_finished_run_holds_what_it_was_made_of(world: Path, aligned: Path, tmp_path: Path) -> None:
    recipe = instruct_recipe(world, tmp_path / "run", start=aligned)
    finished = trained(recipe)
    info = json.loads((finished / "sightline.json").read_text())["info"]
    assert Recipe.model_validate(info["recipe"]) == recipe
    assert info["processor"]["template"] == "own"
    assert {"config.json", "log.jsonl", "loss.png", "recipe.yaml", "tokenizer.json"} <= set(os.listdir(finished))
    _, processor = load(finished)
    assert processor.describe() == prepared(instruct_recipe(world, tmp_path / "b", start=aligned)).processor.describe()


def test_the_same_recipe_gives_the_same_bits_anywhere(world: Path, finished: Path, tmp_path: Path) -> None:
    assert result_hashes(trained(align_recipe(world, tmp_path / "elsewhere"))) == result_hashes(finished)
