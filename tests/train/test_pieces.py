"""Which rows of a cut tensor are whose, and what is not cut stays as it is; `test_shard` cuts over real processes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.train.pieces import any_cut, clip_gradients, gathered, gradient_norm, own, own_rows, place_of
from sightline.train.ranks import ALONE


@pytest.mark.parametrize(
    ("rows", "ranks", "expected"),
    [
        (6, 1, [(0, 6)]),
        (6, 2, [(0, 3), (3, 6)]),
        (7, 2, [(0, 4), (4, 7)]),
        (7, 3, [(0, 3), (3, 6), (6, 7)]),
        (2, 3, [(0, 1), (1, 2), (2, 2)]),
        (9, 8, [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9), (9, 9), (9, 9), (9, 9)]),
    ],
)
def test_rows_are_dealt_out_as_torch_cuts_them(rows: int, ranks: int, expected: list[tuple[int, int]]) -> None:
    found = [own_rows(rows, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert [(each.start, each.stop) for each in found] == expected
    numbers = torch.arange(rows)
    for each, chunk in zip(found, torch.chunk(numbers, ranks), strict=False):
        assert numbers[each].tolist() == chunk.tolist()


def test_what_is_not_cut_stays_as_it_is() -> None:
    layer = nn.Linear(2, 3)
    assert not any_cut(layer)
    assert own(layer.weight) is layer.weight
    assert place_of(layer.weight) == slice(0, 3)
    assert [name for name, _ in gathered(dict(layer.named_parameters()), first=True)] == ["weight", "bias"]
    assert list(gathered(dict(layer.named_parameters()), first=False)) == []


def test_gradients_of_one_process_are_clipped_as_torch_does() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(4))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    norm = gradient_norm([each.grad for each in parameters if each.grad is not None], ALONE)
    assert norm.item() == 5
    clip_gradients(parameters, 1.0, norm)
    assert parameters[0].grad.tolist() == pytest.approx([0.6, 0.0], rel=1e-5)
    assert parameters[1].grad.tolist() == pytest.approx([0.8], rel=1e-5)
    assert parameters[2].grad is None
