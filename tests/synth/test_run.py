"""A run of the engine, from contexts to data: against rules, and against a server that misbehaves."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sightline.ask.budget import Budget, Prices
from sightline.ask.ledger import Ledger
from sightline.ask.limits import Limits
from sightline.ask.openai_teacher import OpenAITeacher
from sightline.ask.question import Question
from sightline.ask.teacher import Unanswerable
from sightline.data.parsing import read_samples
from sightline.errors import BudgetError, ConfigError
from sightline.synth.context import Context
from sightline.synth.export import DATA
from sightline.synth.kinds import load_kinds
from sightline.synth.plan import Plan
from sightline.synth.rules import MODEL, RuleTeacher
from sightline.synth.run import CARD, LEDGER, PAGE, REPORT, SETTINGS, Job, read_results, run, write_requests
from sightline.synth.source import Source
from sightline.synth.sources import read_source
from tests.ask.helpers import FastClock
from tests.ask.scripted_server import ScriptedServer, seeded_troubles
from tests.synth.samples import SHARED, contexts, needs_contexts, scripted_reply

KINDS = load_kinds()
SECRET = "sk-this-stands-nowhere-9f8e7d6c"
DEADLINE = 5.0
"""Seconds for a request: on a busy machine the first ones take more than one."""
PATIENT = Limits(stop_share=1.0, circuit_failures=1000)
TROUBLES = ("429_1", "429_90", "500", "cut_json", "redirect")
"""What goes wrong on the way; refusals, wrong grammar, leaks, empty and endless replies are the replies' own."""


def job_of(folder: Path, source: Source, *, model: str = "painter-1", **changes: Any) -> Job:
    plan = Plan(kinds=KINDS, mixture=dict.fromkeys(KINDS), model=model)
    job = Job(directory=folder, source=source, contexts=source.contexts, plan=plan)
    return replace(job, **changes)


def small_source(number: int = 6) -> Source:
    found = Source(format="contexts", path=Path("made-up.jsonl"), contexts=contexts(number))
    found.vocabulary = frozenset({"car", "dog", "cat", "bird"})
    return found


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


def troubles(key: str, attempt: int) -> str | None:
    """Some of everything; time-outs are few, since each takes the whole deadline."""
    if attempt == 0 and key[:2] in ("3a", "3b", "3c"):
        return "never"
    return seeded_troubles(3, TROUBLES, share=0.15, most=2)(key, attempt)


def teacher_at(server: ScriptedServer) -> OpenAITeacher:
    return OpenAITeacher(base_url=server.url, deadline=DEADLINE)


# ---- rules -----------------------------------------------------------------------------------------------------------


def test_a_run_leaves_data_card_page_and_ledger(tmp_path: Path) -> None:
    source = small_source()
    job = job_of(tmp_path / "run", source, model=MODEL)
    summary, report = run(job, RuleTeacher(sorted(source.vocabulary)))
    assert summary.calls == 30
    assert report.export.samples.total() == len(read_samples(job.directory / DATA)) == 30
    assert report.accepted.total() == 30
    for name in (LEDGER, SETTINGS, REPORT, CARD, PAGE):
        assert (job.directory / name).stat().st_size
    again, _ = run(job, RuleTeacher(sorted(source.vocabulary)))
    assert again.calls == 0


def test_a_larger_run_adds_to_a_smaller_one(tmp_path: Path) -> None:
    source = small_source()
    whole = job_of(tmp_path / "run", source, model=MODEL)
    teacher = RuleTeacher(sorted(source.vocabulary))
    run(replace(whole, contexts=source.contexts[:2]), teacher)
    summary, report = run(whole, teacher)
    assert summary.calls == 20
    assert report.export.samples.total() == 30


def test_other_prompts_or_models_are_not_mixed_unless_asked(tmp_path: Path) -> None:
    source = small_source(2)
    teacher = RuleTeacher(sorted(source.vocabulary))
    old = job_of(tmp_path / "run", source, model=MODEL)
    old = replace(old, plan=replace(old.plan, mixture={"vqa": None}))
    run(old, teacher)
    kinds = {**KINDS, "vqa": KINDS["vqa"].model_copy(update={"system": "Ask briefly.", "words": (1, 9)})}
    new = replace(old, plan=replace(old.plan, kinds=kinds))
    before = (tmp_path / "run" / DATA).read_bytes()
    with pytest.raises(ConfigError, match="--editions present") as refused:
        run(new, teacher)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "run" / DATA).read_bytes() == before
    summary, present = run(replace(new, editions="present"), teacher)
    assert (summary.calls, present.export.samples.total()) == (2, 2)
    assert {version for _, version in present.export.editions["vqa"]} == {kinds["vqa"].version}
    _, both = run(replace(new, editions="all"), teacher)
    assert len(both.export.editions["vqa"]) == 2
    with pytest.raises(ConfigError, match="--editions"):
        run(old, teacher)


