"""Several processes train what one would: the same steps, losses and weights, whoever stops or goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sightline.config import dump_recipe
from sightline.recipe import Recipe
from sightline.train.log import LOG_FILE, read_log
from sightline.train.ranks import ALONE, Ranks, buckets
from tests.train.small_run import STEPS, align_recipe, instruct_recipe, trained

SOURCE = Path(__file__).parents[2] / "src"


def command(recipe: Recipe, ranks: int, file: Path) -> list[str]:
    file.write_text(dump_recipe(recipe))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [*torchrun, "-m", "sightline", "train", str(file)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def trained_by(recipe: Recipe, ranks: int, file: Path) -> str:
    """What `torchrun` said, on both streams."""
    done = subprocess.run(command(recipe, ranks, file), env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def rows(directory: Path) -> list[dict[str, Any]]:
    return [dict(row) for row in read_log(directory / LOG_FILE)]


def validation_losses(directory: Path) -> list[float]:
    return [row["validation_loss"] for row in rows(directory) if "validation_loss" in row]


def assert_alike(one: Path, other: Path) -> None:
    """The same steps, losses within float tolerance, and weights that are as close."""
    losses = [[(row["step"], row["loss"]) for row in rows(path) if "loss" in row] for path in (one, other)]
    assert [step for step, _ in losses[0]] == [step for step, _ in losses[1]] == list(range(1, STEPS + 1))
    assert [loss for _, loss in losses[0]] == pytest.approx([loss for _, loss in losses[1]], abs=2e-5)
    assert [row["tokens"] for row in rows(one) if "loss" in row] == [
        row["tokens"] for row in rows(other) if "loss" in row
    ]
    mine, theirs = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=2e-4, msg=name)


def test_processes_that_share_a_feature_cache_train_what_one_does_without(world: Path, tmp_path: Path) -> None:
    cache = {"feature_cache": str(tmp_path / "cache"), "feature_cache_policy": "always"}
    one = trained(align_recipe(world, tmp_path / "one"))
    said = trained_by(align_recipe(world, tmp_path / "three", train=cache), 3, tmp_path / "recipe.yaml")
    assert said.count("feature cache used") == 1
    assert_alike(one, tmp_path / "three")


@pytest.mark.parametrize("rank", [0, 1])
def test_whoever_goes_ahead_waits_for_the_others(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[str] = []
    monkeypatch.setattr(Ranks, "largest", lambda self, value: met.append("meeting"))
    with Ranks(rank=rank, size=2).first_goes_ahead():
        met.append("work")
    assert met == (["work", "meeting", "meeting"] if rank == 0 else ["meeting", "work", "meeting"])


@pytest.mark.parametrize("stage", ["align", "instruct"])
def test_two_processes_train_what_one_does(world: Path, tmp_path: Path, stage: str) -> None:
    def recipe(output: str) -> Recipe:
        if stage == "align":
            return align_recipe(world, tmp_path / output)
        held_out = [{"path": str(world / "instruct.jsonl"), "images": str(world / "pictures")}]
        return instruct_recipe(world, tmp_path / output, start=None, validation=held_out)

    one = trained(recipe("one"))
    trained_by(recipe("two"), 2, tmp_path / "recipe.yaml")
    assert_alike(one, tmp_path / "two")
    validation = [
        [row["validation_loss"] for row in rows(path) if "validation_loss" in row] for path in (one, tmp_path / "two")
    ]
    assert validation[0] == pytest.approx(validation[1], abs=1e-4)


def test_a_run_goes_on_with_another_number_of_processes(world: Path, tmp_path: Path) -> None:
    whole = trained(align_recipe(world, tmp_path / "whole"))
    recipe = align_recipe(world, tmp_path / "parts", train={"save_every": 2})
    process = subprocess.Popen(
        command(recipe, 2, tmp_path / "recipe.yaml"), env=environment(), stderr=subprocess.DEVNULL
    )
    states = tmp_path / "parts" / "checkpoints"
    give_up = time.monotonic() + 120
    while not any(states.glob("step-*")) and time.monotonic() < give_up and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    assert any(states.glob("step-*"))
    trained(recipe)
    assert_alike(whole, tmp_path / "parts")


def test_more_processes_than_samples_of_a_step_are_refused(world: Path, tmp_path: Path) -> None:
    recipe = align_recipe(world, tmp_path / "run", train={"batch": 1, "micro_batch": 1})
    done = subprocess.run(
        command(recipe, 2, tmp_path / "recipe.yaml"), env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert "train.batch: found 1, expected at least one sample for each of the 2 processes" in done.stderr
    assert not (tmp_path / "run").exists()


def test_one_process_changes_nothing() -> None:
    parameter = nn.Parameter(torch.ones(2))
    ALONE.sum_gradients([parameter])
    assert parameter.grad is None
    assert ALONE.totals(1.5, 2) == [1.5, 2]
    assert ALONE.largest(3) == 3
    assert ALONE.joined(["a"]) == ["a"]


def test_buckets_hold_each_parameter_once_up_to_their_size() -> None:
    half = torch.float16
    parameters = [
        nn.Parameter(torch.zeros(size, dtype=dtype))
        for size, dtype in ((2, None), (3, None), (10, None), (1, None), (1, half), (1, half), (1, None))
    ]
    found = buckets(parameters, most=20)
    assert [[parameter.numel() for parameter in bucket] for bucket in found] == [[2, 3], [10], [1], [1, 1], [1]]
    assert [parameter for bucket in found for parameter in bucket] == parameters
