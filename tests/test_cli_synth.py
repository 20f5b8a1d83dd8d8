"""`sightline synth`: one line for each mistake, one command from annotations to data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sightline.data.parsing import read_samples
from sightline.synth.kinds import copy_prompts
from tests.ask.scripted_server import ScriptedServer
from tests.command_line import Captured, assert_refused, sightline
from tests.synth.samples import contexts, scripted_reply, write_contexts
from tests.tiny_checkpoint import save_assistant, tiny_assistant


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_contexts(tmp_path / "contexts.jsonl", contexts(4))


def test_rules_need_no_network_and_leave_data(tmp_path: Path, source: Path, capsys: Captured) -> None:
    out = tmp_path / "run"
    assert sightline("synth", source, "--teacher", "rules", "--out", out, "--licence", "data=cc-by-4.0", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["samples"] == dict.fromkeys(("conversation", "detail", "reasoning", "vqa", "negatives"), 4)
    assert report["licences"]["data"] == "cc-by-4.0"
    assert len(read_samples(Path(report["data"]))) == 20
    assert sightline("synth", source, "--teacher", "rules", "--out", out) == 0
    assert "conversation: 4 samples" in capsys.readouterr().out


def test_the_mixture_and_the_limit_choose(tmp_path: Path, source: Path, capsys: Captured) -> None:
    arguments = ["--teacher", "rules", "--out", tmp_path / "run", "--limit", "3", "--mix", "vqa=30,detail=10", "--json"]
    assert sightline("synth", source, *arguments) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == {"vqa": 3, "detail": 1}


def test_a_server_is_asked_by_its_address(
    tmp_path: Path, source: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ScriptedServer(replies=lambda body: scripted_reply(body, bad=0.0)) as server:
        arguments = ["--model", "painter-1", "--base-url", server.url, "--prices", "1,2", "--budget", "5", "--json"]
        assert sightline("synth", source, "--out", tmp_path / "run", *arguments) == 0
        report = json.loads(capsys.readouterr().out)
        assert len(server.calls) == report["calls"] == 20
    assert 0 < report["cost"] < 5
    assert not any(call.body["messages"][-1]["content"].count("bench: [") for call in server.calls[:1])


def test_a_budget_that_is_reached_has_its_own_exit_code(
    tmp_path: Path, source: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ScriptedServer(replies=scripted_reply) as server:
        arguments = ["--model", "painter-1", "--base-url", server.url, "--budget-tokens", "10"]
        assert sightline("synth", source, "--out", tmp_path / "run", *arguments) == 6
        assert not server.calls
    assert "budget is reached" in capsys.readouterr().err


def test_a_checkpoint_answers_about_the_pictures(tmp_path: Path, source: Path, capsys: Captured) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for context in contexts(4):
        Image.new("RGB", (40, 30), "green").save(images / context.image, "JPEG")
    checkpoint = save_assistant(tmp_path / "trained", *tiny_assistant())
    short = copy_prompts(tmp_path / "prompts")[3]
    short.write_text(short.read_text().replace("max_tokens: 512", "max_tokens: 6"))
    arguments = [
        "--prompts",
        short.parent,
        "--teacher",
        "checkpoint",
        checkpoint,
        "--images",
        images,
        "--mix",
        "vqa",
        "--limit",
        "2",
        "--json",
    ]
    assert sightline("synth", source, *arguments, "--out", tmp_path / "run", "--stop-share", "1", "--asks", "1") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["settings"]["model"].startswith("checkpoint-")
    assert report["calls"] == 2


def test_prompts_can_be_copied_edited_and_used(tmp_path: Path, source: Path, capsys: Captured) -> None:
    prompts = tmp_path / "prompts"
    assert sightline("synth", source, "--copy-prompts", "--prompts", prompts) == 0
    assert capsys.readouterr().out.count(".yaml") == 5
    shutil.copy(prompts / "vqa.yaml", prompts / "quiz.yaml")
    with ScriptedServer(replies=lambda body: scripted_reply(body, bad=0.0)) as server:
        arguments = ["--model", "m", "--base-url", server.url, "--prompts", prompts, "--mix", "quiz", "--json"]
        assert sightline("synth", source, "--out", tmp_path / "run", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == {"quiz": 4}


def test_batch_files_are_written(tmp_path: Path, source: Path, capsys: Captured) -> None:
    assert sightline("synth", source, "--out", tmp_path / "run", "--model", "m", "--batch", "write") == 0
    (path,) = capsys.readouterr().out.split()
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert len(lines) == 20
    assert {line["url"] for line in lines} == {"/v1/chat/completions"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--teacher rules", "--out"),
        ("--out x", "--model"),
        ("--out x --teacher rule", "expected openai, rules, checkpoint"),
        ("--out x --teacher rules --model m", "only for --teacher openai"),
        ("--out x --teacher checkpoint", "name its directory"),
        ("trained --out x --teacher rules", "a second path is a checkpoint's"),
        ("trained --out x --teacher checkpoint", "--images"),
        ("trained --out x --teacher checkpoint --images .", "no finished checkpoint"),
        ("--out x --model m --engine ray", "for local teachers"),
        ("--out x --teacher rules --batch write", "--batch"),
        ("--out x --model m --batch read", "--results"),
        ("--out x --teacher rules --images nowhere", "no folder nowhere"),
        ("--out x --teacher rules --mix verses=3", "no kind 'verses'"),
        ("--out x --teacher rules --show detail=pixels", "KIND=captions+boxes"),
        ("--out x --teacher rules --prices 1", "expected two"),
        ("--out x --teacher rules --budget much", "expected numbers"),
        ("--out x --teacher rules --licence mit", "data=..."),
        ("--out x --teacher rules --format kitti", "expected coco"),
        ("--out x --teacher rules --editions none", "one, present, all"),
        ("--out x --teacher rules --stop-share 0", "0 to 1"),
        ("--copy-prompts", "--prompts"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, source: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, arguments: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, f"synth contexts.jsonl {arguments}", words)
    assert not (tmp_path / "x").exists()


def test_a_source_that_is_not_there_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    assert_refused(capsys, f"synth {tmp_path}/nothing --teacher rules --out {tmp_path}/x", "no such file or folder")
