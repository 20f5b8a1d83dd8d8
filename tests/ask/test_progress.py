"""What is shown of a run."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from rich.console import Console

from sightline.ask import progress
from sightline.ask.budget import Cost
from sightline.ask.ledger import Count
from sightline.ask.outcome import Snapshot
from sightline.ask.progress import described, progress_bar

COUNTS = (
    Count("detail", "accepted", "", 6),
    Count("detail", "rejected", "leak", 2),
    Count("detail", "sent", "", 9),
    Count("reasoning", "accepted", "", 2),
    Count("reasoning", "dead", "http_500", 0),
)
SPENT = Cost(1000, 234, int(Decimal("1.5") * 10**12))


def test_a_snapshot_in_words() -> None:
    snapshot = Snapshot(COUNTS, 100, SPENT)
    assert snapshot.finished == 10
    assert described(snapshot) == "detail 6  reasoning 2  accepted 80%  1,234 tokens  cost 1.50 of about 15.00"
    assert described(Snapshot(COUNTS, 0, SPENT)).endswith("cost 1.50")
    assert described(Snapshot((), 100, Cost())) == "0 tokens"
    assert Snapshot(COUNTS, 5, SPENT).projected == 1.5  # more than were announced


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_goes_to_its_console(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 1000.0)
    stream = io.StringIO()
    with progress_bar(console=Console(file=stream, force_terminal=terminal, width=200)) as show:
        for accepted in (1, 2, 3):
            show(Snapshot((Count("detail", "accepted", "", accepted),), 3, Cost(accepted, 0, 0)))
    said = stream.getvalue()
    assert "detail 3" in said
    assert "3/3" in said if terminal else said.count("\n") == 2  # the first and the last
    assert "accepted 100%" in said