def test_what_was_given_up_is_asked_again_when_somebody_says_so(tmp_path: Path) -> None:
    source = small_source(3)

    class Silent(RuleTeacher):
        async def reply(self, question: Question, ask: int) -> bytes:
            raise Unanswerable("out_of_order")

    job = job_of(tmp_path / "run", source, model=MODEL)
    _, report = run(job, Silent([]))
    assert report.export.samples.total() == 0
    teacher = RuleTeacher(sorted(source.vocabulary))
    assert run(job, teacher)[0].calls == 0
    summary, report = run(replace(job, revive=True), teacher)
    assert (summary.calls, report.accepted.total()) == (15, 15)


def test_damaged_settings_are_one_line(tmp_path: Path) -> None:
    source = small_source(1)
    (tmp_path / SETTINGS).write_text("{")
    with pytest.raises(ConfigError, match=r"settings.json: damaged"):
        run(job_of(tmp_path, source, model=MODEL), RuleTeacher([]))


# ---- a server --------------------------------------------------------------------------------------------------------


@needs_contexts
@pytest.mark.usefixtures("secret")
def test_eighty_real_contexts_against_a_server_that_misbehaves(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = read_source(SHARED)
    job = job_of(tmp_path / "run", source, asks=12, limits=PATIENT)
    job = replace(job, plan=replace(job.plan, mixture={"conversation": None, "reasoning": None}))
    with ScriptedServer(replies=scripted_reply, troubles=troubles, speed=20_000) as server:
        summary, report = run(job, teacher_at(server), clock=FastClock(1000))
    met = {call.trouble for call in server.calls}
    assert met == {None, "never", *TROUBLES}
    assert report.accepted == {"conversation": 80, "reasoning": 80}  # no context is lost
    answered = [call.key for call in server.calls if call.trouble is None]
    assert len(answered) == len(set(answered))  # nothing is asked again once its reply has come
    assert {"refused", "grammar", "leak_source", "no_text", "too_large"} <= set(report.rejections)
    assert server.elsewhere == 0  # nobody follows a redirect
    assert summary.lost == 0
    assert (summary.spending.prompt_tokens, summary.spending.completion_tokens) >= server.billed
    assert_secret_is_nowhere(tmp_path, capfd)


def assert_secret_is_nowhere(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    captured = capfd.readouterr()
    assert SECRET not in captured.out + captured.err
    for path in folder.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.usefixtures("secret")
def test_the_budget_is_kept_and_the_run_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    source = small_source(12)
    prices = Prices(prompt=Decimal("1"), completion=Decimal("2"))
    job = job_of(tmp_path / "run", source, asks=12, limits=PATIENT)
    small, large = (Budget(prices=prices, money=Decimal(money)) for money in ("0.05", "5"))
    with ScriptedServer(replies=scripted_reply, latency=0.01) as server:
        with pytest.raises(BudgetError):
            run(replace(job, budget=small), teacher_at(server))
        spent = prices.cost(*server.billed).money
        assert Decimal("0.02") < spent <= Decimal("0.05")
        kept = read_samples(job.directory / DATA)
        assert kept  # what was paid for is exported
        _, report = run(replace(job, budget=large), teacher_at(server))
    assert report.export.samples.total() > len(kept)
    with ScriptedServer(replies=scripted_reply) as server:
        undisturbed = replace(job, directory=tmp_path / "other")
        run(undisturbed, teacher_at(server))
    assert (job.directory / DATA).read_bytes() == (undisturbed.directory / DATA).read_bytes()


def test_a_batch_brings_the_same_data_as_a_run(tmp_path: Path) -> None:
    source = small_source(3)
    batch = job_of(tmp_path / "batch", source)
    (requests,) = write_requests(batch)
    assert write_requests(batch) == []
    results = []
    for line in requests.read_text().splitlines():
        asked = json.loads(line)
        body = {
            "model": "painter-1",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": scripted_reply(asked["body"], bad=0.0)},
                }
            ],
        }
        results.append({"custom_id": asked["custom_id"], "response": {"status_code": 200, "body": body}, "error": None})
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(result) + "\n" for result in reversed(results)))
    found, report = read_results(batch, [path])
    assert found["lines"] == {"stored": 15}
    with ScriptedServer(replies=lambda body: scripted_reply(body, bad=0.0)) as server:
        run(job_of(tmp_path / "run", source), teacher_at(server))
    assert report.export.samples.total() == 15
    assert (tmp_path / "batch" / DATA).read_bytes() == (tmp_path / "run" / DATA).read_bytes()


def test_the_ledger_alone_holds_what_the_export_needs(tmp_path: Path) -> None:
    """The source and the prompts may be gone."""
    source = small_source(2)
    job = job_of(tmp_path / "run", source, model=MODEL)
    run(job, RuleTeacher(sorted(source.vocabulary)))
    data = (job.directory / DATA).read_bytes()
    (job.directory / DATA).unlink()
    empty = replace(job, contexts=list[Context](), source=Source(format="contexts", path=Path("gone")))
    run(empty, RuleTeacher([]))
    assert (job.directory / DATA).read_bytes() == data
    with Ledger(job.directory / LEDGER, read_only=True) as ledger:
        assert [answer.key for answer in ledger.accepted()] == sorted(answer.key for answer in ledger.accepted())
