"""Runs against a server that misbehaves, and in virtual time: the drills D1 to D10 of whoever pays for data."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sightline.ask.budget import Budget, Prices
from sightline.ask.ledger import Count, Ledger
from sightline.ask.limits import Limits
from sightline.ask.openai_teacher import OpenAITeacher
from sightline.ask.outcome import Snapshot, Summary
from sightline.ask.question import Question, Reply
from sightline.ask.run import ask_all
from sightline.ask.teacher import Retryable, Unanswerable, completion_body
from sightline.errors import BudgetError, DataError, StorageError, TeacherError
from tests.ask.helpers import MODEL, FastClock, LoopClock, PlainTeacher, content, question, questions, virtual_time
from tests.ask.scripted_server import (
    TRANSIENT,
    Body,
    ScriptedServer,
    Troubles,
    key_of,
    no_troubles,
    plain_reply,
    seeded_troubles,
)

SECRET = "sk-test-4f1c2a9b7d3e"
PRICES = Prices(prompt=Decimal("0.15"), completion=Decimal("0.6"))


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


def virtually(path: Path, teacher: PlainTeacher, asked: list[Question], **options: Any) -> Summary:
    """A run in virtual time."""
    with virtual_time(), Ledger(path) as ledger:
        given: dict[str, Any] = {"judge": content, "clock": LoopClock(), **options}
        return ask_all(asked, teacher=teacher, ledger=ledger, **given)


def over_the_wire(
    path: Path, server: ScriptedServer, asked: list[Question], *, deadline: float = 20.0, **options: Any
) -> Summary:
    """A run against a server, with pauses a hundred times shorter than real."""
    with Ledger(path) as ledger:
        given: dict[str, Any] = {"judge": content, "clock": FastClock(100), **options}
        return ask_all(asked, teacher=OpenAITeacher(base_url=server.url, deadline=deadline), ledger=ledger, **given)


def states(path: Path) -> dict[tuple[str, str], int]:
    with Ledger(path, read_only=True) as ledger:
        sums: Counter[tuple[str, str]] = Counter()
        for count in ledger.counts():
            sums[count.state, count.reason] += count.count
        return dict(sums)


# ---- what goes well --------------------------------------------------------------------------------------------------


def test_every_question_is_asked_once_and_a_second_run_asks_nobody(tmp_path: Path) -> None:
    path, teacher = tmp_path / "ledger.db", PlainTeacher(latency=1.0)
    asked = [*questions(30), question(3), *questions(5, kind="reasoning")]
    seen: list[Snapshot] = []
    summary = virtually(path, teacher, asked, progress=seen.append)
    assert len(teacher.calls) == summary.calls == 35
    assert teacher.closed == 1
    assert summary.counts == (Count("detail", "accepted", "", 30), Count("reasoning", "accepted", "", 5))
    assert summary.spending[:2] == (350, 175)
    assert (summary.lost, summary.failures, summary.rejections, summary.warnings) == (0, {}, {}, ())
    assert seen[-1].finished == 35
    assert seen[-1].total == len(asked)
    assert virtually(path, teacher, asked).calls == 0
    assert len(teacher.calls) == 35


def test_questions_are_taken_one_by_one_as_they_are_needed(tmp_path: Path) -> None:
    made = 0

    def stream() -> Iterator[Question]:
        nonlocal made
        for one in questions(100):
            made += 1
            yield one

    def script(asked: Question, ask: int, attempt: int) -> str:
        assert made <= len(teacher.calls) + 4
        return "Yes."

    teacher = PlainTeacher(script, latency=1.0)
    with virtual_time(), Ledger(tmp_path / "ledger.db") as ledger:
        limits = Limits(concurrency=4)
        ask_all(stream(), teacher=teacher, ledger=ledger, judge=content, limits=limits, clock=LoopClock())
    assert made == 100


def test_the_raw_reply_is_on_the_disk_before_anybody_looks_at_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    def judge(asked: Question, reply: Reply) -> str | None:
        with Ledger(path, read_only=True) as other:
            entry = other.find(asked.key)
            assert entry is not None
            assert entry.state == "raw"
            assert entry.attempt is not None
            assert other.raw(entry.attempt) == reply.raw
        return None

    assert virtually(path, PlainTeacher(), questions(20), judge=judge).calls == 20


def test_a_call_is_on_the_disk_before_it_leaves(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    def script(asked: Question, ask: int, attempt: int) -> str:
        with Ledger(path, read_only=True) as other:
            entry = other.find(asked.key)
            assert entry is not None
            assert entry.state == "sent"
        return "Yes."

    assert virtually(path, PlainTeacher(script), questions(20)).calls == 20


# ---- D1: too fast ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked_for", "at_least", "at_most"), [(3.0, 3, 3.3), (120.0, 120, 132), (300.0, 300, 300), (None, 0.25, 0.5)]
)
def test_one_refusal_holds_back_all_tasks_for_the_time_that_was_asked_for(
    tmp_path: Path, asked_for: float | None, at_least: float, at_most: float
) -> None:
    refused = question(5).key

    def script(asked: Question, ask: int, attempt: int) -> str | Exception:
        if asked.key == refused and attempt == 0:
            return Retryable("http_429", retry_after=asked_for, busy=True)
        return "Yes."

    teacher = PlainTeacher(script, latency=0.01)
    summary = virtually(tmp_path / "ledger.db", teacher, questions(40), limits=Limits(concurrency=8))
    assert summary.failures == {"http_429": 1}
    assert summary.counts == (Count("detail", "accepted", "", 40),)
    refused_at = next(at for at, key in teacher.calls if key == refused) + 0.01
    after = [at - refused_at for at, _ in teacher.calls if at > refused_at]
    assert at_least - 1e-6 <= min(after) <= at_most + 0.2  # and what commits take


@pytest.mark.parametrize(("trouble", "seconds"), [("429_1", 1), ("429_90", 90), ("429_date", 1)])
def test_a_server_is_not_asked_before_the_time_it_has_named(tmp_path: Path, trouble: str, seconds: float) -> None:
    first = threading.Event()

    def troubles(key: str, attempt: int) -> str | None:
        if first.is_set():
            return None
        first.set()
        return trouble

    with ScriptedServer(troubles=troubles) as server:
        over_the_wire(tmp_path / "ledger.db", server, questions(6), limits=Limits(concurrency=1))
    times = [call.at for call in server.calls]
    assert len(times) == 7
    assert times[1] - times[0] >= seconds / 100


def test_a_server_that_grants_few_calls_a_minute_loses_nobody(tmp_path: Path) -> None:
    """It refuses whatever comes too fast, and nobody has told us its limit."""
    times: list[float] = []

    def script(asked: Question, ask: int, attempt: int) -> str | Exception:
        now = asyncio.get_running_loop().time()
        if len([at for at in times if at > now - 60]) >= 20:
            return Retryable("http_429", retry_after=None, busy=True)
        times.append(now)
        return "Yes."

    teacher = PlainTeacher(script, latency=0.5)
    summary = virtually(tmp_path / "ledger.db", teacher, questions(200), limits=Limits(concurrency=32))
    assert states(tmp_path / "ledger.db").get(("accepted", ""), 0) >= 190, summary


# ---- D2: no use ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["quota", "401", "403", "404"])
def test_what_no_waiting_mends_stops_at_once_and_the_next_run_goes_on(tmp_path: Path, trouble: str) -> None:
    path, asked = tmp_path / "ledger.db", questions(60)
    broken = threading.Event()

    def troubles(key: str, attempt: int) -> str | None:
        return trouble if broken.is_set() else None

    def replies(body: Body) -> str:
        if len(server.calls) >= 20:
            broken.set()
        return plain_reply(body)

    with ScriptedServer(replies, troubles) as server:
        with pytest.raises(TeacherError) as caught:
            over_the_wire(path, server, asked, limits=Limits(concurrency=4))
        assert caught.value.exit_code == 5
        assert len(server.calls) <= 20 + 2 * 4
        came = len(server.calls)
        time.sleep(0.1)
        assert len(server.calls) == came
        answered = states(path)["accepted", ""]
        assert answered >= 16
        server.troubles = no_troubles
        summary = over_the_wire(path, server, asked)
    assert summary.calls == 60 - answered
    assert summary.lost == 0
    assert states(path) == {("accepted", ""): 60}
    assert max(server.answered.values()) == 1


def test_after_a_fatal_error_not_one_more_call_leaves(tmp_path: Path) -> None:
    def script(asked: Question, ask: int, attempt: int) -> str | Exception:
        return TeacherError("no quota") if len(teacher.calls) >= 10 else "Yes."

    teacher = PlainTeacher(script)  # answers at once: only what left in the same moment may be under way
    with pytest.raises(TeacherError):
        virtually(tmp_path / "ledger.db", teacher, questions(50), limits=Limits(concurrency=1))
    assert len(teacher.calls) == 10
    found = states(tmp_path / "ledger.db")
    assert found["accepted", ""] == 9
    assert ("sent", "") not in found
    assert ("reserved", "") not in found


# ---- D3: out of order ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["http_500", "http_529", "reset", "connection"])
def test_a_question_is_tried_six_times_with_growing_pauses_then_given_up(tmp_path: Path, reason: str) -> None:
    cursed = question(1).key

    def script(asked: Question, ask: int, attempt: int) -> str | Exception:
        return Retryable(reason) if asked.key == cursed else "Yes."

    teacher = PlainTeacher(script)
    virtually(tmp_path / "ledger.db", teacher, questions(10))
    assert states(tmp_path / "ledger.db") == {("accepted", ""): 9, ("dead", reason): 1}
    times = [at for at, key in teacher.calls if key == cursed]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert len(waits) == 5
    for wait, full in zip(waits, (0.5, 1, 2, 4, 8), strict=True):
        assert full / 2 <= wait <= full + 0.2  # and what commits take
    again = virtually(tmp_path / "ledger.db", teacher, questions(10))
    assert again.calls == 0  # the dead stay dead
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.revive()
    assert virtually(tmp_path / "ledger.db", PlainTeacher(), questions(10)).calls == 1


def test_an_outage_pauses_the_run_and_kills_nobody(tmp_path: Path) -> None:
    """Twenty minutes of answers, then the service is away for four minutes."""

    def script(asked: Question, ask: int, attempt: int) -> str | Exception:
        return Retryable("http_503") if 100 < asyncio.get_running_loop().time() < 340 else "Yes."

    teacher = PlainTeacher(script, latency=5.0)
    summary = virtually(tmp_path / "ledger.db", teacher, questions(800), limits=Limits(concurrency=16))
    assert states(tmp_path / "ledger.db") == {("accepted", ""): 800}
    assert 20 <= summary.failures["http_503"] <= 20 + 16 + 5


def test_a_server_that_is_not_there_is_reported_after_twenty_calls(tmp_path: Path) -> None:
    teacher = PlainTeacher(lambda *_: Retryable("connection"))
    with pytest.raises(TeacherError, match="20 calls in a row have failed, the last one with connection, and none"):
        virtually(tmp_path / "ledger.db", teacher, questions(50))
    assert len(teacher.calls) == 20
    assert states(tmp_path / "ledger.db").keys() == {("pending", "")}


def test_a_question_that_the_server_cannot_take_is_given_up_alone(tmp_path: Path) -> None:
    errors = {question(1).key: Unanswerable("context_length_exceeded"), question(2).key: DataError("x", reason="gone")}
    teacher = PlainTeacher(lambda asked, ask, attempt: errors.get(asked.key, "Yes."))
    summary = virtually(tmp_path / "ledger.db", teacher, questions(5))
    assert summary.failures == {"context_length_exceeded": 1, "gone": 1}
    assert states(tmp_path / "ledger.db") == {
        ("accepted", ""): 3,
        ("dead", "context_length_exceeded"): 1,
        ("dead", "gone"): 1,
    }
    assert summary.spending.tokens == 45


# ---- D4, D5: time-outs and bodies ------------------------------------------------------------------------------------


def test_a_time_out_frees_its_place_and_counts_as_spent(tmp_path: Path) -> None:
    with ScriptedServer(troubles=lambda key, attempt: "never" if attempt == 0 else None) as server:
        limits = Limits(concurrency=2)
        summary = over_the_wire(tmp_path / "ledger.db", server, questions(4), limits=limits, deadline=1.0)
    assert summary.failures == {"timeout": 4}
    assert states(tmp_path / "ledger.db") == {("accepted", ""): 4}
    worst = sum(Budget().worst(one).tokens for one in questions(4))
    assert summary.spending.tokens == worst + sum(server.billed) // 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"whole": {"choices": []}}, "no_choices"),
        ({"message": {"content": None}}, "no_text"),
        ({"message": {"content": "No.", "refusal": "No."}}, "refusal"),
        ({"finish_reason": "content_filter"}, "content_filter"),
        ({"message": {"content": "Yes."}, "model": "somebody-else"}, "other_model"),
        ("x" * 2**20, "too_large"),
        ("The caption says so.", "leak"),
    ],
)
def test_replies_that_cannot_be_used_are_asked_for_again_a_stated_number_of_times(
    tmp_path: Path, reply: str | Body, reason: str
) -> None:
    def judge(asked: Question, said: Reply) -> str | None:
        return "leak" if "caption" in said.text else None

    def replies(body: Body) -> str | Body:
        good = body["seed"] == 2 and "picture 0" not in body["messages"][1]["content"]
        return "A red bus." if good else reply

    with ScriptedServer(replies) as server:
        summary = over_the_wire(tmp_path / "ledger.db", server, questions(3), judge=judge, asks=3)
    assert len(server.calls) == 9
    assert summary.rejections == {reason: 7}
    assert summary.warnings[0].startswith(f"7 of 9 replies were rejected for {reason}")
    assert states(tmp_path / "ledger.db") == {("accepted", ""): 2, ("rejected", reason): 1}
    with ScriptedServer(replies) as server:
        over_the_wire(tmp_path / "ledger.db", server, questions(3), judge=judge, asks=3)
    assert server.calls == []


def test_a_reply_that_is_cut_at_its_length_is_asked_for_once_more_with_twice_the_tokens(tmp_path: Path) -> None:
    def replies(body: Body) -> str | Body:
        long = "picture 0" in body["messages"][1]["content"]
        return "Enough." if body["max_tokens"] == 40 and not long else {"finish_reason": "length"}

    with ScriptedServer(replies) as server:
        summary = over_the_wire(tmp_path / "ledger.db", server, questions(2))
    assert (
        sorted((call.body["max_tokens"], call.body["seed"]) for call in server.calls) == [(20, 0)] * 2 + [(40, 1)] * 2
    )
    assert summary.rejections == {"length": 3}
    assert states(tmp_path / "ledger.db") == {("accepted", ""): 1, ("rejected", "length"): 1}


def test_cut_replies_are_stored_counted_and_tried_again_as_the_same_asking(tmp_path: Path) -> None:
    def troubles(key: str, attempt: int) -> str | None:
        return ("cut_json", "html", "cut_body", None)[attempt]

    with ScriptedServer(troubles=troubles) as server:
        summary = over_the_wire(tmp_path / "ledger.db", server, questions(2))
    assert summary.failures == {"not_json": 4, "reset": 2}
    assert {call.body["seed"] for call in server.calls} == {0}
    with Ledger(tmp_path / "ledger.db", read_only=True) as ledger:
        raws = [raw for (raw,) in ledger.file.read("SELECT raw FROM attempt WHERE reason = 'not_json'")]
    assert sum(raw == b"<html><body>Gateway</body></html>" for raw in raws) == 2
    assert sum(raw.startswith(b'{"object": "chat') for raw in raws) == 2


# ---- D6: a prompt that does not work ---------------------------------------------------------------------------------


def test_a_reason_that_rejects_a_fifth_of_the_replies_stops_the_run(tmp_path: Path) -> None:
    def judge(share: int) -> Callable[[Question, Reply], str | None]:
        return lambda asked, reply: "refusal_words" if int(asked.key[:8], 16) % 100 < share else None

    with pytest.raises(TeacherError, match=r"\d+ of 2\d\d replies were rejected for refusal_words"):
        virtually(tmp_path / "a.db", PlainTeacher(), questions(500), judge=judge(30))
    assert 200 <= sum(number for (state, _), number in states(tmp_path / "a.db").items() if state != "pending") <= 216
    warned = virtually(tmp_path / "b.db", PlainTeacher(), questions(500), judge=judge(10))
    assert len(warned.warnings) == 1
    assert virtually(tmp_path / "c.db", PlainTeacher(), questions(500), judge=judge(2)).warnings == ()


# ---- D8 is in test_ledger, D7 in test_kill_drill; D9: the budget -----------------------------------------------------


def test_a_budget_holds_with_32_calls_in_flight_and_is_used_to_its_end(tmp_path: Path) -> None:
    """Costs vary from next to nothing to the worst; the sum as the server sees it never passes the limit."""
    path, asked = tmp_path / "ledger.db", questions(200, max_tokens=200)
    limit = Decimal("0.004")
    budget = Budget(prices=PRICES, money=limit)
    worst = budget.worst(asked[0])
    peaks: list[Decimal] = []
    open_calls = 0

    class Teacher(PlainTeacher):
        async def reply(self, one: Question, ask: int) -> bytes:
            nonlocal open_calls
            open_calls += 1
            chance = random.Random(one.key)
            await asyncio.sleep(chance.random())
            open_calls -= 1
            tokens = (chance.randint(1, worst.prompt_tokens), chance.choice([1, 200, chance.randint(1, 200)]))
            self.spent = getattr(self, "spent", 0) + PRICES.cost(*tokens).picos
            peaks.append(Decimal(self.spent + open_calls * 1) / 10**12)
            return completion_body("Yes.", model=MODEL, tokens=tokens)

    teacher = Teacher()
    with pytest.raises(
        BudgetError, match=r"the budget is reached: 0\.004 of money; spent: \d+ tokens and 0\.00"
    ) as caught:
        virtually(path, teacher, asked, budget=budget, limits=Limits(concurrency=32))
    assert caught.value.exit_code == 6
    assert max(peaks) <= limit
    with Ledger(path) as ledger:
        spent = ledger.spending()
        assert spent.picos == teacher.spent
        assert limit - spent.money < worst.money  # not one more would have fitted
        assert not {"sent", "reserved", "raw"} & {count.state for count in ledger.counts()}
    answered = states(path)["accepted", ""]
    summary = virtually(path, teacher, asked, budget=Budget(prices=PRICES, money=Decimal(1)))
    assert summary.calls == 200 - answered


def test_lost_replies_and_time_outs_count_against_the_budget(tmp_path: Path) -> None:
    worst = Budget().worst(question()).tokens
    teacher = PlainTeacher(lambda *_: Retryable("timeout", billed=True))
    with pytest.raises(BudgetError):
        virtually(tmp_path / "ledger.db", teacher, questions(9), budget=Budget(tokens=4 * worst + 9))
    assert len(teacher.calls) == 4


def test_a_server_that_bills_more_than_a_request_can_have_is_reckoned_with(tmp_path: Path) -> None:
    teacher = PlainTeacher(tokens=(5000, 5))
    worst = Budget().worst(question()).tokens
    with pytest.raises(BudgetError):
        virtually(
            tmp_path / "ledger.db",
            teacher,
            questions(9),
            budget=Budget(tokens=12_000),
            limits=Limits(concurrency=1),
        )
    assert len(teacher.calls) == 2  # 5005 each; a third might bring it to 15,015
    summary = virtually(tmp_path / "more.db", teacher, questions(1))
    assert summary.warnings == (f"the server bills more tokens than a request can have: up to {5000 - worst + 20}",)


# ---- D10: the disk ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["full", "readonly"])
def test_no_call_leaves_once_the_ledger_cannot_be_written(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "ledger.db"

    def script(asked: Question, ask: int, attempt: int) -> str:
        if len(teacher.calls) == 5:
            if fault == "full":
                ledger.file.read(f"PRAGMA max_page_count = {ledger.file.read('PRAGMA page_count').fetchone()[0]}")
            else:
                ledger.file.read("PRAGMA query_only = ON")
        return "Yes. " * 2000

    teacher = PlainTeacher(script)
    with virtual_time(), pytest.raises(StorageError, match="the ledger cannot be written") as caught:  # noqa: SIM117
        with Ledger(path) as ledger:
            ask_all(
                questions(50),
                teacher=teacher,
                ledger=ledger,
                judge=content,
                limits=Limits(concurrency=1),
                clock=LoopClock(),
            )
    assert caught.value.exit_code == 74
    assert len(teacher.calls) == 5
    summary = virtually(path, PlainTeacher(), questions(50))
    assert states(path) == {("accepted", ""): 50}
    assert summary.lost == 1  # the reply that found no room
    assert summary.calls == 46


# ---- signals ---------------------------------------------------------------------------------------------------------


def send_signals(server: ScriptedServer, *numbers: int) -> None:
    """To this process, once calls have come; some time apart, for two that are pending at once become one."""

    def send() -> None:
        while len(server.calls) < 2:
            time.sleep(0.01)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(1.0)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_waits_for_what_is_in_flight(tmp_path: Path, number: int, error: type[BaseException]) -> None:
    path = tmp_path / "ledger.db"
    with ScriptedServer(latency=0.3) as server:
        threading.Timer(0.6, os.kill, (os.getpid(), number)).start()
        with pytest.raises(error) as caught:
            over_the_wire(path, server, questions(500), limits=Limits(concurrency=4))
        if error is SystemExit:
            assert caught.value.code == 128 + signal.SIGTERM  # type: ignore[attr-defined]
        came = len(server.calls)
        assert came < 100
        assert {state for state, _ in states(path)} <= {"accepted", "pending"}
        assert states(path)["accepted", ""] == came
        over_the_wire(path, server, questions(came + 4))
    assert len(server.calls) == came + 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with ScriptedServer(latency=30) as server:
        send_signals(server, signal.SIGINT, signal.SIGINT)
        started = time.monotonic()
        with Ledger(path) as ledger, pytest.raises(KeyboardInterrupt):
            teacher = OpenAITeacher(base_url=server.url, deadline=60)
            ask_all(questions(9), teacher=teacher, ledger=ledger, judge=content, limits=Limits(concurrency=2))
        assert time.monotonic() - started < 25
        server.latency = 0
        assert over_the_wire(path, server, questions(9)).lost == 2
    assert states(path) == {("accepted", ""): 9}


# ---- all of it -------------------------------------------------------------------------------------------------------


def mixed_replies(body: Body) -> str | Body:
    """A third of the first replies is wrong in itself; whatever is asked again gets better."""
    chance = random.Random(key_of(body))
    wrong: list[str | Body] = [
        {"message": {"content": None}},
        {"finish_reason": "length"},
        {"finish_reason": "content_filter"},
        {"message": {"content": "I would rather not.", "refusal": "No."}},
        "I'm sorry, but I cannot see the caption.",
        "y" * 2**20,
    ]
    return chance.choice(wrong) if body["seed"] < 3 and chance.random() < 0.35 else plain_reply(body)


def test_eighty_questions_through_a_server_with_every_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """None is lost, none is asked twice after success, the budget is kept, the key stands nowhere."""
    caplog.set_level(logging.DEBUG)
    path, asked = tmp_path / "ledger.db", questions(80, max_tokens=100)
    budget = Budget(prices=PRICES, money=Decimal("0.10"))
    troubles: Troubles = seeded_troubles(20, share=0.4, most=2)
    with ScriptedServer(mixed_replies, troubles, speed=20) as server:
        summary = over_the_wire(
            path,
            server,
            asked,
            judge=lambda one, reply: "leak" if "caption" in reply.text else None,
            asks=5,
            budget=budget,
            limits=Limits(concurrency=16),
            deadline=1.5,
            clock=FastClock(1000),
        )
    assert states(path) == {("accepted", ""): 80}
    met = {call.trouble for call in server.calls}
    assert met >= set(TRANSIENT), set(TRANSIENT) - met
    assert len(summary.rejections) >= 5
    assert server.elsewhere == 0
    with Ledger(path, read_only=True) as ledger:
        answers = list(ledger.accepted())
        assert ledger.spending().money <= Decimal("0.10")
        assert PRICES.cost(*server.billed).picos <= ledger.spending().picos
    # What was answered is never asked again, unless the answer did not come in time (on a machine that is busy).
    good = Counter(call.key for call in server.calls if call.trouble is None)
    late = summary.failures["timeout"] - sum(call.trouble in ("never", "drip") for call in server.calls)
    assert good.total() - len(good) <= late
    assert len(answers) == 80
    assert SECRET not in caplog.text
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()
