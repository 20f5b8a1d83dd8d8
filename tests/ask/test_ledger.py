"""The ledger: what it keeps whatever happens, and what it refuses."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sightline.ask.budget import Cost
from sightline.ask.ledger import Count, Ledger
from sightline.ask.question import Question
from sightline.ask.teacher import completion_body
from sightline.errors import ConfigError, StorageError
from tests.ask.helpers import MODEL, question, questions

WORST = Cost(50, 20, 700)
COST = Cost(10, 5, 150)
BODY = completion_body("A red bus waits.", model=MODEL, tokens=(10, 5))


def ask(ledger: Ledger, asked: Question, *, until: str = "accepted", body: bytes = BODY, reason: str = "leak") -> int:
    """Takes a question through its states, up to one of them; the try's number."""
    if ledger.find(asked.key) is None:
        ledger.add(asked)
    attempt = ledger.reserve(asked.key, WORST)
    steps: list[Any] = [
        ("reserved", lambda: None),
        ("sent", lambda: ledger.sent(attempt)),
        ("failed", lambda: ledger.fail(attempt, reason, billed=False) if until == "failed" else None),
        ("raw", lambda: ledger.store(attempt, body)),
        ("charged", lambda: ledger.charge(attempt, COST)),
        (until, lambda: ledger.accept(attempt) if until == "accepted" else ledger.reject(attempt, reason)),
    ]
    for state, step in steps:
        step()
        if state == until:
            break
    return attempt


def test_a_question_goes_through_its_states_and_costs_what_it_did_cost(tmp_path: Path) -> None:
    asked = question()
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.find(asked.key) is None
        ledger.add(asked)
        for state, cost in (("reserved", WORST), ("sent", WORST), ("raw", WORST), ("charged", COST)):
            attempt = ask(ledger, asked, until=state)
            entry = ledger.find(asked.key)
            assert entry is not None
            assert entry.state == ("raw" if state == "charged" else state)
            assert not entry.is_open(9)
            assert ledger.spending() == cost
            ledger.release(attempt)
            assert ledger.spending() == Cost()
        ask(ledger, asked)
        assert ledger.spending() == COST
        assert ledger.counts() == [Count("detail", "accepted", "", 1)]
        assert ledger.tries() == {"accepted": 1, "released": 4}


def test_a_rejected_question_is_open_until_it_was_asked_often_enough(tmp_path: Path) -> None:
    asked = question()
    with Ledger(tmp_path / "ledger.db") as ledger:
        ask(ledger, asked, until="rejected", reason="leak")
        entry = ledger.find(asked.key)
        assert entry is not None
        assert [entry.is_open(asks) for asks in (1, 2, 3)] == [False, True, True]
        ask(ledger, asked, until="failed", reason="http_500")
        assert ledger.counts() == [Count("detail", "rejected", "leak", 1)]
        ask(ledger, asked, until="rejected", reason="empty")
        assert ledger.counts() == [Count("detail", "rejected", "empty", 1)]
        ask(ledger, asked)
        assert ledger.counts() == [Count("detail", "accepted", "", 1)]
        assert ledger.rejections() == {"empty": 1, "leak": 1}
        assert ledger.tries() == {"accepted": 1, "failed": 1, "rejected": 2}


def test_a_reply_that_was_cut_for_its_length_may_be_asked_for_once_more(tmp_path: Path) -> None:
    asked = question()
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.reject(ask(ledger, asked, until="raw"), "length", longer=True)
        entry = ledger.find(asked.key)
        assert entry is not None
        assert (entry.longer, entry.is_open(1)) == (1, True)
        ledger.reject(ask(ledger, asked, until="raw"), "length", longer=True)
        entry = ledger.find(asked.key)
        assert entry is not None
        assert (entry.is_open(1), entry.is_open(2)) == (False, True)


def test_accepted_replies_come_in_the_order_of_their_keys_whatever_happened(tmp_path: Path) -> None:
    asked = questions(15)
    exports = []
    for seed in range(3):
        chance = random.Random(seed)
        chance.shuffle(asked)
        path = tmp_path / f"{seed}.db"
        for one in asked:
            with Ledger(path) as ledger:
                if chance.random() < 0.3:
                    ask(ledger, one, until=chance.choice(["reserved", "sent", "failed"]))
            with Ledger(path) as ledger:
                text = f"Reply to {one.subject}, whatever its way."
                ask(ledger, one, body=completion_body(text, model=MODEL))
        with Ledger(path, read_only=True) as ledger:
            exports.append(list(ledger.accepted()))
    assert exports[0] == exports[1] == exports[2]
    assert [answer.key for answer in exports[0]] == sorted(one.key for one in asked)
    first = exports[0][0]
    assert first.reply.text == f"Reply to {first.subject}, whatever its way."
    assert (first.kind, first.model) == ("detail", MODEL)


def test_what_a_killed_process_left_is_open_again_and_what_it_sent_counts_as_spent(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    states = ("pending", "reserved", "sent", "raw", "accepted", "rejected", "dead")

    def live() -> None:
        ledger = Ledger(path)
        for one, state in zip(questions(7), states, strict=True):
            if state in ("pending", "dead"):
                ledger.add(one)
            if state == "dead":
                ledger.bury(one.key, "http_400")
            if state not in ("pending", "dead"):
                ask(ledger, one, until=state)
        ledger.commit()
        ask(ledger, question(99))  # never committed
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=live)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with Ledger(path) as ledger:
        found = [ledger.find(one.key) for one in questions(7)]
        assert [entry.state for entry in found if entry] == [
            "pending",
            "pending",
            "pending",
            "raw",
            "accepted",
            "rejected",
            "dead",
        ]
        assert ledger.find(question(99).key) is None
        assert ledger.lost == 1
        assert ledger.spending() == WORST.plus(WORST).plus(COST).plus(COST)  # lost, raw, accepted, rejected
        assert ledger.tries() == {"accepted": 1, "lost": 1, "raw": 1, "rejected": 1, "released": 1}
        raw = found[3]
        assert raw is not None
        assert raw.attempt is not None
        assert ledger.raw(raw.attempt) == BODY
    with Ledger(path) as ledger:
        assert ledger.lost == 0


