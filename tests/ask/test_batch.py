"""Batch files out and back (D11)."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sightline.ask import batch
from sightline.ask.batch import read_batch, write_batch
from sightline.ask.budget import Budget, Cost, Prices
from sightline.ask.ledger import Count, Ledger
from sightline.ask.question import Message, Picture, Question, Reply
from sightline.ask.run import ask_all
from sightline.ask.teacher import completion_body
from sightline.atomic import FAULT_VARIABLE
from sightline.errors import BudgetError, ConfigError
from tests.ask.helpers import MODEL, PlainTeacher, content, question, questions

Lines = list[dict[str, Any]]


def requests_of(paths: list[Path]) -> Lines:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def result(request: dict[str, Any], text: str = "A red bus waits.", *, tokens: tuple[int, int] = (10, 5)) -> Any:
    body = json.loads(completion_body(text, model=request["body"]["model"], tokens=tokens))
    return {
        "id": "batch_req_1",
        "custom_id": request["custom_id"],
        "response": {"status_code": 200, "request_id": "1", "body": body},
        "error": None,
    }


def trouble(request: dict[str, Any], status: int) -> Any:
    body = {"error": {"message": "no", "type": "x", "code": "x"}}
    return {
        "custom_id": request["custom_id"],
        "response": {"status_code": status, "body": body},
        "error": None,
    }


def without_response(request: dict[str, Any], code: str) -> Any:
    return {"custom_id": request["custom_id"], "response": None, "error": {"code": code, "message": "."}}


def save(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_requests_are_what_the_service_takes(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        (path,) = write_batch([*questions(3), question(0)], tmp_path / "out", ledger=ledger)
        assert path.name == "requests-00001.jsonl"
        requests = requests_of([path])
        assert [one["custom_id"] for one in requests] == [one.key for one in questions(3)]
        assert requests[0] == {
            "custom_id": question(0).key,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": MODEL,
                "messages": [
                    {"role": "system", "content": "You describe pictures."},
                    {"role": "user", "content": "Describe picture 0."},
                ],
                "max_tokens": 20,
                "temperature": 0.0,
                "seed": 0,
            },
        }
        assert ledger.counts() == [Count("detail", "batched", "", 3)]
        assert write_batch(questions(3), tmp_path / "out", ledger=ledger) == []
        assert [file.name for file in (tmp_path / "out").iterdir()] == [path.name]


def test_files_keep_to_both_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (batch.MOST_REQUESTS, batch.MOST_BYTES) == (50_000, 200_000_000)
    monkeypatch.setattr(batch, "MOST_REQUESTS", 4)
    monkeypatch.setattr(batch, "MOST_BYTES", 3000)
    long = [
        Question.of([Message("user", "x" * 1200)], model=MODEL, kind="long", max_tokens=5, subject=str(number))
        for number in range(5)
    ]
    with Ledger(tmp_path / "ledger.db") as ledger:
        paths = write_batch([*questions(9), *long], tmp_path, ledger=ledger)
        sizes = [len(requests_of([path])) for path in paths]
        assert sizes == [4, 4, 2, 2, 2]
        assert all(path.stat().st_size <= 3000 for path in paths)
        assert len({one["custom_id"] for one in requests_of(paths)}) == 14
        more = write_batch([question(99)], tmp_path, ledger=ledger)
        assert more[0].name == "requests-00006.jsonl"


def test_results_in_any_order_with_every_defect_find_their_questions(tmp_path: Path) -> None:
    asked = questions(12)
    prices = Prices(prompt=Decimal(1), completion=Decimal(2))
    exports = []
    for seed in range(3):
        chance = random.Random(seed)
        with Ledger(tmp_path / f"{seed}.db") as ledger:
            requests = requests_of(
                write_batch(asked, tmp_path / str(seed), ledger=ledger, budget=Budget(prices=prices))
            )
            good = [result(one, f"Reply to {one['custom_id'][:8]}.") for one in requests[:6]]
            output = [
                *good,
                good[2],
                {**good[0], "custom_id": "unheard-of"},
                {key: value for key, value in good[0].items() if key != "custom_id"},
                {**good[0], "custom_id": 7},
                '{"custom_id": "cut',
                "[1, 2]",
                "",
                json.dumps(result(requests[6], "x" * 2 * batch._LONGEST_LINE)),
            ]
            errors = [
                without_response(requests[7], "batch_expired"),
                without_response(requests[8], "batch_cancelled"),
                trouble(requests[9], 500),
                trouble(requests[10], 400),
            ]  # and nobody speaks of requests[11]
            chance.shuffle(output)
            chance.shuffle(errors)
            files = [save(tmp_path / "output.jsonl", output), save(tmp_path / "errors.jsonl", errors)]
            chance.shuffle(files)
            read = read_batch(files, asked, ledger=ledger, judge=content, prices=prices)
            assert read.lines == {
                "duplicate": 1,
                "expired": 2,
                "failed": 1,
                "no_id": 3,
                "not_json": 1,
                "refused": 1,
                "stored": 6,
                "too_long": 1,
                "unknown_id": 1,
            }
            assert read.missing == 2
            assert read.judged == {"accepted": 6}
            assert ledger.counts() == [
                Count("detail", "accepted", "", 6),
                Count("detail", "dead", "http_400", 1),
                Count("detail", "pending", "", 5),
            ]
            assert ledger.spending() == Cost(60, 30, 6 * (10 * 10**6 + 10 * 10**6))
            exports.append(list(ledger.accepted()))
            again = requests_of(write_batch(asked, tmp_path / str(seed), ledger=ledger))
            assert {one["custom_id"] for one in again} == {asked[number].key for number in (6, 7, 8, 9, 11)}
    assert exports[0] == exports[1] == exports[2]
    assert all(answer.reply.text == f"Reply to {answer.key[:8]}." for answer in exports[0])


def test_a_rejected_reply_goes_out_again_as_another_asking(tmp_path: Path) -> None:
    def judge(asked: Question, reply: Reply) -> str | None:
        return "leak" if "caption" in reply.text else None

    asked = questions(3)
    with Ledger(tmp_path / "ledger.db") as ledger:
        requests = requests_of(write_batch(asked, tmp_path, ledger=ledger, asks=2))
        texts = ["A bus.", "The caption says", "A tree."]
        results = [result(one, text) for one, text in zip(requests, texts, strict=True)]
        results[2]["response"]["body"]["choices"][0]["finish_reason"] = "length"
        read = read_batch([save(tmp_path / "r", results)], asked, ledger=ledger, judge=judge)
        assert read.judged == {"accepted": 1, "leak": 1, "length": 1}
        second = requests_of(write_batch(asked, tmp_path, ledger=ledger, asks=2))
        assert [(one["custom_id"], one["body"]["seed"], one["body"]["max_tokens"]) for one in second] == [
            (asked[1].key, 1, 20),
            (asked[2].key, 1, 40),
        ]


def test_a_result_that_comes_after_its_question_was_opened_again_is_taken(tmp_path: Path) -> None:
    asked = questions(2)
    with Ledger(tmp_path / "ledger.db") as ledger:
        requests = requests_of(write_batch(asked, tmp_path, ledger=ledger))
        first = [save(tmp_path / "first", [without_response(requests[0], "batch_expired")])]
        read_batch(first, asked, ledger=ledger, judge=content)
        assert ledger.counts() == [Count("detail", "pending", "", 2)]
        late = [save(tmp_path / "late", [result(requests[1])])]
        assert read_batch(late, asked, ledger=ledger, judge=content).judged == {"accepted": 1}
        assert read_batch(late, asked, ledger=ledger, judge=content).lines == {"duplicate": 1}
        assert ledger.spending() == Cost(10, 5, 0)


@pytest.mark.parametrize(("fault", "files"), [("batch_known", 0), ("batch_there", 1)])
def test_a_kill_while_a_file_is_written_never_writes_a_question_twice(
    tmp_path: Path, fault: str, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import multiprocessing

    def live() -> None:
        with Ledger(tmp_path / "ledger.db") as ledger:
            write_batch(questions(5), tmp_path / "out", ledger=ledger)

    monkeypatch.setenv(FAULT_VARIABLE, fault)
    process = multiprocessing.get_context("fork").Process(target=live)
    process.start()
    process.join()
    assert process.exitcode == -9
    monkeypatch.delenv(FAULT_VARIABLE)
    out = tmp_path / "out"
    assert len(list(out.glob("requests-*"))) == files
    with Ledger(tmp_path / "ledger.db") as ledger:
        write_batch(questions(7), out, ledger=ledger)
    requests = requests_of(sorted(out.glob("requests-*")))
    assert sorted(one["custom_id"] for one in requests) == sorted(one.key for one in questions(7))
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_replies_are_stored_before_the_first_is_looked_at(tmp_path: Path) -> None:
    asked = questions(4)

    def broken(one: Question, reply: Reply) -> str | None:
        raise ZeroDivisionError

    with Ledger(tmp_path / "ledger.db") as ledger:
        requests = requests_of(write_batch(asked, tmp_path, ledger=ledger))
        path = save(tmp_path / "results", [result(one) for one in requests])
        with pytest.raises(ZeroDivisionError):
            read_batch([path], asked, ledger=ledger, judge=broken)
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.counts() == [Count("detail", "raw", "", 4)]
        assert read_batch([path], asked, ledger=ledger, judge=content).judged == {"accepted": 4}


def test_a_run_leaves_alone_what_is_out_in_a_file(tmp_path: Path) -> None:
    teacher = PlainTeacher()
    with Ledger(tmp_path / "ledger.db") as ledger:
        write_batch(questions(3), tmp_path, ledger=ledger)
        summary = ask_all(questions(5), teacher=teacher, ledger=ledger, judge=content)
        assert len(teacher.calls) == 2
        assert "3 questions wait for batch files to come back; read those first" in summary.warnings


def test_a_budget_holds_for_files_too(tmp_path: Path) -> None:
    worst = Budget().worst(question()).tokens
    with Ledger(tmp_path / "ledger.db") as ledger:
        with pytest.raises(BudgetError, match="1 files are written") as caught:
            write_batch(questions(9), tmp_path, ledger=ledger, budget=Budget(tokens=3 * worst + 1))
        assert caught.value.exit_code == 6
        assert len(requests_of(list(tmp_path.glob("requests-*")))) == 3
        assert ledger.spending().tokens <= 3 * worst + 1


def test_files_of_somebody_else_stay_and_missing_pictures_are_counted(tmp_path: Path) -> None:
    (tmp_path / "requests-00001.jsonl").write_text("mine")
    with Ledger(tmp_path / "ledger.db") as ledger:
        with pytest.raises(ConfigError, match="is there already"):
            write_batch(questions(1), tmp_path, ledger=ledger)
        assert (tmp_path / "requests-00001.jsonl").read_text() == "mine"
        shows = Message("user", "?", (Picture(str(tmp_path / "gone.png"), "00"),))
        gone = Question.of([shows], model=MODEL, kind="judge", max_tokens=5)
        assert write_batch([gone], tmp_path / "out", ledger=ledger) == []
        assert Count("judge", "dead", "image_missing", 1) in ledger.counts()
        with pytest.raises(ConfigError, match="nothing: cannot be read"):
            read_batch([tmp_path / "nothing"], [], ledger=ledger, judge=content)


def test_results_without_a_line_are_refused_and_an_empty_error_file_beside_others_is_not(tmp_path: Path) -> None:
    asked = questions(1)
    with Ledger(tmp_path / "ledger.db") as ledger:
        (request,) = requests_of(write_batch(asked, tmp_path, ledger=ledger))
        empty = save(tmp_path / "errors", [])
        with pytest.raises(ConfigError, match="errors: found no line, expected the results of a batch"):
            read_batch([empty], asked, ledger=ledger, judge=content)
        whole = save(tmp_path / "output", [result(request)])
        assert read_batch([empty, whole], asked, ledger=ledger, judge=content).judged == {"accepted": 1}
