"""The drill: a run is killed again and again at seeded moments, and its data is that of an undisturbed one.

Lives are forked from a process that has imported everything (a fork server). A life ends after a seeded number of
function calls, which does not depend on the machine's speed, or at a fault point inside the writing of the data. The
teacher fails, refuses and rambles by a script, and notes each call in a file: none may be lost, few may be repeated.
The suite makes `KILLS` kills; SIGHTLINE_KILLS=50 makes fifty.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest

from sightline.ask.limits import Limits
from sightline.ask.question import Question
from sightline.ask.teacher import Retryable, completion_body
from sightline.atomic import FAULT_VARIABLE
from sightline.synth.export import DATA
from sightline.synth.kinds import load_kinds
from sightline.synth.plan import Plan
from sightline.synth.run import Job, run
from sightline.synth.source import Source
from tests.ask.helpers import FastClock
from tests.synth.samples import BAD_REPLIES, contexts, good_reply

SEED = 20261121
KILLS = int(os.environ.get("SIGHTLINE_KILLS", "8"))
KILLS_OF_A_RUN = 5
MOMENTS = (2_500, 40_000)
"""Calls of functions after which a life ends: the first question is asked after some 3,000, the last of a life that
finds nothing answered after some 57,000, and the export takes 450,000 more."""
IN_FLIGHT = 6
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["sightline.synth.run", "datasketch", "tests.ask.helpers", "tests.synth.samples"])


class ScriptedTeacher:
    """What it says depends on question and ask alone; each call is a line in a file that survives a kill."""

    def __init__(self, calls: Path) -> None:
        self._calls = calls
        self._tries: Counter[tuple[str, int]] = Counter()

    async def reply(self, question: Question, ask: int) -> bytes:
        with self._calls.open("a") as file:
            file.write(f"{question.key} {ask}\n")
        lot = int(hashlib.sha256(f"{question.key} {ask}".encode()).hexdigest()[:8], 16)
        self._tries[question.key, ask] += 1
        await asyncio.sleep(0)
        if lot % 7 == 0 and self._tries[question.key, ask] == 1:
            raise Retryable("http_503")
        text = BAD_REPLIES[lot % 3] if lot % 4 == 0 else good_reply(question.kind, question.messages[-1].content)
        return completion_body(text, model=question.model, tokens=(100, 50))

    async def close(self) -> None: ...


def live(folder: Path, calls: int | None, fault: str | None) -> None:
    """One life of the run: to its end, or until it is killed."""
    if fault:
        os.environ[FAULT_VARIABLE] = fault
    source = Source(format="contexts", path=Path("made-up"), contexts=contexts(10))
    kinds = load_kinds()
    job = Job(
        directory=folder,
        source=source,
        contexts=source.contexts,
        plan=Plan(kinds=kinds, mixture=dict.fromkeys(kinds), model="painter-1"),
        asks=12,
        limits=Limits(concurrency=IN_FLIGHT, stop_share=1.0),
    )
    left = calls

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if left is not None and event == "call":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if calls is not None:
        sys.setprofile(count)
    run(job, ScriptedTeacher(folder.with_suffix(".calls")), clock=FastClock(1000))


def end_of_life(folder: Path, *, calls: int | None = None, fault: str | None = None) -> int | None:
    process = SERVER.Process(target=live, args=(folder, calls, fault))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the life hangs"
    return process.exitcode


def calls_of(folder: Path) -> Counter[str]:
    return Counter(folder.with_suffix(".calls").read_text().splitlines())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drill") / "whole"
    assert end_of_life(folder) == 0
    return folder


def test_killed_again_and_again_the_data_is_the_same(tmp_path: Path, undisturbed: Path) -> None:
    whole = (undisturbed / DATA).read_bytes()
    assert whole.count(b'"id"') > 30
    chance = random.Random(SEED)
    kills = 0
    while kills < KILLS:
        folder, died = tmp_path / f"after-{kills}", 0
        while died < KILLS_OF_A_RUN and kills < KILLS:
            assert end_of_life(folder, calls=chance.randint(*MOMENTS)) == -signal.SIGKILL
            kills, died = kills + 1, died + 1
        assert end_of_life(folder) == 0
        assert (folder / DATA).read_bytes() == whole
        again = calls_of(folder) - calls_of(undisturbed)
        assert again.total() <= died * IN_FLIGHT + again_after_failure(folder, died)
        assert not calls_of(undisturbed).keys() - calls_of(folder).keys()


def again_after_failure(folder: Path, died: int) -> int:
    """A new life forgets which calls have failed once and lets them fail again: at most those in flight then."""
    return died * IN_FLIGHT


@pytest.mark.parametrize("fault", ["before_replace", "before_replace:2", "before_replace:3", "before_replace:5"])
def test_killed_while_it_writes_the_next_life_finishes(tmp_path: Path, undisturbed: Path, fault: str) -> None:
    """The settings, the data, the report, the page: each is whole or absent."""
    folder = tmp_path / "run"
    assert end_of_life(folder, fault=fault) == -signal.SIGKILL
    assert end_of_life(folder) == 0
    assert (folder / DATA).read_bytes() == (undisturbed / DATA).read_bytes()
