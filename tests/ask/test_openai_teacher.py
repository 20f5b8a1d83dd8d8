"""One call to a server: what each trouble is taken for, and what never leaves the process."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from sightline.ask.openai_teacher import OpenAITeacher
from sightline.ask.question import Message, Picture, Question
from sightline.ask.reply import LARGEST_REPLY, Unusable, read_reply
from sightline.ask.teacher import Retryable, Unanswerable
from sightline.errors import ConfigError, DataError, TeacherError
from tests.ask.helpers import MODEL, question
from tests.ask.scripted_server import TROUBLES, Body, ScriptedServer, plain_reply

SECRET = "sk-test-4f1c2a9b7d3e"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


def call(server: ScriptedServer, asked: Question | None = None, *, ask: int = 0, **options: Any) -> bytes:
    async def main() -> bytes:
        teacher = OpenAITeacher(base_url=server.url, **{"deadline": 5.0, **options})
        try:
            return await teacher.reply(asked or question(), ask)
        finally:
            await teacher.close()

    return asyncio.run(main())


def always(trouble: str | None) -> ScriptedServer:
    return ScriptedServer(troubles=lambda key, attempt: trouble, speed=1000)


def test_a_call_carries_the_question_the_seed_and_the_key() -> None:
    with ScriptedServer() as server:
        raw = call(server, ask=3)
    assert read_reply(raw, model=MODEL).text == plain_reply(server.calls[0].body)
    assert server.calls[0].body == {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You describe pictures."},
            {"role": "user", "content": "Describe picture 0."},
        ],
        "max_tokens": 20,
        "temperature": 0.0,
        "seed": 3,
    }
    assert server.calls[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("trouble", "reason", "wait", "billed", "busy"),
    [
        ("429_1", "http_429", 1.0, False, True),
        ("429_90", "http_429", 90.0, False, True),
        ("429_400", "http_429", 300.0, False, True),
        ("429_0", "http_429", None, False, True),
        ("429_-5", "http_429", None, False, True),
        ("429_soon", "http_429", None, False, True),
        ("429_none", "http_429", None, False, True),
        ("408", "http_408", None, False, False),
        ("500", "http_500", None, False, False),
        ("503", "http_503", None, False, False),
        ("529", "http_529", None, False, False),
        ("redirect", "redirect", None, False, False),
        ("reset", "reset", None, True, False),
        ("cut_body", "reset", None, True, False),
    ],
)
def test_what_may_succeed_later(trouble: str, reason: str, wait: float | None, billed: bool, busy: bool) -> None:
    with always(trouble) as server, pytest.raises(Retryable) as caught:
        call(server)
    error = caught.value
    assert (error.reason, error.retry_after, error.billed, error.busy) == (reason, wait, billed, busy)
    assert len(server.calls) == 1  # the client does not try again by itself
    assert server.elsewhere == 0


def test_a_date_to_come_back_at_is_seconds_from_now() -> None:
    with always("429_date") as server, pytest.raises(Retryable) as caught:
        call(server)
    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= 2


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("quota", "the quota is used up"),
        ("401", "the key is refused"),
        ("403", "the key may not use this model"),
        ("404", "there is no such model"),
    ],
)
def test_what_no_waiting_mends(trouble: str, words: str) -> None:
    with always(trouble) as server, pytest.raises(TeacherError, match=words) as caught:
        call(server)
    assert caught.value.exit_code == 5
    assert len(server.calls) == 1
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_only_this_question_meets() -> None:
    with always("400") as server, pytest.raises(Unanswerable) as caught:
        call(server)
    assert caught.value.reason == "http_400"


@pytest.mark.parametrize("trouble", ["cut_json", "html"])
def test_a_body_comes_back_as_it_is_whatever_stands_in_it(trouble: str) -> None:
    with always(trouble) as server:
        raw = call(server)
    with pytest.raises(Unusable) as caught:
        read_reply(raw, model=MODEL)
    assert (caught.value.reason, caught.value.cut) == ("not_json", True)


@pytest.mark.parametrize("trouble", ["never", "drip"])
def test_a_call_ends_at_its_deadline_however_busily_bytes_come(trouble: str) -> None:
    server = always(trouble)
    server.speed = 20  # a byte every 50 ms: no single read ever waits for long
    started = time.monotonic()
    with server, pytest.raises(Retryable) as caught:
        call(server, deadline=0.4)
    assert (caught.value.reason, caught.value.billed) == ("timeout", True)
    assert time.monotonic() - started < 3


def test_a_reply_of_a_megabyte_one_without_end_and_one_that_unpacks_to_much_do_not_hurt() -> None:
    with ScriptedServer(replies=lambda body: "x" * 2**20) as server:
        assert len(call(server)) == LARGEST_REPLY + 1
    with always("endless") as server:
        assert len(call(server)) == LARGEST_REPLY + 1
    with always("bomb") as server:
        assert len(call(server)) < LARGEST_REPLY  # 64 MB, as they came


def test_nobody_there_is_no_bill() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        server = ScriptedServer()
        server.url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(Retryable) as caught:
            call(server)
        assert (caught.value.reason, caught.value.billed) == ("connection", False)
        server.url = "http://nowhere.invalid/v1"
        with pytest.raises(Retryable) as caught:
            call(server)
        assert (caught.value.reason, caught.value.billed) == ("connection", False)


def test_a_picture_that_is_gone_costs_no_call(tmp_path: Path) -> None:
    asked = Question.of(
        [Message("user", "?", (Picture(str(tmp_path / "a.png"), "00"),))], model=MODEL, kind="judge", max_tokens=5
    )
    with ScriptedServer() as server, pytest.raises(DataError, match="cannot be read"):
        call(server, asked)
    assert server.calls == []


def test_the_key_stands_in_no_error_no_body_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Servers send it back in bodies and in messages, libraries may log headers."""
    caplog.set_level(logging.DEBUG)
    for trouble in (None, *TROUBLES):
        if trouble in ("never", "drip", "endless"):
            continue
        with always(trouble) as server:
            try:
                said = call(server).decode(errors="replace")
            except (Retryable, Unanswerable, TeacherError) as error:
                chain: BaseException | None = error
                said = ""
                while chain is not None:
                    said += f"{chain} {chain!r} {vars(chain)}"
                    chain = chain.__cause__ or chain.__context__
        assert SECRET not in said, trouble
    assert caplog.records  # the libraries do log
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/v1",
        "file:///etc/passwd",
        "api.openai.com/v1",
        "",
        "http://",
        "http://ok.com\\@127.0.0.1/v1",
        "http://127.0.0.1:70000/v1",
        "http://me:secret@127.0.0.1/v1",
        "http://127.0.0.1/v1?key=secret",
        "http://127.0.0.1/v1#x",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="base URL") as caught:
        OpenAITeacher(base_url=url)
    assert "secret" not in str(caught.value)


def test_without_a_key_only_this_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY: not set"):
        OpenAITeacher()
    with ScriptedServer() as server:
        call(server)
    assert server.calls[0].headers["authorization"] == "Bearer no-key-needed"


def test_a_word_for_a_key_is_not_cut_out_of_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    with ScriptedServer(replies=lambda body: "An EMPTY street.") as server:
        assert read_reply(call(server), model=MODEL).text == "An EMPTY street."


def test_other_servers_get_other_fields() -> None:
    with ScriptedServer(replies=lambda body: "Yes.") as server:

        async def main() -> Body:
            teacher = OpenAITeacher(base_url=server.url, seeded=False)
            await teacher.reply(question(), 0)
            await teacher.close()
            await teacher.reply(question(), 0)  # opens again
            await teacher.close()
            return server.calls[-1].body

        assert "seed" not in asyncio.run(main())
