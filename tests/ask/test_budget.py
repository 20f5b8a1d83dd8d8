"""The arithmetic of money."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sightline.ask.budget import MESSAGE_TOKENS, Budget, Cost, Prices
from sightline.ask.question import Message, Picture, Question
from sightline.errors import ConfigError

PRICES = Prices(prompt=Decimal("0.15"), completion=Decimal("0.6"))


def test_costs_are_whole_numbers_and_sums_exact() -> None:
    assert PRICES.cost(1, 1).picos == 150_000 + 600_000
    assert Prices(prompt=Decimal("0.000001")).cost(1, 0).picos == 1
    total = Cost()
    for _ in range(1000):
        total = total.plus(PRICES.cost(0, 1))
    assert total.money == Decimal("0.0006")
    assert total.minus(PRICES.cost(0, 1000)) == Cost()


def test_the_worst_case_counts_bytes_pictures_and_the_whole_reply() -> None:
    pictures = (Picture("a.png", "00"), Picture("b.png", "01"))
    asked = Question.of(
        [Message("system", "Ünïcödé"), Message("user", "four", pictures)], model="m", kind="detail", max_tokens=100
    )
    worst = Budget(prices=PRICES, image_tokens=1000).worst(asked)
    assert worst == PRICES.cost(11 + 4 + 3 * MESSAGE_TOKENS + 2000, 100)


@pytest.mark.parametrize(
    ("budget", "spent", "worst", "fits"),
    [
        (Budget(), Cost(10**9, 10**9, 10**18), Cost(1, 1, 1), True),
        (Budget(tokens=10), Cost(4, 2, 0), Cost(2, 2, 0), True),
        (Budget(tokens=10), Cost(4, 2, 0), Cost(2, 3, 0), False),
        (Budget(tokens=0), Cost(), Cost(1, 0, 0), False),
        (Budget(money=Decimal("0.000001"), prices=PRICES), Cost(), Cost(0, 0, 10**6), True),
        (Budget(money=Decimal("0.000001"), prices=PRICES), Cost(0, 0, 1), Cost(0, 0, 10**6), False),
        (Budget(money=Decimal(1), tokens=10, prices=PRICES), Cost(), Cost(11, 0, 0), False),
    ],
)
def test_one_more_fits_when_its_worst_does(budget: Budget, spent: Cost, worst: Cost, fits: bool) -> None:
    assert budget.fits(spent, worst) is fits


def test_limits_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ConfigError, match="prices of tokens are not given"):
        Budget(money=Decimal(1))
    with pytest.raises(ConfigError, match="an amount of money from 0"):
        Budget(money=Decimal("NaN"), prices=PRICES)
    with pytest.raises(ConfigError, match="-1 tokens found"):
        Budget(tokens=-1)
    for wrong in ("-1", "NaN", "Infinity", "0.0000001"):
        with pytest.raises(ConfigError, match="price of completion tokens"):
            Prices(completion=Decimal(wrong))
    assert str(Budget(money=Decimal("1.50"), tokens=7, prices=PRICES)) == "1.50 of money and 7 tokens"
