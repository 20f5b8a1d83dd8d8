"""The limit: the products of a model's own shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.limit import gemm_rate, product_seconds, shapes, share_of_limit, shown_by_steps
from benchmarks.sizes import MODES, SIZES
from benchmarks.world import make_world
from peft import LoraConfig, get_peft_model

from sightline.data.tokens import IGNORE
from tests.fakes import tiny_model


def test_the_share_is_flops_over_time_over_rate() -> None:
    assert share_of_limit(100.0, 4.0, 50.0) == 0.5


def test_shapes_are_those_of_the_layers_without_the_head() -> None:
    found = shapes(tiny_model())  # 2 layers of width 32, 4 heads of 8, 2 of them for keys and values
    assert found == {(32, 32): 4, (32, 16): 4, (32, 48): 4, (48, 32): 2}


def test_adapters_do_not_change_the_matrices_that_are_timed() -> None:
    model = tiny_model()
    plain = shapes(model)
    model.language = get_peft_model(model.language, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert set(plain) <= set(shapes(model))
    assert all(shapes(model)[shape] >= count for shape, count in plain.items())


def test_a_rate_is_positive_and_of_all_products() -> None:
    rate = gemm_rate(tiny_model(), rows=64, head_rows=16)
    layers = 4 * 32 * 32 + 4 * 32 * 16 + 6 * 32 * 48
    assert rate.flops == 6 * (64 * layers + 16 * 32 * 96)
    assert rate.per_second > 0
    assert product_seconds(8, 4, 2, device=torch.device("cpu"), dtype=torch.float32) > 0


@pytest.mark.parametrize("mode", ["stage1", "stage2"])
def test_a_step_shows_what_its_samples_hold(tmp_path: Path, mode: str) -> None:
    world = make_world(tmp_path / "world", SIZES["tiny"], MODES[mode], steps=2)
    samples = world.samples()
    place = {sample.id: index for index, sample in enumerate(samples.samples)}
    for ids, shown in zip(world.order, shown_by_steps(world), strict=True):
        examples = [samples.example(place[name]) for name in ids]
        assert shown.positions == sum(len(example.input_ids) for example in examples)
        assert shown.trained == sum(int((example.labels[1:] != IGNORE).sum()) for example in examples)
        assert shown.pictures == sum(len(example.pixels) for example in examples)
