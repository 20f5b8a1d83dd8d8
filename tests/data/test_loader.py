"""Batches: shapes, masks, the cut into micro-batches, and worker processes that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from sightline.data.loader import Batch, Step, StepMaker, collate, micro_batches, steps
from sightline.data.processor import Example
from sightline.data.tokens import IGNORE
from sightline.errors import DataError
from tests.train.small_run import toy_examples

EXAMPLES = toy_examples(11)
PAD = 77


def example(length: int, *, trained: int, pictures: int = 0, name: str = "x") -> Example:
    ids = torch.arange(10, 10 + length)
    labels = ids.clone()
    labels[: length - trained] = IGNORE
    return Example(id=name, input_ids=ids, labels=labels, pixels=torch.full((pictures, 3, 4, 4), float(length)))


def fetch(index: int) -> Example:
    """What a run's samples do, at the top of a module so that it can be sent to another process."""
    return EXAMPLES[index]


def fetch_or_refuse(index: int) -> Example:
    if index == 4:
        raise DataError("4.png: damaged", reason="image_unreadable")
    return EXAMPLES[index]


def maker(size: int = 2, fetch: object = fetch) -> StepMaker:
    assert callable(fetch)
    return StepMaker(fetch, num_samples=len(EXAMPLES), batch=6, size=size, seed=3, pad_id=PAD)


def same(first: Batch, second: Batch) -> bool:
    pixels = first.pixels is second.pixels is None or (
        first.pixels is not None and second.pixels is not None and torch.equal(first.pixels, second.pixels)
    )
    return (
        pixels
        and first.ids == second.ids
        and torch.equal(first.input_ids, second.input_ids)
        and torch.equal(first.labels, second.labels)
        and torch.equal(first.attention_mask, second.attention_mask)
    )


# ---- collate ---------------------------------------------------------------------------------------------------------


def test_rows_are_padded_on_the_right_and_padding_is_masked() -> None:
    batch = collate([example(3, trained=1, name="a"), example(5, trained=2, name="b")], pad_id=PAD)
    assert batch.ids == ("a", "b")
    assert batch.input_ids.tolist() == [[10, 11, 12, PAD, PAD], [10, 11, 12, 13, 14]]
    assert batch.labels.tolist() == [[IGNORE, IGNORE, 12, IGNORE, IGNORE], [IGNORE, IGNORE, IGNORE, 13, 14]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert {batch.input_ids.dtype, batch.labels.dtype, batch.attention_mask.dtype} == {torch.int64}
    assert (batch.tokens, batch.trained_tokens) == (8, 3)


def test_a_label_at_the_first_position_does_not_count() -> None:
    assert collate([example(3, trained=3)], pad_id=PAD).trained_tokens == 2


def test_pictures_of_all_rows_come_in_reading_order() -> None:
    rows = [example(3, trained=1, pictures=2), example(4, trained=1), example(5, trained=1, pictures=1)]
    batch = collate(rows, pad_id=PAD)
    assert batch.pixels is not None
    assert batch.pixels.shape == (3, 3, 4, 4)
    assert batch.pixels[:, 0, 0, 0].tolist() == [3.0, 3.0, 5.0]


def test_text_alone_has_no_pixels() -> None:
    assert collate([example(3, trained=1), example(4, trained=1)], pad_id=PAD).pixels is None


def test_a_batch_moves_to_another_device_whole() -> None:
    batch = collate(EXAMPLES[:3], pad_id=PAD).to(torch.device("meta"))
    assert batch.pixels is not None
    tensors = (batch.input_ids, batch.labels, batch.attention_mask, batch.pixels)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert batch.ids == ("t0", "t1", "t2")
    assert collate([example(3, trained=1)], pad_id=PAD).to(torch.device("meta")).pixels is None


# ---- micro-batches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 11), (4, [4, 4, 3]), (11, [11]), (16, [11])])
def test_micro_batches_hold_every_example_once(size: int, sizes: list[int]) -> None:
    batches = micro_batches(EXAMPLES, size=size, pad_id=PAD)
    assert [len(batch.ids) for batch in batches] == sizes
    assert sorted(name for batch in batches for name in batch.ids) == sorted(item.id for item in EXAMPLES)
    assert sum(batch.trained_tokens for batch in batches) == sum(int((x.labels != IGNORE).sum()) for x in EXAMPLES)


def test_like_lengths_go_together_and_the_order_given_does_not_matter() -> None:
    batches = micro_batches(EXAMPLES, size=3, pad_id=PAD)
    lengths = [int(row.sum()) for batch in batches for row in batch.attention_mask]
    assert lengths == sorted(lengths)
    again = micro_batches(EXAMPLES[::-1], size=3, pad_id=PAD)
    assert all(same(first, second) for first, second in zip(batches, again, strict=True))


def test_rows_keep_their_own_pictures_when_they_are_sorted() -> None:
    for batch in micro_batches(EXAMPLES, size=4, pad_id=PAD):
        wanted = [item.pixels for name in batch.ids for item in EXAMPLES if item.id == name]
        assert batch.pixels is not None
        assert torch.equal(batch.pixels, torch.cat(wanted))


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
    make = StepMaker(fetch_or_refuse, num_samples=11, batch=1, size=1, seed=3, pad_id=PAD)
    bad = next(step for step in range(11) if maker_index(step) == 4)
    source = loaded(make, start=0, stop=11, workers=2)
    assert [next(source).batches[0].ids[0] for _ in range(bad)] == [f"t{maker_index(step)}" for step in range(bad)]
    with pytest.raises(DataError):
        next(source)


def maker_index(step: int) -> int:
    make = StepMaker(
        lambda index: replace(EXAMPLES[0], id=str(index)), num_samples=11, batch=1, size=1, seed=3, pad_id=0
    )
    return int(make(step).batches[0].ids[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_may_be_left_out_is_and_the_others_stay_as_they_were(workers: int) -> None:
    make = StepMaker(fetch_or_refuse, num_samples=11, batch=6, size=2, seed=3, pad_id=PAD, skip=True)
    for step, made in enumerate(loaded(make, start=0, stop=4, workers=workers)):
        due = [name for batch in maker()(step).batches for name in batch.ids]
        found = [name for batch in made.batches for name in batch.ids]
        assert found == [name for name in due if name != "t4"]
        assert [refusal.reason for refusal in made.lost] == ["image_unreadable"] * ("t4" in due)


def test_a_step_of_which_nothing_is_left_is_an_error() -> None:
    make = StepMaker(fetch_or_refuse, num_samples=11, batch=1, size=1, seed=3, pad_id=PAD, skip=True)
    bad = next(step for step in range(11) if maker_index(step) == 4)
    with pytest.raises(DataError, match=rf"^step {bad + 1} has no usable sample left: 4\.png: damaged$"):
        make(bad)