def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    fork = multiprocessing.get_context("fork")
    ready, leave = fork.Event(), fork.Event()

    def live() -> None:
        with Ledger(path):
            ready.set()
            leave.wait(30)

    process = fork.Process(target=live)
    process.start()
    assert ready.wait(30)
    with pytest.raises(ConfigError, match=f"ledger.db: the ledger is in use by process {process.pid}; wait"):
        Ledger(path)
    with Ledger(path, read_only=True) as reader:
        assert reader.counts() == []
    leave.set()
    process.join()
    with Ledger(path), pytest.raises(ConfigError, match="this process has the ledger open already"):
        Ledger(path)
    with Ledger(path) as ledger:
        ledger.add(question())


def test_workers_that_outlive_a_killed_run_do_not_keep_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    fork = multiprocessing.get_context("fork")
    ready, leave = fork.Event(), fork.Event()

    def live() -> None:
        Ledger(path)
        if os.fork() == 0:
            ready.set()
            leave.wait(30)
            os._exit(0)
        ready.wait(30)
        os.kill(os.getpid(), signal.SIGKILL)

    process = fork.Process(target=live)
    process.start()
    process.join()
    try:
        Ledger(path).__exit__(None, None, None)
    finally:
        leave.set()


def test_once_the_disk_is_full_nothing_counts_as_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        ask(ledger, question(0))
    with Ledger(path) as ledger:
        pages = ledger.file.read("PRAGMA page_count").fetchone()[0]
        ledger.file.read(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match=r"ledger\.db: the ledger cannot be written: .*full.*make room"):
            ask(ledger, question(1), until="raw", body=b"x" * 100_000)
        with pytest.raises(StorageError, match="full"):
            ledger.commit()
        with pytest.raises(StorageError, match="full"):
            ledger.add(question(2))
    with Ledger(path) as ledger:
        assert ledger.counts() == [Count("detail", "accepted", "", 1)]


def test_a_ledger_that_cannot_be_written_says_so_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        Ledger(tmp_path / "nowhere" / "ledger.db")
    with pytest.raises(StorageError, match="cannot be written"):
        Ledger(tmp_path / "file" / "ledger.db")


def test_other_files_are_not_touched(tmp_path: Path) -> None:
    text, other, newer = (tmp_path / name for name in ("notes.txt", "other.db", "newer.db"))
    text.write_text("not a database, but something that somebody needs" * 50)
    with sqlite3.connect(other) as base:
        base.execute("CREATE TABLE t (a)")
    with Ledger(newer) as ledger:
        ledger.file.read("PRAGMA user_version = 2")
    for path, words in (
        (text, "no ledger, but another file"),
        (other, "another program's database"),
        (newer, "a ledger of version 2, this program reads 1"),
    ):
        before = path.read_bytes()
        with pytest.raises(ConfigError, match=words):
            Ledger(path)
        assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="no ledger there"):
        Ledger(tmp_path / "none.db", read_only=True)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "empty.db").touch()
    with pytest.raises(ConfigError, match="an empty ledger"):
        Ledger(tmp_path / "empty.db", read_only=True)
    with Ledger(tmp_path / "empty.db") as ledger:
        assert ledger.counts() == []


def test_answers_of_two_editions_are_not_mixed_unless_asked(tmp_path: Path) -> None:
    """Other prompts or another model: new keys, the old rows stay (D12)."""
    old, new = questions(3, version="1"), questions(3, version="2")
    other_kind = questions(2, kind="reasoning", version="9")
    with Ledger(tmp_path / "ledger.db") as ledger:
        for one in (*old, *other_kind):
            ask(ledger, one)
        assert len(list(ledger.accepted())) == 5
        for one in new:
            ask(ledger, one)
        with pytest.raises(ConfigError, match=r"detail was answered in two editions, 3 by painter-1 with prompts"):
            list(ledger.accepted())
        assert len(list(ledger.accepted(mixed=True))) == 8
        chosen = {one.edition for one in (*new, *other_kind)}
        assert {answer.key for answer in ledger.accepted(editions=chosen)} == {one.key for one in (*new, *other_kind)}


def test_the_dead_can_be_asked_again(tmp_path: Path) -> None:
    asked = question()
    with Ledger(tmp_path / "ledger.db") as ledger:
        ask(ledger, asked, until="failed", reason="http_500")
        ledger.bury(asked.key, "http_500")
        assert ledger.counts() == [Count("detail", "dead", "http_500", 1)]
        assert ledger.revive() == 1
    with Ledger(tmp_path / "ledger.db") as ledger:
        entry = ledger.find(asked.key)
        assert entry is not None
        assert entry.is_open(1)


def test_counts_and_costs_are_those_of_the_file(tmp_path: Path) -> None:
    chance = random.Random(3)
    with Ledger(tmp_path / "ledger.db") as ledger:
        for one in questions(60):
            ask(ledger, one, until=chance.choice(["failed", "raw", "accepted", "rejected"]))
        kept = (ledger.counts(), ledger.spending(), ledger.tries(), ledger.rejections())
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert (ledger.counts(), ledger.spending(), ledger.tries(), ledger.rejections()) == kept
