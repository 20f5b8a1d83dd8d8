"""A world holds the same steps for every side."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.mixture import Draft
from benchmarks.ours import Ours
from benchmarks.sizes import MODES, SIZES
from benchmarks.world import GROUPED_BATCHES, as_drawn, grouped_steps, make_world, open_world, random_steps

from sightline.data.mixture import batch_indexes

TINY = SIZES["tiny"]


def test_the_file_is_permuted_so_that_our_trainer_meets_the_samples_in_order() -> None:
    entries = list("abcdefghijkl")
    placed = as_drawn(entries, 4)
    met = [placed[index] for step in range(3) for index in batch_indexes(step, num_samples=12, batch=4, seed=11)]
    assert met == entries


def test_grouped_steps_are_alike_within_and_cover_short_and_long() -> None:
    drafts = [Draft("any", ((1 + 7 * number % 997, 1),), 1) for number in range(TINY.batch * GROUPED_BATCHES)]
    steps = grouped_steps(drafts, TINY, 5)
    assert [len(step) for step in steps] == [TINY.batch] * 5
    assert len({index for step in steps for index in step}) == 5 * TINY.batch
    lengths = [[drafts[index].tokens for index in step] for step in steps]
    assert all(max(step) - min(step) < 60 for step in lengths)
    means = [sum(step) / len(step) for step in lengths]
    assert means == sorted(means, reverse=True)
    assert means[0] > 5 * means[-1]


def test_what_warms_up_is_none_of_the_steps_that_stand_for_an_epoch() -> None:
    drafts = [Draft("any", ((1 + 7 * number % 997, 1),), 1) for number in range(TINY.batch * GROUPED_BATCHES)]
    first, *rest = grouped_steps(drafts, TINY, 4, 1)
    assert rest == grouped_steps(drafts, TINY, 4)
    assert first not in rest


def test_random_steps_take_the_samples_as_they_were_drawn() -> None:
    assert random_steps(6, 3) == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("grouped", [False, True])
def test_our_steps_hold_the_samples_of_the_plan(tmp_path: Path, grouped: bool) -> None:
    world = make_world(tmp_path / "world", TINY, MODES["stage2"], steps=3, grouped=grouped)
    ours = Ours(world.recipe(tmp_path / "run"))
    taken = [ours.step() for _ in world.order]
    ours.close()
    assert [set(step.ids) for step in taken] == [set(step) for step in world.order]
    assert open_world(world.root) == world


def test_a_sample_may_show_several_pictures(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", TINY, MODES["stage2"], steps=2, pictures=3, distinct=4)
    shown = [len(sample.images) for sample in world.samples().samples]
    assert set(shown) <= {0, 3}
    assert len(list((world.root / "pictures").iterdir())) <= 4
