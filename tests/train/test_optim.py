"""Rates over the steps as transformers has them, and which parameters decay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from sightline.train.optim import Schedule, build_optimizer, parameter_groups, rate_at, set_rates
from tests.fakes import tiny_model


def factors_of_transformers(schedule: Schedule, *, total: int, warm: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    if schedule == "constant":
        scheduler = get_constant_schedule_with_warmup(optimizer, num_warmup_steps=warm)
    else:
        make = {"cosine": get_cosine_schedule_with_warmup, "linear": get_linear_schedule_with_warmup}[schedule]
        scheduler = make(optimizer, num_warmup_steps=warm, num_training_steps=total)
    return [float(scheduler.lr_lambdas[0](step)) for step in range(total)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("total", [1, 2, 3, 10, 33, 100, 257])
def test_rate_is_that_of_transformers_at_every_step(schedule: Schedule, total: int, warmup: float) -> None:
    expected = factors_of_transformers(schedule, total=total, warm=math.ceil(warmup * total))
    found = [rate_at(step, total=total, warmup=warmup, schedule=schedule) for step in range(total)]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "total", "warmup", "schedule", "expected"),
    [
        (0, 100, 0.03, "cosine", 0.0),
        (1, 100, 0.03, "cosine", 1 / 3),
        (3, 100, 0.03, "cosine", 1.0),
        (0, 100, 0.0, "cosine", 1.0),
        (50, 100, 0.0, "cosine", 0.5),
        (25, 100, 0.0, "cosine", 0.5 + 0.25 * math.sqrt(2)),
        (50, 100, 0.0, "linear", 0.5),
        (99, 100, 0.0, "linear", 0.01),
        (99, 100, 0.5, "constant", 1.0),
        (10, 100, 0.2, "constant", 0.5),
        # LLaVA-1.5's own runs: 2181 steps with 66 of warm-up, 5198 with 156.
        (65, 2181, 0.03, "cosine", 65 / 66),
        (66, 2181, 0.03, "cosine", 1.0),
        (156, 5198, 0.03, "cosine", 1.0),
    ],
)
def test_rate_by_hand(step: int, total: int, warmup: float, schedule: Schedule, expected: float) -> None:
    assert rate_at(step, total=total, warmup=warmup, schedule=schedule) == pytest.approx(expected, abs=1e-12)


def test_matrices_decay_and_vectors_never_do() -> None:
    model = tiny_model()
    groups = parameter_groups(model.parts(), {"connector": 1e-3, "language": 1e-4}, weight_decay=0.1)
    assert [group["name"] for group in groups] == [
        "connector/decayed", "connector/plain", "language/decayed", "language/plain"
    ]  # fmt: skip
    for group in groups:
        part, label = str(group["name"]).split("/")
        parameters = group["params"]
        assert isinstance(parameters, list)
        assert group["weight_decay"] == (0.1 if label == "decayed" else 0.0)
        assert group["base_lr"] == {"connector": 1e-3, "language": 1e-4}[part]
        assert {parameter.ndim > 1 for parameter in parameters} == {label == "decayed"}
        own = {id(parameter) for parameter in model.parts()[part].parameters()}
        assert {id(parameter) for parameter in parameters} <= own


def test_each_trained_parameter_is_in_one_group_and_no_frozen_one_in_any() -> None:
    model = tiny_model("clip", "llama_tied")
    model.vision.requires_grad_(False)
    model.connector.requires_grad_(True)
    first = next(iter(model.connector.parameters())).requires_grad_(False)
    groups = parameter_groups(model.parts(), {"vision": 1.0, "connector": 1.0, "language": 1.0}, weight_decay=0.1)
    found = [id(parameter) for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]
    assert len(found) == len(set(found))
    assert set(found) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert id(first) not in found


def test_every_group_gets_its_own_rate_times_the_factor() -> None:
    model = tiny_model()
    groups = parameter_groups(model.parts(), {"connector": 1e-3, "language": 1e-4}, weight_decay=0)
    optimizer = build_optimizer(groups, betas=(0.9, 0.999), eps=1e-8)
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}
    set_rates(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [2.5e-4, 2.5e-4, 2.5e-5, 2.5e-5]


def test_updates_are_those_of_adamw_by_hand() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, with the decay scaled by the rate as everyone does."""
    rate, decay, (beta1, beta2), eps = 1e-2, 0.1, (0.9, 0.95), 1e-8
    weight = nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
    expected, mean, square = weight.detach().clone().double(), torch.zeros(3, 4).double(), torch.zeros(3, 4).double()
    group: dict[str, object] = {"params": [weight], "weight_decay": decay, "base_lr": rate, "lr": 0.0, "name": "x"}
    optimizer = build_optimizer([group], betas=(beta1, beta2), eps=eps)
    set_rates(optimizer, 1.0)
    for step in range(1, 6):
        gradient = torch.sin(torch.arange(12.0).reshape(3, 4) * step)
        weight.grad = gradient.clone()
        optimizer.step()
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        expected = expected - rate * decay * expected
        expected = expected - rate * (mean / (1 - beta1**step)) / ((square / (1 - beta2**step)).sqrt() + eps)
    torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-5, atol=1e-6)
