"""What may be spent."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Money per million tokens, in any one currency."""

    prompt: Decimal = Decimal(0)
    completion: Decimal = Decimal(0)


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
