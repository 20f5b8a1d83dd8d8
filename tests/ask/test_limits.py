"""When the next call may leave: every rule with its truth table, and the gate in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from sightline.ask.limits import Bucket, Circuit, Gate, Limits, pause, retry_after
from sightline.errors import ConfigError, TeacherError
from tests.ask.helpers import LoopClock, virtual_time

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "86400"}, 300.0),
        ({"retry-after": "inf"}, 300.0),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, None),
        ({"retry-after": "Tue, 14 Nov 2024 22:13:50 GMT"}, 300.0),
        ({"retry-after": "Tue, 99 Nov 2023 22:13:50 GMT"}, None),
        # The server's clock is ten seconds ahead of ours: what it means are twenty seconds.
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT", "date": "Tue, 14 Nov 2023 22:13:30 GMT"}, 20.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
    ],
)
def test_what_a_server_asks_for_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("failures", "asked", "chance", "seconds"),
    [
        (1, None, 0.0, 0.5),
        (2, None, 0.0, 1.0),
        (5, None, 0.0, 8.0),
        (5, None, 1.0, 4.0),
        (8, None, 0.0, 60.0),
        (9999, None, 0.0, 60.0),
        (1, 90.0, 0.0, 90.0),
        (1, 90.0, 1.0, 99.0),
        (6, 1.0, 0.0, 1.0),
        (1, 295.0, 1.0, 300.0),
        (1, 300.0, 1.0, 300.0),
    ],
)
def test_pauses_double_and_never_fall_short_of_what_was_asked_for(
    failures: int, asked: float | None, chance: float, seconds: float
) -> None:
    assert pause(failures, first=0.5, last=60.0, asked=asked, chance=chance) == pytest.approx(seconds)


@pytest.mark.parametrize(("per_minute", "most"), [(60, 1), (1, 1), (2, 1), (7, 1), (200, 1), (90_000, 7000)])
def test_no_minute_ever_sees_more_than_the_limit(per_minute: int, most: int) -> None:
    """Somebody who is always in a hurry, and sleeps for a while now and then."""
    chance = random.Random(per_minute)
    bucket, now, spent, naps = Bucket(per_minute, now=0.0), 0.0, [], [130.0, 260.0, 400.0]
    while now < 600:
        if naps and now > naps[0]:
            naps.pop(0)
            now += chance.uniform(0, 90)
        amount = chance.randint(1, most)
        now += bucket.delay(amount, now=now)
        bucket.spend(amount, now=now)
        spent.append((now, amount))
    for start, _ in spent:
        assert sum(amount for at, amount in spent if start <= at < start + 60 - 1e-6) <= per_minute
    assert sum(amount for at, amount in spent if at < 120) >= 1.8 * per_minute * (11 / 12)  # and it does get on


def test_what_is_larger_than_the_bucket_passes_and_is_paid_back() -> None:
    bucket = Bucket(1200, now=0.0)
    assert bucket.delay(1000, now=0.0) == 0
    bucket.spend(1000, now=0.0)
    assert bucket.delay(100, now=0.0) == pytest.approx(1000 / 1100 * 60)


def test_after_many_failures_in_a_row_calls_stop_then_leave_one_at_a_time() -> None:
    circuit = Circuit(3)
    circuit.succeeded()
    for now in (0.0, 0.0):
        circuit.failed("http_500", now=now)
    assert not circuit.open
    circuit.failed("http_500", now=10.0)
    assert circuit.open
    assert circuit.delay(now=10.0) == 30
    circuit.failed("timeout", now=12.0)  # it left before
    assert circuit.delay(now=40.0) == 0
    circuit.failed("http_500", now=41.0)
    assert circuit.delay(now=41.0) == 60
    circuit.succeeded()
    assert not circuit.open
    circuit.failed("http_500", now=200.0)
    assert not circuit.open


def test_a_service_that_stays_down_ends_the_run_after_twelve_minutes() -> None:
    circuit, now = Circuit(2), 0.0
    circuit.succeeded()
    circuit.failed("http_500", now=now)
    with pytest.raises(TeacherError, match=r"7 calls in a row have failed, the last one with http_500, and 5 pauses"):
        while True:
            circuit.failed("http_500", now=now)
            now += circuit.delay(now=now)
    assert now == 30 + 60 + 120 + 240 + 300


def test_a_service_that_never_answered_ends_the_run_at_once_unless_it_is_only_busy() -> None:
    circuit = Circuit(2)
    circuit.failed("http_429", now=0.0, busy=True)
    circuit.failed("http_429", now=0.0, busy=True)
    assert circuit.open
    with pytest.raises(TeacherError, match="the last one with connection, and 1 pauses"):
        circuit.failed("connection", now=30.0)
    fresh = Circuit(2)
    fresh.failed("connection", now=0.0)
    with pytest.raises(TeacherError, match="none has succeeded yet"):
        fresh.failed("connection", now=0.0)


def run_gate(limits: Limits, *, calls: int, seconds: float, refused: dict[int, float | None]) -> list[float]:
    """When so many calls, each of so many seconds, pass the gate; some are refused as too fast, with a Retry-After."""
    left: list[float] = []

    async def call(gate: Gate, number: int) -> None:
        await gate.enter(100)
        left.append(asyncio.get_running_loop().time())
        await asyncio.sleep(seconds)
        gate.leave()
        if number in refused:
            gate.failed("http_429", 1, asked=refused[number], busy=True)
        else:
            gate.succeeded()

    async def main() -> None:
        gate = Gate(limits, LoopClock(), random.Random(0))
        await asyncio.gather(*(call(gate, number) for number in range(calls)))

    with virtual_time():
        asyncio.run(main())
    return left


def test_calls_leave_as_fast_as_both_rates_allow() -> None:
    limits = Limits(concurrency=100, requests_per_minute=60, tokens_per_minute=3000)
    left = run_gate(limits, calls=61, seconds=5, refused={})
    for start in left:
        assert sum(start <= other < start + 59.9 for other in left) <= 30  # 100 tokens each
    assert left == sorted(left)
    assert left[-1] < 130
    assert run_gate(Limits(concurrency=100), calls=61, seconds=5, refused={})[-1] == 0


def test_no_more_calls_are_in_flight_than_allowed() -> None:
    left = run_gate(Limits(concurrency=4), calls=12, seconds=1, refused={})
    assert left == [0] * 4 + [1] * 4 + [2] * 4


def test_one_refusal_holds_back_everybody_for_as_long_as_was_asked() -> None:
    left = run_gate(Limits(concurrency=8), calls=20, seconds=1, refused={3: 90.0})
    assert left[:8] == [0] * 8
    assert min(left[8:]) >= 91
    assert min(left[8:]) <= 91 + 9


def test_refusals_halve_the_calls_in_flight_and_successes_bring_them_back() -> None:
    left = run_gate(Limits(concurrency=8), calls=200, seconds=1, refused=dict.fromkeys(range(8), 10.0))
    after = [moment for moment in left if moment > 1]
    assert sum(moment < min(after) + 0.5 for moment in after) == 4  # once, though eight were refused
    last = [sum(moment == other for other in left) for moment in sorted(set(left))]
    assert max(last[2:]) == 8


def test_a_refusal_without_a_time_slows_down_everybody_too() -> None:
    left = run_gate(Limits(concurrency=2), calls=4, seconds=1, refused={0: None, 1: None})
    assert min(left[2:]) >= 1.25


@pytest.mark.parametrize(
    ("name", "value"), [("concurrency", 0), ("attempts", 0), ("requests_per_minute", 0), ("tokens_per_minute", -1)]
)
def test_limits_without_a_way_forward_are_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name}: {value} found"):
        Limits(**{name: value})
