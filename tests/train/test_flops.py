"""Necessary arithmetic: counted by hand on a small model, and as torch counts what it really does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sightline.data.batch import Batch, pack
from sightline.model.packed import use_packed_attention
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import LoraSpec, PartName
from sightline.train.flops import Shown, StepFlops, attention_flops, causal_pairs, matmul_flops, step_flops
from sightline.train.lora import add_lora
from sightline.train.loss import loss_sum
from sightline.train.parts import freeze
from tests.fakes import tiny_model
from tests.train.small_run import toy_examples

LAYER = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48
"""Numbers in a layer of the tiny Llama: queries and output, keys and values of half as many heads, the MLP."""
LAST, HEAD = 3 * 32 * 48 + 2 * 32 * 32, 96 * 32
"""Of the last layer what tokens with a loss alone need: its MLP, queries and output. The output head."""
ENCODER = 2 * 17 * (4 * 32 * 32 + 2 * 32 * 48) * 2 + 16 * 3 * 8 * 8 * 32 * 2 + 2 * 17**2 * 4 * 32
"""Two of the tiny CLIP's layers for 17 tokens, 16 patches, and attention: forward alone."""


def model(
    *trains: PartName, vision: str = "clip", language: str = "llama", lora: LoraSpec | None = None
) -> VisionLanguageModel:
    made = tiny_model(vision, language).train()
    freeze(made, dict.fromkeys(trains, 1e-3))
    if lora is not None:
        add_lora(made, lora)
    assert use_packed_attention(made.language) is None
    return made


@pytest.mark.parametrize(
    ("input_gradient", "weight_gradient", "flops"),
    [(False, False, 20), (True, False, 40), (False, True, 40), (True, True, 60)],
)
def test_a_matrix_costs_as_much_again_for_each_gradient(
    input_gradient: bool, weight_gradient: bool, flops: int
) -> None:
    assert matmul_flops(10, input_gradient=input_gradient, weight_gradient=weight_gradient) == flops


def test_an_attended_pair_costs_two_products_and_twice_that_backward() -> None:
    assert attention_flops(32, gradient=False) == 2 * 2 * 32
    assert attention_flops(32, gradient=True) == 3 * 2 * 2 * 32


@pytest.mark.parametrize(("lengths", "pairs"), [([], 0), ([1], 1), ([3], 6), ([3, 2], 9), ([5], 15)])
def test_samples_attend_to_themselves_alone(lengths: list[int], pairs: int) -> None:
    assert causal_pairs(lengths) == pairs


@pytest.mark.parametrize(
    ("trains", "expected"),
    [
        (
            ("connector",),
            StepFlops(
                per_position=4 * (2 * LAYER - LAST),
                per_pair=2 * 4 * 32 * 3,
                per_trained=4 * (LAST + HEAD),
                per_picture=16 * (4 + 6) * 32 * 32,
                per_encoded=ENCODER,
            ),
        ),
        (
            ("connector", "language"),
            StepFlops(
                per_position=6 * (2 * LAYER - LAST),
                per_pair=2 * 4 * 32 * 3,
                per_trained=6 * (LAST + HEAD),
                per_picture=16 * (4 + 6) * 32 * 32,
                per_encoded=ENCODER,
            ),
        ),
        (
            ("language",),
            StepFlops(
                per_position=6 * (2 * LAYER - LAST),
                per_pair=2 * 4 * 32 * 3,
                per_trained=6 * (LAST + HEAD),
                per_picture=16 * (2 + 2) * 32 * 32,
                per_encoded=ENCODER,
            ),
        ),
    ],
    ids=["stage 1", "stage 2", "language alone"],
)
def test_counts_by_hand(trains: tuple[PartName, ...], expected: StepFlops) -> None:
    assert step_flops(model(*trains)) == expected


def test_total_is_the_sum_over_what_is_shown() -> None:
    flops = StepFlops(per_position=1, per_pair=10, per_trained=100, per_picture=1000, per_encoded=10_000)
    assert flops.total(Shown.of([2, 3], trained=4, pictures=5)) == 5 + 90 + 400 + 5000 + 50_000
    assert flops.total(Shown.of([2, 3], trained=4, pictures=5, encoded=1)) == 5 + 90 + 400 + 5000 + 10_000


@pytest.mark.parametrize("language", ["llama", "llama_tied", "qwen3", "phi3", "olmo2", "starcoder2"])
@pytest.mark.parametrize("trains", [("connector",), ("connector", "language"), ("vision", "connector", "language")])
def test_it_is_what_torch_counts(language: str, trains: tuple[PartName, ...]) -> None:
    made = model(*trains, language=language)
    assert counted(made, batch()) == step_flops(made).total(attended(batch()))


@pytest.mark.parametrize("vision", ["dinov2", "dinov2_registers"])
def test_it_is_what_torch_counts_of_other_encoders(vision: str) -> None:
    made = model("vision", "connector", vision=vision)
    assert counted(made, batch()) == step_flops(made).total(attended(batch()))


@pytest.mark.parametrize("vision", ["siglip", "vit"])
def test_a_pooling_head_that_no_feature_needs_does_not_count(vision: str) -> None:
    made = model("vision", "connector", vision=vision)
    assert counted(made, batch()) > step_flops(made).total(attended(batch()))


def test_adapters_count_with_what_they_adapt() -> None:
    made = model("connector", "language", lora=LoraSpec(rank=3, dropout=0.0))
    assert counted(made, batch()) == step_flops(made).total(attended(batch()))


def batch() -> Batch:
    return pack(toy_examples(5))


def attended(row: Batch) -> Shown:
    """What a row shows, with the pairs of the plain attention that torch counts: all, later positions too."""
    return Shown(
        positions=row.tokens,
        pairs=sum(length**2 for length in row.lengths),
        trained=row.trained_tokens,
        pictures=0 if row.pixels is None else len(row.pixels),
        encoded=0 if row.pixels is None else len(row.pixels),
    )


def added_product(into: list[int], left: list[int], right: list[int], **_: Any) -> int:
    """FLOPs of `baddbmm_`, which torch does not know, from shapes."""
    return int(2 * math.prod(left) * right[-1])


def counted(made: VisionLanguageModel, row: Batch) -> int:
    assert made.plain_head
    in_place = {torch.ops.aten.baddbmm_: added_product}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        loss_sum(made, row).backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops()


def test_nothing_is_run_to_count() -> None:
    made = model("connector")
    expected = step_flops(made)
    assert step_flops(made.to(torch.device("meta"))) == expected
