"""How fast one may ask."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a run keeps to.

    Attributes:
        concurrency: the most requests in flight.
        requests_per_minute, tokens_per_minute: what the server grants; None for no limit.
        attempts: how often one asking is tried before its question is given up as `dead`.
        backoff_first, backoff_last: seconds of the first and the longest pause between tries.
        circuit_failures: so many failures in a row stop all asking for a while.
    """

    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    attempts: int = 6
    backoff_first: float = 0.5
    backoff_last: float = 60.0
    circuit_failures: int = 20
