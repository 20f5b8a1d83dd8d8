"""A model behind an address is asked as a checkpoint is, and paid for once."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from sightline.ask.budget import Budget
from sightline.errors import ConfigError
from sightline.evaluate.evaluation import Options, evaluate_exam
from sightline.evaluate.exam import open_exam
from sightline.evaluate.runner import Remote
from sightline.evaluate.server_answers import Server
from tests.ask.scripted_server import ScriptedServer
from tests.command_line import sightline
from tests.evaluate.exams import make

pytest.importorskip("openai")


def quiet(line: str) -> None:
    pass


def reply(body: dict[str, Any]) -> Any:
    """By the words of the question; one is cut at the most tokens, and counts as it is."""
    content = body["messages"][-1]["content"]
    words = content if isinstance(content, str) else content[-1]["text"]
    if words.startswith("Why 8"):
        return {"finish_reason": "length", "message": {"role": "assistant", "content": "two"}}
    return "yes"


def test_a_server_is_asked_with_the_picture_and_scored(tmp_path: Path) -> None:
    make("vqav2", tmp_path / "data")
    exam = open_exam("vqav2", tmp_path / "data")
    with ScriptedServer(replies=reply) as server:
        remote = Remote(Server(url=server.url, model="peer"), tmp_path / "ledger.sqlite", quiet)
        outcome = evaluate_exam(exam, remote, tmp_path / "out", Options(), say=quiet)
        calls = len(server.calls)
        evaluate_exam(exam, remote, tmp_path / "out", Options(), say=quiet)
        assert len(server.calls) == calls, "what was answered is not paid for again"
        shown = server.calls[0].body["messages"][0]["content"]
    assert outcome is not None
    assert outcome.result is not None
    assert outcome.result.figures["overall"] == 100.0
    assert outcome.model == "peer"
    assert shown[1]["text"].endswith("Answer the question using a single word or phrase.")
    assert base64.b64decode(shown[0]["image_url"]["url"].partition(",")[2]) in {
        picture.read_bytes() for one in exam.asked for picture in one.pictures if isinstance(picture, Path)
    }


def test_pictures_that_are_no_files_are_sent_too(tmp_path: Path) -> None:
    make("mmbench", tmp_path / "data")
    exam = open_exam("mmbench", tmp_path / "data")
    with ScriptedServer(replies=lambda body: "A") as server:
        remote = Remote(Server(url=server.url, model="peer"), tmp_path / "ledger.sqlite", quiet)
        assert evaluate_exam(exam, remote, tmp_path / "out", Options(), say=quiet) is not None
        assert all(call.body["messages"][0]["content"][0]["type"] == "image_url" for call in server.calls)
    assert len((tmp_path / "out" / "answers.jsonl").read_text().splitlines()) == 4


def test_a_budget_holds_over_all_benchmarks_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the first spent the second has not; a larger budget asks what is left, and nothing again."""
    choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": "A"}}
    usage = {"prompt_tokens": 999, "completion_tokens": 1}
    answer = {"id": "1", "object": "chat.completion", "model": "peer", "choices": [choice], "usage": usage}
    for task in ("vqav2", "mmbench"):
        make(task, tmp_path / "data" / task)
    with ScriptedServer(replies=lambda body: {"whole": answer}) as server:
        arguments = ["evaluate", "vqav2", "mmbench", "--data", tmp_path / "data", "--out", tmp_path / "out"]
        arguments += ["--model", f"openai:{server.url}", "--served", "peer", "--prices", "1000,1000"]
        assert sightline(*arguments, "--budget", 5) == 6
        assert "the budget is reached: 5 of money" in capsys.readouterr().err
        assert (tmp_path / "out" / "vqav2" / "score.json").exists()
        assert len(server.calls) == 2
        assert sightline(*arguments, "--budget", 50) == 0
        assert len(server.calls) == 2 + 4
    assert (tmp_path / "out" / "mmbench" / "score.json").exists()


def test_a_question_that_is_refused_is_answered_with_nothing(tmp_path: Path) -> None:
    make("vqav2", tmp_path / "data")
    exam = open_exam("vqav2", tmp_path / "data")
    refusal = {"finish_reason": "content_filter", "message": {"role": "assistant", "content": ""}}
    with ScriptedServer(replies=lambda body: refusal) as server:
        remote = Remote(Server(url=server.url, model="peer"), tmp_path / "ledger.sqlite", quiet)
        evaluate_exam(exam, remote, tmp_path / "out", Options(), say=quiet)
    lines = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["", ""]


@pytest.mark.parametrize(
    ("address", "model", "words"),
    [("http://127.0.0.1", "peer", "expected openai:URL"), ("openai:http://127.0.0.1/v1", None, "needs --served")],
)
def test_an_address_or_a_name_that_is_missing_is_named(address: str, model: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Server.of(address, model=model, key_variable="KEY", budget=Budget())
