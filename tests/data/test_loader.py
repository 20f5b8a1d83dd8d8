"""Steps: worker processes that change nothing, and samples that break on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from sightline.data.batch import Batch, RowPlan
from sightline.data.loader import Step, StepMaker, steps
from sightline.data.processor import Example
from sightline.errors import DataError
from tests.train.small_run import toy_examples

EXAMPLES = toy_examples(11)
PAD = 77


def fetch(index: int) -> Example:
    """What a run's samples do, at the top of a module so that it can be sent to another process."""
    return EXAMPLES[index]


def fetch_or_refuse(index: int) -> Example:
    if index == 4:
        raise DataError("4.png: damaged", reason="image_unreadable")
    return EXAMPLES[index]


def rows(size: int) -> RowPlan:
    return RowPlan(packed=False, row_length=1, micro_batch=size, pad_id=PAD)


def maker(size: int = 2, fetch: object = fetch) -> StepMaker:
    assert callable(fetch)
    return StepMaker(fetch, num_samples=len(EXAMPLES), batch=6, rows=rows(size), seed=3)


def same(first: Batch, second: Batch) -> bool:
    return first.ids == second.ids and all(
        one is other is None or (one is not None and other is not None and torch.equal(one, other))
        for one, other in (
            (getattr(first, name), getattr(second, name))
            for name in ("input_ids", "labels", "attention_mask", "position_ids", "pixels", "shown")
        )
    )


# ---- steps -----------------------------------------------------------------------------------------------------------


def loaded(make: StepMaker, *, start: int, stop: int, workers: int) -> Iterator[Step]:
    return steps(make, start=start, stop=stop, workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_give_the_same_batches_in_the_same_order(workers: int) -> None:
    found = list(loaded(maker(), start=3, stop=10, workers=workers))
    assert len(found) == 7
    for step, made in enumerate(found, start=3):
        wanted = maker()(step)
        assert len(made.batches) == len(wanted.batches) == 3
        assert all(same(first, second) for first, second in zip(made.batches, wanted.batches, strict=True))
        assert made.lost == ()


def test_no_steps_left_is_no_batch() -> None:
    assert list(loaded(maker(), start=4, stop=4, workers=0)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_fails_in_a_worker_is_the_same_one_line_error(workers: int) -> None:
    with pytest.raises(DataError, match=r"^4\.png: damaged$") as caught:
        list(loaded(maker(fetch=fetch_or_refuse), start=0, stop=5, workers=workers))
    assert caught.value.reason == "image_unreadable"


def test_what_came_before_a_failing_picture_is_still_trained_on() -> None:
    """The error belongs to its own step, however far ahead the workers are."""
    make = StepMaker(fetch_or_refuse, num_samples=11, batch=1, rows=rows(1), seed=3)
    bad = next(step for step in range(11) if maker_index(step) == 4)
    source = loaded(make, start=0, stop=11, workers=2)
    assert [next(source).batches[0].ids[0] for _ in range(bad)] == [f"t{maker_index(step)}" for step in range(bad)]
    with pytest.raises(DataError):
        next(source)


def maker_index(step: int) -> int:
    make = StepMaker(lambda index: replace(EXAMPLES[0], id=str(index)), num_samples=11, batch=1, rows=rows(1), seed=3)
    return int(make(step).batches[0].ids[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_may_be_left_out_is_and_the_others_stay_as_they_were(workers: int) -> None:
    make = StepMaker(fetch_or_refuse, num_samples=11, batch=6, rows=rows(2), seed=3, skip=True)
    for step, made in enumerate(loaded(make, start=0, stop=4, workers=workers)):
        due = [name for batch in maker()(step).batches for name in batch.ids]
        found = [name for batch in made.batches for name in batch.ids]
        assert found == [name for name in due if name != "t4"]
        assert [refusal.reason for refusal in made.lost] == ["image_unreadable"] * ("t4" in due)


def test_a_step_of_which_nothing_is_left_is_an_error() -> None:
    make = StepMaker(fetch_or_refuse, num_samples=11, batch=1, rows=rows(1), seed=3, skip=True)
    bad = next(step for step in range(11) if maker_index(step) == 4)
    with pytest.raises(DataError, match=rf"^step {bad + 1} has no usable sample left: 4\.png: damaged$"):
        make(bad)
