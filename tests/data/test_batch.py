"""Batches: what lies where in packed rows and padded ones, each picture once, and the plan of rows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from sightline.data.batch import Batch, RowPlan, pack, pad, plan_rows
from sightline.data.processor import Example
from sightline.data.tokens import IGNORE
from tests.train.small_run import toy_examples

EXAMPLES = toy_examples(11)
PAD = 77
X = IGNORE


def example(length: int, *, trained: int, pictures: tuple[str, ...] = (), name: str = "x") -> Example:
    """Each picture is filled with the number of letters in its name."""
    ids = torch.arange(10, 10 + length)
    labels = ids.clone()
    labels[: length - trained] = IGNORE
    pixels = torch.stack([torch.full((3, 4, 4), float(len(one))) for one in pictures]) if pictures else torch.zeros(0)
    return Example(id=name, input_ids=ids, labels=labels, pixels=pixels, pictures=pictures)


# ---- packed and padded -----------------------------------------------------------------------------------------------


def test_a_packed_row_has_its_samples_behind_one_another_and_counts_positions_anew() -> None:
    batch = pack([example(3, trained=1, name="a"), example(5, trained=2, name="b"), example(1, trained=1, name="c")])
    assert (batch.ids, batch.lengths) == (("a", "b", "c"), (3, 5, 1))
    assert batch.input_ids.tolist() == [[10, 11, 12, 10, 11, 12, 13, 14, 10]]
    assert batch.labels.tolist() == [[X, X, 12, X, X, X, 13, 14, X]]
    assert batch.position_ids is not None
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 0]]
    assert batch.attention_mask is None
    assert batch.samples_of_positions.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1, 2]]
    assert (batch.tokens, batch.trained_tokens) == (9, 3)


def test_rows_are_padded_on_the_right_and_padding_is_masked() -> None:
    batch = pad([example(3, trained=1, name="a"), example(5, trained=2, name="b")], pad_id=PAD)
    assert (batch.ids, batch.lengths) == (("a", "b"), (3, 5))
    assert batch.input_ids.tolist() == [[10, 11, 12, PAD, PAD], [10, 11, 12, 13, 14]]
    assert batch.labels.tolist() == [[X, X, 12, X, X], [X, X, X, 13, 14]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.position_ids is None
    assert batch.samples_of_positions.tolist() == [[0] * 5, [1] * 5]
    assert {batch.input_ids.dtype, batch.labels.dtype, batch.attention_mask.dtype} == {torch.int64}
    assert (batch.tokens, batch.trained_tokens) == (8, 3)


@pytest.mark.parametrize("make", [pack, lambda examples: pad(examples, pad_id=PAD)])
def test_a_label_that_nothing_comes_before_is_not_trained(make: object) -> None:
    assert callable(make)
    batch: Batch = make([example(3, trained=3), example(2, trained=2)])
    assert batch.trained_tokens == 3


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_each_picture_is_there_once_and_shown_wherever_it_occurs() -> None:
    rows = [
        example(3, trained=1, pictures=("a", "bb")),
        example(4, trained=1),
        example(5, trained=1, pictures=("ccc", "bb", "ccc")),
    ]
    for batch in (pack(rows), pad(rows, pad_id=PAD)):
        assert batch.pixels is not None
        assert batch.pixels.shape == (3, 3, 4, 4)
        assert batch.pixels[:, 0, 0, 0].tolist() == [1.0, 2.0, 3.0]
        assert batch.shown.tolist() == [0, 1, 2, 1, 2]


def seen(length: int, *, pictures: tuple[str, ...]) -> Example:
    """An example whose pictures are encoded already: to as many letters as their names have."""
    features = tuple(torch.full((2, 5), float(len(one)), dtype=torch.bfloat16) for one in pictures)
    whole = example(length, trained=1, pictures=pictures)
    return replace(whole, pixels=torch.zeros(0, 3, 4, 4), features=features)


def test_features_take_the_place_of_pixels() -> None:
    rows = [seen(3, pictures=("a", "bb")), example(4, trained=1), seen(5, pictures=("bb", "ccc"))]
    for batch in (pack(rows), pad(rows, pad_id=PAD)):
        assert batch.pixels is None
        assert batch.features is not None
        assert (batch.features.shape, batch.features.dtype) == ((3, 2, 5), torch.bfloat16)
        assert batch.features[:, 0, 0].tolist() == [1.0, 2.0, 3.0]
        assert batch.shown.tolist() == [0, 1, 1, 2]


def test_pictures_with_features_come_before_those_with_pixels() -> None:
    rows = [
        example(3, trained=1, pictures=("a", "bb")),
        seen(3, pictures=("dddd", "bb", "ccc")),
        example(3, trained=1, pictures=("ccc", "eeeee", "dddd")),
    ]
    batch = pack(rows)
    assert batch.features is not None
    assert batch.pixels is not None
    assert batch.features[:, 0, 0].tolist() == [4.0, 3.0]
    assert batch.pixels[:, 0, 0, 0].tolist() == [1.0, 2.0, 5.0]
    numbers = [*batch.features[:, 0, 0].tolist(), *batch.pixels[:, 0, 0, 0].tolist()]
    assert [numbers[place] for place in batch.shown.tolist()] == [1, 2, 4, 2, 3, 3, 5, 4]


def test_text_alone_has_no_pixels() -> None:
    batch = pack([example(3, trained=1), example(4, trained=1)])
    assert batch.pixels is None
    assert batch.features is None
    assert batch.shown.tolist() == []


def test_a_batch_moves_to_another_device_whole() -> None:
    features = tuple(torch.zeros(16, 32) for _ in EXAMPLES[0].pictures)
    rows = [replace(EXAMPLES[0], features=features), *EXAMPLES[1:3]]
    for made in (pack(rows), pad(rows, pad_id=PAD)):
        batch = made.to(torch.device("meta"))
        names = ("input_ids", "labels", "attention_mask", "position_ids", "features", "pixels", "shown")
        tensors = [getattr(batch, name) for name in names]
        assert {tensor.device.type for tensor in tensors if tensor is not None} == {"meta"}
        assert sum(tensor is None for tensor in tensors) == 1
        assert (batch.ids, batch.lengths) == (("t0", "t1", "t2"), made.lengths)


# ---- the cut of a step -----------------------------------------------------------------------------------------------


def plan(*, packed: bool, size: int = 4, row_length: int = 60) -> RowPlan:
    return RowPlan(packed=packed, row_length=row_length, micro_batch=size, pad_id=PAD)


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 11), (4, [4, 4, 3]), (11, [11]), (16, [11])])
def test_padded_batches_have_so_many_samples_and_like_lengths_together(size: int, sizes: list[int]) -> None:
    batches = plan(packed=False, size=size).batches(EXAMPLES)
    assert [len(batch.ids) for batch in batches] == sizes
    lengths = [length for batch in batches for length in batch.lengths]
    assert lengths == sorted(lengths)


def test_packed_rows_keep_to_their_length_and_hold_no_padding() -> None:
    batches = plan(packed=True).batches(EXAMPLES)
    assert 1 < len(batches) < len(EXAMPLES)
    assert all(batch.input_ids.shape == (1, batch.tokens) and batch.tokens <= 60 for batch in batches)


@pytest.mark.parametrize("packed", [True, False])
def test_every_sample_is_in_one_batch_with_its_own_pictures_whatever_the_order_given(packed: bool) -> None:
    batches, again = (plan(packed=packed).batches(examples) for examples in (EXAMPLES, EXAMPLES[::-1]))
    by_name = {item.id: item for item in EXAMPLES}
    assert sorted(name for batch in batches for name in batch.ids) == sorted(by_name)
    assert sum(batch.trained_tokens for batch in batches) == sum(int((x.labels != IGNORE).sum()) for x in EXAMPLES)
    for batch in batches:
        pixels = torch.cat([by_name[name].pixels for name in batch.ids])
        assert torch.equal(batch.pixels[batch.shown] if batch.pixels is not None else pixels[:0], pixels)
    if not packed:
        assert [batch.ids for batch in batches] == [batch.ids for batch in again]


@pytest.mark.parametrize(
    ("lengths", "limit", "expected"),
    [
        ([], 10, []),
        ([3], 10, [[0]]),
        ([12], 10, [[0]]),
        ([4, 6, 5, 5], 10, [[0, 1], [2, 3]]),
        ([5, 12, 5, 1], 10, [[1], [0, 2], [3]]),
        ([7, 2, 4, 2, 4, 1], 10, [[0, 1, 5], [2, 3, 4]]),
        ([1, 1, 1, 1], 2, [[0, 1], [2, 3]]),
    ],
)
def test_the_longest_goes_first_into_the_first_row_with_room(
    lengths: list[int], limit: int, expected: list[list[int]]
) -> None:
    assert plan_rows(lengths, limit=limit) == expected


def test_samples_about_the_same_pictures_share_a_row_as_far_as_they_fit() -> None:
    names = [("a",), (), ("b",), ("a",), (), ("a",), ("b",)]
    assert plan_rows([3, 3, 3, 3, 3, 3, 3], limit=9, together=names) == [[0, 3, 5], [1, 2, 6], [4]]
    assert plan_rows([5, 1, 1, 5, 1, 5, 1], limit=10, together=names) == [[0, 3], [1, 2, 4, 5, 6]]


def test_rows_are_few_and_none_is_too_long() -> None:
    rng = random.Random(3)
    for _ in range(200):
        lengths = [rng.randint(1, 120) for _ in range(rng.randint(1, 60))]
        rows = plan_rows(lengths, limit=100)
        assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
        assert all(len(row) == 1 or sum(lengths[index] for index in row) <= 100 for row in rows)
        # First-fit decreasing needs at most 11/9 of the fewest rows, and one (Dosa 2007, theorem 1: and 6/9).
        alone = sum(length > 100 for length in lengths)
        fewest = alone + -(-sum(length for length in lengths if length <= 100) // 100)
        assert len(rows) <= 11 / 9 * max(fewest, sum(length > 50 for length in lengths)) + 1
