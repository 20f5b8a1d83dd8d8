"""What breaks while a run goes on: a disk that fills, pictures that go bad, a start that is trained anew."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sightline import cli
from sightline.config import dump_recipe
from sightline.errors import ConfigError, DataError, StorageError
from sightline.train import loop
from sightline.train.loop import train
from tests.train.small_run import STEPS, align_recipe, instruct_recipe, make_world, prepared, result_hashes, trained


def full_disk(monkeypatch: pytest.MonkeyPatch, *failing: int) -> None:
    """The saves of these numbers (counted from 1) find no room."""
    save, count = loop.save_state, 0

    def limited(*args: object, **options: object) -> object:
        nonlocal count
        count += 1
        if count in failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "save_state", limited)


def test_a_disk_that_is_full_for_a_while_does_not_end_the_run(
    world: Path, aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepared(align_recipe(world, tmp_path / "run", train={"save_every": 1}))
    full_disk(monkeypatch, 1, 2, 4, 5)
    train(run, quiet=True)
    assert result_hashes(run.directory) == result_hashes(aligned)
    assert capsys.readouterr().err.count("No space left on device; the next save tries again") == 4


def test_the_third_failed_save_in_a_row_ends_the_run_with_exit_code_74_and_one_line(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = align_recipe(world, tmp_path / "run", train={"save_every": 1, "keep": 1})
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    with monkeypatch.context() as patch:
        full_disk(patch, 3, 4, 5)
        assert cli.run(partial(cli.app, ["train", str(tmp_path / "r.yaml")])) == 74
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("sightline: step 5: the state could not be saved in ")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002"]
    assert result_hashes(trained(recipe)) == result_hashes(trained(align_recipe(world, tmp_path / "straight")))


def test_the_last_save_has_no_next_one_to_wait_for(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(align_recipe(world, tmp_path / "run", train={"save_every": STEPS}))
    full_disk(monkeypatch, 1)
    with pytest.raises(StorageError, match="it continues$"):
        train(run, quiet=True)


def break_late(world: Path, name: str) -> Callable[[], None]:
    """A picture whose header stays whole while its content goes."""
    path = world / "pictures" / name
    content = path.read_bytes()
    return lambda: path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("policy", "allowed", "ends"), [("fail", 1.0, True), ("skip", 0.0, True), ("skip", 0.5, False)]
)
def test_a_picture_that_breaks_during_the_run_is_left_out_if_the_recipe_allows_it(
    tmp_path: Path, policy: str, allowed: float, ends: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    world = make_world(tmp_path / "world")
    samples = json.loads((world / "align.json").read_text())
    recipe = align_recipe(world, tmp_path / "run", bad_samples={"policy": policy, "max_fraction": allowed})
    run = prepared(recipe)
    break_late(world, samples[0]["image"])()
    if ends:
        with pytest.raises(DataError, match=samples[0]["image"]):
            train(run, quiet=True)
        return
    train(run, quiet=True)
    affected = sum(sample["image"] == samples[0]["image"] for sample in samples)
    assert run.state.lost >= affected
    assert capsys.readouterr().err.count("left out at step ") == run.state.lost


def test_a_run_does_not_go_on_from_a_start_that_was_trained_anew(world: Path, aligned: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    shutil.copytree(aligned, start)
    recipe = instruct_recipe(world, tmp_path / "run", start=start)
    trained(recipe)
    shutil.rmtree(start)
    trained(align_recipe(world, start, train={"lr": {"connector": 5e-4}}))
    with pytest.raises(ConfigError, match="another recipe or other data"):
        prepared(recipe)
