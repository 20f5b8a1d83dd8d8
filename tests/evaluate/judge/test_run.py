"""The command `sightline judge` against a server on this machine."""

from __future__ import annotations

import json
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
