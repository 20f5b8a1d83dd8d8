"""Rows without numbers: their bytes and FLOPs are those of the same rows with numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.recipe import Recipe
from sightline.train import linear_loss
from sightline.train.flops import Shown, step_flops
from sightline.train.roofline import Rates
from sightline.train.simulate import Row, RowCost, fake_model, simulate_row
from tests.train.small_run import instruct_recipe

RATES = Rates(matmul=1e9, attention=1e9, bandwidth=1e9)
ROW = Row(lengths=(40, 25, 31), trained=20, pictures=3)
STAGE_1: dict[str, Any] = {"lr": {"connector": 1e-3}}
STAGE_2: dict[str, Any] = {"lr": {"connector": 1e-3, "language": 1e-3}}


def recipe(world: Path, **train: Any) -> Recipe:
    return instruct_recipe(world, world / "never", start=None, train=train)


def cost(
    world: Path, row: Row = ROW, *, dtype: torch.dtype = torch.float32, again: bool = False, **train: Any
) -> RowCost:
    with fake_model(recipe(world, **train), dtype=dtype, vocabulary=None) as model:
        return simulate_row(model, row, dtype=dtype, rates=RATES, again=again)


@pytest.mark.parametrize("train", [STAGE_1, STAGE_2, {**STAGE_2, "lora": {"rank": 4, "dropout": 0.0}}])
def test_what_is_done_is_what_is_necessary(world: Path, train: dict[str, Any]) -> None:
    with fake_model(recipe(world, **train), dtype=torch.float32, vocabulary=None) as model:
        found = simulate_row(model, ROW, dtype=torch.float32, rates=RATES)
        shown = Shown.of(ROW.lengths, trained=ROW.trained, pictures=ROW.pictures)
        assert found.flops == step_flops(model).total(shown)


def test_recomputing_trades_memory_for_arithmetic(world: Path) -> None:
    kept, recomputed = cost(world, **STAGE_2), cost(world, **STAGE_2, gradient_checkpointing=True)
    assert recomputed.activations < 0.7 * kept.activations
    assert recomputed.flops > kept.flops


def test_activations_grow_with_the_row(world: Path) -> None:
    twice = Row(lengths=ROW.lengths * 2, trained=40, pictures=6)
    assert cost(world, twice, **STAGE_2).activations == pytest.approx(2 * cost(world, **STAGE_2).activations, rel=0.05)


def test_gradients_of_an_earlier_row_are_held(world: Path) -> None:
    first, second = cost(world, **STAGE_2), cost(world, **STAGE_2, again=True)
    with fake_model(recipe(world, **STAGE_2), dtype=torch.float32, vocabulary=None) as model:
        gradients = 4 * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert first.peak >= gradients
    assert second.peak >= gradients + second.activations


@pytest.mark.parametrize("train", [STAGE_1, {**STAGE_2, "lora": {"rank": 4, "dropout": 0.0}}])
def test_a_larger_vocabulary_adds_next_to_nothing_to_what_a_row_holds(
    world: Path, train: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_loss, "LOGITS_AT_ONCE", ROW.trained * 1024)  # one piece, then four of the same size
    peaks = []
    for vocabulary in (1024, 4096):
        with fake_model(recipe(world, **train), dtype=torch.float32, vocabulary=vocabulary) as model:
            peaks.append(simulate_row(model, ROW, dtype=torch.float32, rates=RATES).peak)
    assert peaks[1] < 1.1 * peaks[0]


def test_half_precision_halves_what_is_kept_of_a_frozen_model(world: Path) -> None:
    whole, half = cost(world, **STAGE_1), cost(world, dtype=torch.bfloat16, **STAGE_1)
    assert 0.4 * whole.activations < half.activations < 0.8 * whole.activations


def test_a_slower_memory_takes_longer(world: Path) -> None:
    with fake_model(recipe(world, **STAGE_2), dtype=torch.float32, vocabulary=None) as model:
        slow = Rates(matmul=1e9, attention=1e9, bandwidth=1e6)
        found = simulate_row(model, ROW, dtype=torch.float32, rates=slow)
    assert found.seconds > 10 * cost(world, **STAGE_2).seconds


def test_nothing_is_allocated_or_left_behind(world: Path) -> None:
    with fake_model(recipe(world, **STAGE_2), dtype=torch.float32, vocabulary=4096) as model:
        assert model.language.get_output_embeddings().weight.shape[0] == 4096
        simulate_row(model, ROW, dtype=torch.float32, rates=RATES, again=True)
        assert all(parameter.grad is None for parameter in model.parameters())
    assert not (world / "never").exists()
