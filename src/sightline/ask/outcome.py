"""How far a run is, and what it did: what is shown while it runs and afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.ask.budget import Cost
from sightline.ask.ledger import Count


@dataclass(frozen=True)
class Snapshot:
    """How far a run is. `total`: questions, 0 where nobody knows."""

    counts: tuple[Count, ...]
    total: int
    spending: Cost

    @property
    def finished(self) -> int:
        """Questions that were answered, rejected or given up."""
        return sum(count.count for count in self.counts if count.state in ("accepted", "rejected", "dead"))

    @property
    def projected(self) -> float | None:
        """Money for all of it, if the rest costs as much; None where nobody can know."""
        known = self.total and self.finished
        return float(self.spending.money) / self.finished * max(self.total, self.finished) if known else None


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        counts: questions by kind, state and reason, of the whole ledger.
        calls: requests sent by this run.
        lost: requests of earlier runs that were killed before their reply was stored; they were asked again.
        failures: tries of this run without a reply, by reason.
        rejections: replies that this run rejected, by reason.
        spending: of the whole ledger.
        warnings: what the user should look at, such as one reason that many replies are rejected for.
    """

    counts: tuple[Count, ...]
    calls: int
    lost: int
    failures: dict[str, int]
    rejections: dict[str, int]
    spending: Cost
    warnings: tuple[str, ...]
