"""Asking all questions there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sightline.ask.budget import Budget
from sightline.ask.ledger import Count, Ledger, Spending
from sightline.ask.limits import Limits
from sightline.ask.question import Question, Reply
from sightline.ask.teacher import Teacher

Judge = Callable[[Question, Reply], str | None]
"""A reason to reject a reply, or None. Must be a pure function of both: it is asked again after a kill."""


@dataclass(frozen=True)
class Snapshot:
    """How far a run is. `total`: questions, 0 where nobody knows; `projected`: money for all, None likewise."""

    counts: tuple[Count, ...]
    total: int
    spending: Spending
    projected: float | None


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        counts: questions by kind, state and reason, of the whole ledger.
        calls: requests sent by this run.
        lost: requests of earlier runs that were killed before their reply was stored; they were asked again.
        failures: tries without a reply, by reason.
        rejections: rejected replies, by reason.
        warnings: what the user should look at, such as one reason that many replies are rejected for.
    """

    counts: tuple[Count, ...]
    calls: int
    lost: int
    failures: dict[str, int]
    rejections: dict[str, int]
    spending: Spending
    warnings: tuple[str, ...]


def ask_all(
    questions: Iterable[Question],
    *,
    teacher: Teacher,
    ledger: Ledger,
    judge: Judge,
    limits: Limits | None = None,
    budget: Budget | None = None,
    asks: int = 1,
    progress: Callable[[Snapshot], None] | None = None,
) -> Summary:
    """Ask what the ledger does not answer yet, until each question is accepted, rejected or dead.

    Args:
        questions: iterated lazily, once; a repeated key is asked once.
        judge: see `Judge`. Replies that are empty, refused by a filter, cut or of another model are rejected before.
        asks: how often one question may be asked in all while its replies are rejected.
        progress: called now and then.

    Raises:
        TeacherError: see `Teacher.reply`; or so many failures in a row that the service must be down; or one reason
            rejects more than a fifth of the replies.
        BudgetError: the next question does not fit into what is left.
        StorageError: the ledger cannot be written. Raised before the next paid call.
        KeyboardInterrupt: SIGINT; what was in flight is stored first. A second SIGINT does not wait.
    """
    raise NotImplementedError
