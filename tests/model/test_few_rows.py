"""Linear layers for answering on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from sightline.model import few_rows
from sightline.model.few_rows import FEW, FewRowsLinear, product_of_few, quicken
from tests.fakes import LANGUAGE_FAMILIES, tiny_language


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def layer(*, bias: bool) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(24, 36, bias=bias)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 24), (24,), (1, 1, 24), (2, 24), (3, 2, 24), (FEW, 24), (FEW + 1, 24), (0, 24)])
@torch.no_grad()
def test_a_quick_layer_gives_what_the_layer_gives(shape: tuple[int, ...], bias: bool, threads: int) -> None:
    quick, plain = nn.Sequential(layer(bias=bias)), layer(bias=bias)
    quicken(quick)
    states = torch.randn(shape)
    found, expected = quick(states), plain(states)
    assert found.shape == expected.shape
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("rows", "few"), [(1, True), (FEW, True), (FEW + 1, False)])
def test_only_few_rows_without_gradients_are_multiplied_otherwise(
    rows: int, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def watched(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        asked.append(len(states))
        return product_of_few(states, weight)

    monkeypatch.setattr(few_rows, "product_of_few", watched)
    model = nn.Sequential(layer(bias=True))
    quicken(model)
    with torch.no_grad():
        model(torch.randn(rows, 24))
    assert asked == ([rows] if few else [])
    model(torch.randn(rows, 24)).sum().backward()
    assert model[0].weight.grad is not None
    model.half()
    with torch.no_grad():
        model(torch.randn(rows, 24).half())
    assert len(asked) == few


@pytest.mark.parametrize("family", LANGUAGE_FAMILIES)
def test_a_quickened_model_is_the_same_model(family: str) -> None:
    model, plain = tiny_language(family), tiny_language(family)
    quicken(model)
    assert isinstance(model.get_output_embeddings(), FewRowsLinear)
    assert model.state_dict().keys() == plain.state_dict().keys()
    ids = torch.arange(2, 6)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, plain(ids).logits, atol=1e-5, rtol=1e-5)


def test_layers_that_others_have_derived_stay() -> None:
    class Theirs(nn.Linear):
        pass

    model = nn.Sequential(Theirs(2, 2), nn.Linear(2, 2))
    quicken(model)
    assert [type(module) for module in model] == [Theirs, FewRowsLinear]
