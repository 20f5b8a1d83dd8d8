"""How far a run is, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sightline.ask.run import Snapshot


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Callable[[Snapshot], None]]:
    """A bar with counts by kind, acceptance, tokens, cost so far and projected; one line a minute where stderr is no
    terminal."""
    raise NotImplementedError
