"""One optimizer step: the same whatever the accumulation, and harmless when it is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sightline.data.batch import Batch, RowPlan
from sightline.data.processor import Example
from sightline.data.tokens import IGNORE
from sightline.errors import TrainingError
from sightline.model.vlm import VisionLanguageModel
from sightline.train.loss import loss_sum, token_losses
from sightline.train.optim import build_optimizer, parameter_groups
from sightline.train.parts import freeze
from sightline.train.step import StepResult, accumulate, take_step
from tests.fakes import distance, flat_gradient, tiny_model
from tests.train.small_run import toy_examples

RATES = {"vision": 1e-3, "connector": 1e-2, "language": 1e-3}
FP32 = torch.float32


def trainable(**rates: float) -> VisionLanguageModel:
    model = tiny_model()
    freeze(model, rates or RATES)  # type: ignore[arg-type]
    return model


def optimizer_of(model: VisionLanguageModel) -> torch.optim.AdamW:
    rates = {
        name: RATES[name] for name, part in model.parts().items() if any(p.requires_grad for p in part.parameters())
    }
    optimizer = build_optimizer(
        parameter_groups(model.parts(), rates, weight_decay=0.1),  # type: ignore[arg-type]
        betas=(0.9, 0.999), eps=1e-8,
    )  # fmt: skip
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"]
    return optimizer


def step(model: VisionLanguageModel, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> StepResult:
    return take_step(model, optimizer, batches, clip=1.0, dtype=FP32)


def cut(examples: list[Example], *, size: int) -> list[Batch]:
    return RowPlan(packed=False, row_length=1, micro_batch=size, pad_id=0).batches(examples)


def batches_of(count: int, *, size: int, seed: int = 0) -> list[Batch]:
    return cut(toy_examples(count, seed=seed), size=size)


# ---- accumulation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accumulation", "micro_batch"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_loss_and_gradient_do_not_depend_on_the_accumulation(accumulation: int, micro_batch: int) -> None:
    whole, cut = trainable(), trainable()
    expected_loss, _ = accumulate(whole, batches_of(8, size=8), dtype=FP32)
    batches = batches_of(8, size=micro_batch)
    assert len(batches) == accumulation
    assert accumulation == 1 or len({batch.trained_tokens for batch in batches}) > 1
    loss, _ = accumulate(cut, batches, dtype=FP32)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert distance(flat_gradient(cut), flat_gradient(whole)) < 1e-5


def test_the_mean_of_the_means_would_not_pass_that_test() -> None:
    """The classic mistake, on the same samples: it is off by a thousand times the tolerance above."""
    whole, wrong = trainable(), trainable()
    expected_loss, _ = accumulate(whole, batches_of(8, size=8), dtype=FP32)
    means = [token_losses(wrong, batch)[0].mean() for batch in batches_of(8, size=1)]
    loss = torch.stack(means).mean()
    loss.backward()
    assert loss.item() != pytest.approx(expected_loss, rel=1e-3)
    assert distance(flat_gradient(wrong), flat_gradient(whole)) > 1e-2


def test_loss_is_the_mean_over_all_trained_tokens_of_the_step() -> None:
    model, batches = trainable(), batches_of(6, size=2)
    loss, _ = accumulate(model, batches, dtype=FP32)
    with torch.no_grad():
        total = sum(loss_sum(model, batch).item() for batch in batches)
    assert loss == pytest.approx(total / sum(batch.trained_tokens for batch in batches), rel=1e-6)


def test_micro_batch_without_trained_tokens_changes_nothing() -> None:
    batches = batches_of(6, size=2)
    silent = batches_of(2, size=2, seed=1)[0]
    silent.labels.fill_(IGNORE)
    with_it, without = trainable(), trainable()
    losses = [accumulate(with_it, [silent, *batches], dtype=FP32)[0], accumulate(without, batches, dtype=FP32)[0]]
    assert losses[0] == losses[1]
    torch.testing.assert_close(flat_gradient(with_it), flat_gradient(without), rtol=0, atol=0)


def test_step_without_a_single_trained_token_is_an_error_with_names() -> None:
    batches = batches_of(4, size=2)
    for batch in batches:
        batch.labels.fill_(IGNORE)
    with pytest.raises(TrainingError, match=f"no trained token.*{batches[0].ids[0]}"):
        accumulate(trainable(), batches, dtype=FP32)


# ---- the update ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [1e-3, 1e6, None])
def test_gradient_is_clipped_to_the_given_norm_and_reported_before(
    clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = trainable(), list[Tensor]()
    optimizer = optimizer_of(model)
    monkeypatch.setattr(optimizer, "step", lambda: seen.append(flat_gradient(model)))
    result = take_step(model, optimizer, batches_of(4, size=2), clip=clip, dtype=FP32)
    wanted = result.gradient_norm if clip is None else min(clip, result.gradient_norm)
    assert float(seen[0].norm()) == pytest.approx(wanted, rel=1e-3)
    assert 1e-2 < result.gradient_norm < 1e6
    assert all(parameter.grad is None for parameter in model.parameters())


def test_step_on_text_alone_leaves_a_lone_connector_as_it_is() -> None:
    model = trainable(connector=1e-2)
    text = [example for example in toy_examples(9) if not len(example.pixels)]
    before = snapshot(model, optimizer := optimizer_of(model))
    result = step(model, optimizer, cut(text, size=2))
    assert result.finite
    assert result.loss > 0
    assert same(snapshot(model, optimizer), before)
    assert step(model, optimizer, batches_of(4, size=2)).finite
    assert not same(snapshot(model, optimizer), before)


# ---- not finite ------------------------------------------------------------------------------------------------------


def snapshot(model: VisionLanguageModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of all weights and all moments."""
    moments = {
        f"{slot}/{name}": value
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }
    return {name: value.detach().clone() for name, value in (model.state_dict() | moments).items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def spoil_gradient(value: float) -> Callable[[VisionLanguageModel, list[Batch]], object]:
    def spoil(model: VisionLanguageModel, batches: list[Batch]) -> object:
        return model.language.lm_head.weight.register_hook(lambda grad: grad.index_fill(0, torch.tensor([3]), value))

    return spoil


def spoil_pixels(model: VisionLanguageModel, batches: list[Batch]) -> None:
    assert batches[1].pixels is not None
    batches[1].pixels[0, 0, 0, 0] = math.nan


def spoil_states(model: VisionLanguageModel, batches: list[Batch]) -> object:
    return model.language.model.norm.register_forward_hook(lambda module, arguments, output: output * math.inf)


@pytest.mark.parametrize("first", [True, False], ids=["first-step", "later-step"])
@pytest.mark.parametrize(
    "spoil",
    [spoil_gradient(math.nan), spoil_gradient(math.inf), spoil_gradient(3e38), spoil_pixels, spoil_states],
    ids=["nan-gradient", "inf-gradient", "norm-overflows", "nan-pixel", "inf-states"],
)
def test_a_step_that_is_not_finite_reaches_neither_weights_nor_moments(
    spoil: Callable[[VisionLanguageModel, list[Batch]], object], first: bool
) -> None:
    model = trainable()
    optimizer = optimizer_of(model)
    if not first:
        assert step(model, optimizer, batches_of(4, size=2, seed=1)).finite
    before = snapshot(model, optimizer)
    batches = batches_of(6, size=2)
    spoil(model, batches)
    result = step(model, optimizer, batches)
    assert not result.finite
    assert same(snapshot(model, optimizer), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_suspects_are_the_samples_whose_loss_was_not_finite() -> None:
    batches = batches_of(6, size=2)
    spoil_pixels(model := trainable(), batches)
    assert step(model, optimizer_of(model), batches).suspects == batches[1].ids


def test_suspects_are_all_samples_when_only_the_gradient_was_not_finite() -> None:
    batches = batches_of(6, size=2)
    spoil_gradient(math.nan)(model := trainable(), batches)
    result = step(model, optimizer_of(model), batches)
    assert math.isfinite(result.loss)
    assert set(result.suspects) == {f"t{number}" for number in range(6)}


def test_a_skipped_step_leaves_no_trace_in_the_next_ones() -> None:
    disturbed, undisturbed = trainable(), trainable()
    first, second = optimizer_of(disturbed), optimizer_of(undisturbed)
    for seed in (1, 2, 3):
        batches = batches_of(4, size=2, seed=seed)
        assert step(disturbed, first, batches).finite
        assert step(undisturbed, second, batches).finite
        bad = batches_of(6, size=2)
        spoil_pixels(disturbed, bad)
        assert not step(disturbed, first, bad).finite
    assert same(snapshot(disturbed, first), snapshot(undisturbed, second))
