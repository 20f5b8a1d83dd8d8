"""The command `sightline judge` against a server on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.ask.scripted_server import Body, ScriptedServer
from tests.command_line import Captured, assert_refused, sightline
from tests.evaluate.judge.helpers import wild


def review(body: Body) -> str:
    return "10 8\nFine."


def arguments(tmp_path: Path, url: str) -> list[object]:
    return ["judge", "llava-bench", "--answers", tmp_path / "data/answers/model.jsonl", "--data", tmp_path / "data",
            "--model", "judge-1", "--base-url", url, "--out", tmp_path / "out"]  # fmt: skip


def test_command_judges_and_scores_and_asks_nothing_twice(tmp_path: Path, capsys: Captured) -> None:
    wild(tmp_path / "data")
    with ScriptedServer(replies=review) as server:
        assert sightline(*arguments(tmp_path, server.url), "--runs", 2, "--json") == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["scores"][0]["score"] == 80.0
        assert (printed["judge"], printed["prompts"], printed["runs"]) == ("judge-1", "sightline", 2)
        assert len(server.calls) == 6
        assert all("seed" not in call.body for call in server.calls)
        assert server.calls[0].body["temperature"] == 0.2
        files = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.json*")}
        assert sightline(*arguments(tmp_path, server.url), "--runs", 2) == 0
        assert len(server.calls) == 6
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.json*")}
    assert set(files) == {"reviews-1.jsonl", "reviews-2.jsonl", "judge.json"}


RUNS, AT_ONCE = 4, 2
"""Of the judge about three answers, and its requests in flight."""


def by_content(body: Body) -> str:
    """Scores that depend on what the judge is shown; now and then no scores."""
    lot = int(hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:8], 16)
    return "I cannot say." if lot % 5 == 0 else f"{1 + lot % 9} {1 + lot % 7}\nFine."


class Killer:
    """A judge that kills who asks it when it is asked for the `after`-th time in a life."""

    def __init__(self) -> None:
        self.pid, self.left, self.lock = 0, 0, threading.Lock()

    def __call__(self, body: Body) -> str:
        with self.lock:
            self.left -= 1
            if self.left == 0:
                os.kill(self.pid, signal.SIGKILL)
        return by_content(body)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.json*")}


def test_killed_again_and_again_the_judgement_is_that_of_an_undisturbed_run(tmp_path: Path, capsys: Captured) -> None:
    wild(tmp_path / "data")
    more = ["--runs", RUNS, "--concurrency", AT_ONCE]
    with ScriptedServer(replies=by_content) as server:
        assert sightline(*arguments(tmp_path, server.url), *more) == 0
        assert len(server.calls) == 3 * RUNS
    whole = files(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "undisturbed")
    killer = Killer()
    with ScriptedServer(replies=killer) as server:
        command = [sys.executable, "-m", "sightline", *map(str, [*arguments(tmp_path, server.url), *more])]
        for killer.left in (1, 4, 6):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as life:
                killer.pid = life.pid
            assert life.returncode == -signal.SIGKILL
        assert sightline(*arguments(tmp_path, server.url), *more) == 0
        assert len(server.calls) <= 3 * RUNS + 3 * AT_ONCE  # what was in flight, and nothing that was stored
    assert files(tmp_path / "out") == whole


def test_budget_stops_before_the_call_that_could_exceed_it(tmp_path: Path, capsys: Captured) -> None:
    wild(tmp_path / "data")
    with ScriptedServer(replies=review) as server:
        assert sightline(*arguments(tmp_path, server.url), "--budget-tokens", 100) == 6
        assert server.calls == []
    assert "the budget is reached" in capsys.readouterr().err
    assert not (tmp_path / "out/reviews-1.jsonl").exists()


@pytest.mark.parametrize(
    ("bench", "more", "words"),
    [
        ("llava-bnch", "", 'did you mean "llava-bench"'),
        ("mm-vet", "--swap", "--swap: mm-vet shows the judge one answer"),
        ("mm-vet", "--prices 3", "--prices: found '3'"),
        ("mm-vet", "", "mm-vet.json: not in it"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, capsys: Captured, bench: str, more: str, words: str) -> None:
    assert_refused(
        capsys,
        f"judge {bench} --answers a.jsonl --data {tmp_path} --model m --base-url http://127.0.0.1:9/v1 "
        f"--out {tmp_path}/out {more}",
        words,
    )
