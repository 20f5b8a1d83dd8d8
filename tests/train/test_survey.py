"""The lengths of a run's samples, before anything is prepared."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.data.mixture import batch_indexes
from sightline.errors import DataError
from sightline.recipe import Recipe
from sightline.train import survey as module
from sightline.train.assemble import assemble_processor
from sightline.train.survey import assumed, seconds_per_picture, steps_of, survey
from tests.fakes import PATCHES
from tests.train.small_run import align_recipe, instruct_recipe, prepared


def surveyed(recipe: Recipe) -> module.Survey:
    return survey(recipe, assemble_processor(recipe), picture_tokens=PATCHES)


def test_steps_show_what_the_runs_own_steps_will(world: Path, tmp_path: Path) -> None:
    recipe = instruct_recipe(world, tmp_path / "run", start=None)
    steps = steps_of(recipe, surveyed(recipe), steps=5)
    run = prepared(recipe)
    for number, step in enumerate(steps):
        batches = run.make_step(number).batches
        assert sum(one.positions for one in step) == sum(sum(batch.lengths) for batch in batches)
        assert sum(one.trained for one in step) == sum(batch.trained_tokens for batch in batches)
        indexes = batch_indexes(number, num_samples=len(run.samples), batch=4, seed=recipe.seed)
        assert sum(one.pictures for one in step) == sum(len(run.samples.samples[index].images) for index in indexes)
    run.release()


def test_of_many_samples_some_stand_for_all(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    found = surveyed(align_recipe(world, tmp_path / "run"))
    assert (found.count, len(found.seen), found.source) == (13, 5, "5 of 13 samples of the recipe's data")


def test_data_without_a_usable_sample_is_refused(world: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('[{"id": "a"}]')
    with pytest.raises(DataError, match="no usable samples"):
        surveyed(align_recipe(world, tmp_path / "run", data=[{"path": str(tmp_path / "bad.json")}]))


@pytest.mark.parametrize("table", [module._CAPTIONS, module._INSTRUCTIONS])
def test_the_assumed_kinds_are_all_of_a_mixture(table: tuple[tuple[int, int, int, int], ...]) -> None:
    assert sum(share for share, *_ in table) == 100
    assert all(0 < trained < text for _, text, trained, _ in table)


def test_an_assumed_sample_is_no_longer_than_the_recipe_allows(world: Path, tmp_path: Path) -> None:
    found = assumed(instruct_recipe(world, tmp_path / "run", start=None), 576, why="of a test")
    assert max(one.positions for one in found.seen) == 256


def test_reading_a_picture_takes_time_where_there_is_one(world: Path, tmp_path: Path) -> None:
    recipe = align_recipe(world, tmp_path / "run")
    assert seconds_per_picture(recipe, assemble_processor(recipe)) > 0
    assert seconds_per_picture(recipe, None) == 0
