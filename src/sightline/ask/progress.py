"""How far a run is, on stderr.

Comes in: snapshots. Goes out: a progress bar with counts by kind, the share of replies that were accepted, tokens, cost
so far and projected. Where stderr is no terminal, one line now and then.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sightline.ask.outcome import Snapshot

LINE_SECONDS = 30.0
"""Between two lines where there is no terminal to draw a bar on."""


def described(snapshot: Snapshot) -> str:
    """Kinds with their accepted replies, acceptance, tokens, cost: `conversation 12  detail 9  accepted 84%  ...`."""
    accepted: dict[str, int] = defaultdict(int)
    for count in snapshot.counts:
        accepted[count.kind] += count.count if count.state == "accepted" else 0
    words = [f"{kind} {number}" for kind, number in sorted(accepted.items())]
    if snapshot.finished:
        words.append(f"accepted {sum(accepted.values()) / snapshot.finished:.0%}")
    words.append(f"{snapshot.spending.tokens:,} tokens")
    if snapshot.spending.picos:
        projected = "" if snapshot.projected is None else f" of about {snapshot.projected:.2f}"
        words.append(f"cost {snapshot.spending.money:.2f}{projected}")
    return "  ".join(words)


@contextmanager
def progress_bar(*, console: Console | None = None) -> Iterator[Callable[[Snapshot], None]]:
    """Yields what `ask_all` takes as `progress`.

    Args:
        console: on stderr unless given.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda snapshot: bar.update(
            task, description=described(snapshot), completed=snapshot.finished, total=snapshot.total or None
        )


def _lines(console: Console) -> Callable[[Snapshot], None]:
    shown_at = float("-inf")
    shown = ""

    def show(snapshot: Snapshot) -> None:
        nonlocal shown_at, shown
        complete = snapshot.finished == snapshot.total
        if time.monotonic() - shown_at < LINE_SECONDS and not complete:
            return
        line = f"{snapshot.finished} of {snapshot.total or '?'}  {described(snapshot)}"
        if line != shown:
            console.print(line, highlight=False, soft_wrap=True)
        shown_at, shown = time.monotonic(), line

    return show
