"""What may be spent: a hard limit, and the arithmetic of it.

Comes in: prices, limits, questions. Goes out: costs in whole numbers, and whether one more question fits. Pure. Before
a call its worst case counts as spent, afterwards what it did cost: so the limit holds with any number of calls in
flight, whatever they come to.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from sightline.ask.question import Question
from sightline.errors import ConfigError

PICOS = 10**12
"""Parts of the currency's unit that money is counted in: 10**6 tokens at a price with six decimals come out whole."""
MESSAGE_TOKENS = 16
"""The most tokens that a chat template puts around one message, and once more around the whole: OpenAI's take 3, those
of open models up to about ten."""


class Cost(NamedTuple):
    """Tokens, and money in 10**-12 of the currency's unit: whole numbers, so that sums are exact."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    picos: int = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(*map(operator.add, self, other))

    def minus(self, other: Cost) -> Cost:
        return Cost(*map(operator.sub, self, other))

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def money(self) -> Decimal:
        return Decimal(self.picos) / PICOS


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Money per million tokens, in any one currency."""

    prompt: Decimal = Decimal(0)
    completion: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        for name, price in (("prompt", self.prompt), ("completion", self.completion)):
            if not price.is_finite() or not 0 <= price < 10**6 or price != round(price, 6):
                raise ConfigError(
                    f"price of {name} tokens: {price} per million found, a number from 0 with six decimals expected"
                )

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Cost:
        """What so many tokens cost."""
        per_token = [int(price * PICOS / 10**6) for price in (self.prompt, self.completion)]
        return Cost(prompt_tokens, completion_tokens, prompt_tokens * per_token[0] + completion_tokens * per_token[1])


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that a ledger may ever spend, over all its runs; None for no limit.

    Attributes:
        money: in the currency of the prices.
        tokens: of prompts and replies together.
        image_tokens: the most tokens that one picture may cost, for the reservation.
    """

    prices: Prices = Prices()
    money: Decimal | None = None
    tokens: int | None = None
    image_tokens: int = 2048

    def __post_init__(self) -> None:
        if self.money is not None and (not self.money.is_finite() or self.money < 0):
            raise ConfigError(f"budget: {self.money} found, an amount of money from 0 expected")
        if self.money is not None and not (self.prices.prompt or self.prices.completion):
            raise ConfigError("budget: money is limited, but the prices of tokens are not given: give them")
        if self.tokens is not None and self.tokens < 0:
            raise ConfigError(f"budget: {self.tokens} tokens found, a number from 0 expected")

    def worst(self, question: Question) -> Cost:
        """The most that asking can cost.

        A token of text stands for at least one byte of UTF-8 (byte-level BPE and SentencePiece with byte fallback have
        no shorter ones), so there are at most as many tokens as bytes.
        """
        text = sum(len(message.content.encode("utf-8", "surrogatepass")) for message in question.messages)
        frame = MESSAGE_TOKENS * (len(question.messages) + 1)
        return self.prices.cost(text + frame + self.image_tokens * len(question.images), question.max_tokens)

    def fits(self, spent: Cost, worst: Cost) -> bool:
        """Whether the limits still hold if the worst comes on top of what is spent."""
        after = spent.plus(worst)
        return (self.money is None or after.picos <= self.money * PICOS) and (
            self.tokens is None or after.tokens <= self.tokens
        )

    def __str__(self) -> str:
        limits = ((self.money, "of money"), (self.tokens, "tokens"))
        return " and ".join(f"{limit} {unit}" for limit, unit in limits if limit is not None)
