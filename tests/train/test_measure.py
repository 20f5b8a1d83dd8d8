"""Three real steps in a process of their own: what they took, and nothing of them is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.config import dump_recipe
from sightline.errors import ConfigError
from sightline.train.measure import STEPS, measure
from tests.command_line import Captured, sightline
from tests.train.small_run import align_recipe


def test_measured_steps_leave_nothing_behind(world: Path, tmp_path: Path) -> None:
    recipe = align_recipe(world, tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    taken = measure(recipe, device="cpu")
    assert len(taken.seconds) == len(taken.waited) == STEPS
    assert all(0 < waited < seconds for waited, seconds in zip(taken.waited, taken.seconds, strict=True))
    assert taken.peak_memory is None or taken.peak_memory > 50 * 2**20
    assert sorted(tmp_path.rglob("*")) == before


def test_what_the_run_would_refuse_is_refused_in_its_words(world: Path, tmp_path: Path) -> None:
    recipe = align_recipe(world, tmp_path / "run", data=[{"path": str(tmp_path / "nowhere.json")}])
    with pytest.raises(ConfigError, match=r"data\.0\.path: .*nowhere\.json"):
        measure(recipe, device="cpu")


def test_plan_measures_on_request(world: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "recipe.yaml").write_text(dump_recipe(align_recipe(world, tmp_path / "run")))
    assert sightline("plan", tmp_path / "recipe.yaml", "--device", "cpu", "--measure", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["measured"]["seconds"]) == STEPS
    assert not (tmp_path / "run").exists()
