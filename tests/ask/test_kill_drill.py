"""The drill D7: kill -9 at seeded moments, against a server with troubles; the export must not show it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from sightline.ask.ledger import Ledger
from sightline.ask.limits import Limits
from sightline.ask.openai_teacher import OpenAITeacher
from sightline.ask.question import Question, Reply
from sightline.ask.run import ask_all
from sightline.atomic import FAULT_VARIABLE
from tests.ask.helpers import FastClock, questions
from tests.ask.scripted_server import Body, ScriptedServer, key_of, plain_reply, seeded_troubles

KILLS = 5
"""50 for the long drill; by then the ledgers of several runs have been filled."""
SEED = 20261121
CONCURRENCY = 8
ASKED = questions(40)
TROUBLES = ("429_1", "500", "reset", "cut_json", "html", "redirect")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["openai", "sightline.ask.run", "sightline.ask.openai_teacher", "tests.ask.helpers"])


def judge(asked: Question, reply: Reply) -> str | None:
    return "leak" if "station" in reply.text else None


def replies(body: Body) -> str | Body:
    chance = random.Random(key_of(body))
    return {"finish_reason": "length"} if body["seed"] == 0 and chance.random() < 0.1 else plain_reply(body)


def live(path: Path, url: str, fault: str) -> None:
    """One run, from wherever the ledger stands to its end."""
    os.environ[FAULT_VARIABLE] = fault
    with Ledger(path) as ledger:
        teacher = OpenAITeacher(base_url=url, deadline=20)
        limits = Limits(concurrency=CONCURRENCY)
        ask_all(ASKED, teacher=teacher, ledger=ledger, judge=judge, limits=limits, asks=4, clock=FastClock(1000))


def start(path: Path, server: ScriptedServer, fault: str = "") -> BaseProcess:
    process = SERVER.Process(target=live, args=(path, server.url, fault))
    process.start()
    return process


def export(path: Path) -> bytes:
    with Ledger(path, read_only=True) as ledger:
        assert {count.state for count in ledger.counts()} <= {"accepted", "rejected"}
        return "\n".join(json.dumps([one.key, one.subject, one.reply.text]) for one in ledger.accepted()).encode()


@dataclass
class Moment:
    """When a life ends: at the nth commit, before or after it, or so long after the nth call from now has come."""

    fault: str = ""
    calls: int = 0
    seconds: float = 0.0

    @classmethod
    def drawn(cls, chance: random.Random) -> Moment:
        if chance.random() < 0.5:
            return cls(fault=f"{chance.choice(['before', 'after'])}_commit:{chance.randint(1, 20)}")
        return cls(calls=chance.randint(1, 8), seconds=chance.choice([0.0, chance.uniform(0, 0.02)]))

    def strike(self, path: Path, server: ScriptedServer) -> bool:
        """A life up to this moment; whether it came before the end of the run."""
        target = len(server.calls) + self.calls
        process = start(path, server, self.fault)
        while not self.fault and len(server.calls) < target and process.is_alive():
            time.sleep(0.001)
        if not self.fault:
            time.sleep(self.seconds)
            process.kill()
        process.join(600)
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode != 0


def server_of(run: int) -> ScriptedServer:
    return ScriptedServer(replies, seeded_troubles(run, TROUBLES, share=0.3, most=2))


@pytest.mark.slow
def test_runs_that_are_killed_again_and_again_export_the_same_bytes(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    kills = run = 0
    while kills < KILLS:
        run += 1
        straight, broken = tmp_path / f"straight-{run}.db", tmp_path / f"broken-{run}.db"
        with server_of(run) as undisturbed:
            start(straight, undisturbed).join(600)
        with server_of(run) as server:
            killed = 0
            while kills + killed < KILLS and Moment.drawn(chance).strike(broken, server):
                killed += 1
            start(broken, server).join(600)
        kills += killed
        assert export(broken) == export(straight)
        assert export(broken).count(b"\n") > 20
        assert len(server.calls) <= len(undisturbed.calls) + killed * CONCURRENCY
        assert sum(server.answered.values()) - len(server.answered) <= killed * CONCURRENCY
        with Ledger(broken, read_only=True) as ledger:
            tries, spent = ledger.tries(), ledger.spending()
        assert tries.get("lost", 0) <= killed * CONCURRENCY
        stored = tries["accepted"] + tries["rejected"] + tries.get("failed", 0)
        assert sum(server.answered.values()) <= stored + tries.get("lost", 0)  # no reply was stored and forgotten
        assert sum(server.billed) <= spent.tokens
        print(f"run {run}: {killed} kills, {len(server.calls)} calls, {len(undisturbed.calls)} undisturbed, {tries}")
