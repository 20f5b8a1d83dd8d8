"""A stored reply, looked at.

Comes in: a question whose reply lies in the ledger, unread, and a judge. Goes out: the question accepted, rejected, or
open again. The same for a reply that has just come, one that a killed run left, and one from a batch file.
"""

from __future__ import annotations

from collections.abc import Callable

from sightline.ask.budget import Prices
from sightline.ask.ledger import Ledger
from sightline.ask.question import Question, Reply
from sightline.ask.reply import Unusable, read_reply, read_usage

Judge = Callable[[Question, Reply], str | None]
"""A reason to reject a reply, or None. Must be a pure function of both: after a kill it is called again."""

LENGTH = "length"
"""The reason for which a question is asked once more with twice the tokens, however often it may be asked."""


def judge_stored(question: Question, ledger: Ledger, judge: Judge, prices: Prices) -> Unusable | str | None:
    """Settle the question's state and cost. It must be `raw`.

    Returns:
        None: accepted. A reason: rejected. `Unusable`: it was no completion at all; the try counts as failed.
    """
    entry = ledger.find(question.key)
    assert entry is not None
    assert entry.attempt is not None
    raw = ledger.raw(entry.attempt)
    usage = read_usage(raw)
    if usage is not None:
        ledger.charge(entry.attempt, prices.cost(*usage))
    try:
        reason = judge(question, read_reply(raw, model=question.model))
    except Unusable as error:
        if error.cut:
            ledger.fail(entry.attempt, error.reason, billed=True)
            return error
        reason = error.reason
    if reason is None:
        ledger.accept(entry.attempt)
    else:
        ledger.reject(entry.attempt, reason, longer=reason == LENGTH)
    return reason
