"""From logits to tokens: the truth tables of the distribution, and draws that repeat."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sightline.errors import ConfigError
from sightline.infer.sampling import Sampling, choose, probabilities

LOGITS = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, [0.5, 0.25, 0.15, 0.1], id="as they are"),
        pytest.param({"temperature": 0.5}, [0.25 / 0.345, 0.0625 / 0.345, 0.0225 / 0.345, 0.01 / 0.345], id="sharper"),
        pytest.param({"temperature": 99.0}, [0.25] * 4, id="hot is even"),
        pytest.param({"top_k": 1}, [1, 0, 0, 0], id="k of one"),
        pytest.param({"top_k": 2}, [2 / 3, 1 / 3, 0, 0], id="k of two"),
        pytest.param({"top_k": 4}, [0.5, 0.25, 0.15, 0.1], id="k of all"),
        pytest.param({"top_k": 9}, [0.5, 0.25, 0.15, 0.1], id="k beyond all"),
        pytest.param({"top_p": 0.01}, [1, 0, 0, 0], id="p keeps at least one"),
        pytest.param({"top_p": 0.49}, [1, 0, 0, 0], id="p reached by the first"),
        pytest.param({"top_p": 0.51}, [2 / 3, 1 / 3, 0, 0], id="p needs the second"),
        pytest.param({"top_p": 0.74}, [2 / 3, 1 / 3, 0, 0], id="p reached by two"),
        pytest.param({"top_p": 0.76}, [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0], id="p needs the third"),
        pytest.param({"top_p": 0.95}, [0.5, 0.25, 0.15, 0.1], id="p needs all"),
        pytest.param({"top_k": 2, "top_p": 0.7}, [2 / 3, 1 / 3, 0, 0], id="p counts within k"),
        pytest.param({"top_k": 2, "top_p": 0.6}, [1, 0, 0, 0], id="p narrows k"),
        pytest.param({"temperature": 0.5, "top_p": 0.7}, [1, 0, 0, 0], id="p after temperature"),
    ],
)
def test_distribution_is_what_the_settings_say(options: dict[str, Any], expected: list[float]) -> None:
    found = probabilities(LOGITS, Sampling(**{"temperature": 1.0, **options}))
    tolerance = 6e-3 if options.get("temperature") == 99.0 else 1e-6
    torch.testing.assert_close(found, torch.tensor([expected]), atol=tolerance, rtol=0, check_dtype=False)


@pytest.mark.parametrize(
    "options",
    [{"temperature": 1e-40}, {"temperature": 5e-324}, {"top_p": 1e-50}, {"temperature": 5e-324, "top_p": 1e-50}],
)
@pytest.mark.parametrize("scale", [1.0, 1e4, -1e4])
def test_the_smallest_settings_leave_the_likeliest_token(options: dict[str, float], scale: float) -> None:
    sampling = Sampling(**{"temperature": 1.0, **options})
    logits = torch.cat([scale * LOGITS, torch.tensor([[-torch.inf, 0.0, -torch.inf, -1.0]])])
    assert probabilities(logits, sampling).tolist() == [[1, 0, 0, 0] if scale > 0 else [0, 0, 0, 1], [0, 1, 0, 0]]
    assert choose(logits, sampling, None).tolist() == logits.argmax(-1).tolist()


def test_rows_are_independent_and_the_order_of_tokens_does_not_matter() -> None:
    shuffled = LOGITS[:, [2, 0, 3, 1]]
    found = probabilities(torch.cat([LOGITS, shuffled]), Sampling(temperature=1.0, top_k=3, top_p=0.8))
    torch.testing.assert_close(found[1], found[0, [2, 0, 3, 1]])


def test_temperature_zero_takes_the_likeliest_without_drawing() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9], [7.0, -1.0, 6.0]])
    assert choose(logits, Sampling(), None).tolist() == [1, 0]


def test_draws_follow_the_distribution_and_never_leave_it() -> None:
    torch.manual_seed(0)
    drawn = choose(LOGITS.expand(20_000, 4), Sampling(temperature=1.0, top_p=0.76), None)
    shares = torch.bincount(drawn, minlength=4) / 20_000
    assert shares[3] == 0
    torch.testing.assert_close(shares[:3], torch.tensor([0.5, 0.25, 0.15]) / 0.9, atol=0.02, rtol=0)


def test_a_seed_repeats_its_draws_and_another_one_does_not() -> None:
    def draws(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        settings = Sampling(temperature=1.0, seed=seed)
        return [int(choose(LOGITS, settings, [generator])) for _ in range(40)]

    assert draws(1) == draws(1) != draws(2)


def test_a_row_is_drawn_by_its_own_generator_whatever_the_other_rows_are() -> None:
    def draws(rows: list[int]) -> list[list[int]]:
        """Twenty draws of each row, whose seeds are given."""
        generators = [torch.Generator().manual_seed(seed) for seed in rows]
        steps = [choose(LOGITS.expand(len(rows), 4), Sampling(temperature=1.0), generators) for _ in range(20)]
        return torch.stack(steps, dim=1).tolist()

    assert draws([3, 1, 2])[1] == draws([1])[0]
    assert draws([1, 1])[0] == draws([1, 1])[1] != draws([2])[0]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ],
)
def test_a_setting_out_of_range_is_named_with_what_is_allowed(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: found .*, expected") as caught:
        Sampling(**options)
    assert "\n" not in str(caught.value)
