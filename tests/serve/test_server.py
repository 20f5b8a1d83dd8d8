"""The process: nobody waits for what is gone, nobody is let in without the key, and it stops as it should."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image

from sightline.errors import ConfigError
from sightline.serve.app import build_app
from sightline.serve.guard import Door
from sightline.serve.limits import Limits
from sightline.serve.server import Server, door_for, is_loopback, listen
from sightline.serve.service import Service
from tests.command_line import Captured, assert_refused
from tests.serve.running import Running, address_of, running, shown
from tests.tiny_checkpoint import save_assistant, tiny_assistant

KEY = "a-key-that-is-long-enough"
QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "What?"}]}


def start(served: Running, **options: Any) -> HTTPConnection:
    """Sends a question and does not read the answer."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    body = json.dumps(QUESTION | {"max_tokens": 900} | options)
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    return connection


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that no stop id ends, of steps that take a while."""
    from sightline.infer import words

    push = words.AnswerText.push

    def slow(self: words.AnswerText, token: int) -> str:
        time.sleep(0.002)
        text = push(self, token)
        self.over = False
        return text

    monkeypatch.setattr(words.AnswerText, "push", slow)


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_request_within_a_step(stream: bool) -> None:
    with running(tiny_assistant()) as served:
        left = start(served, stream=stream)
        served.wait_until(lambda: served.engine.figures.tokens > 3)
        left.close()
        served.wait_until(lambda: served.engine.load == (0, 0), seconds=2)
        assert served.engine.figures.tokens < 800
        served.wait_until(lambda: served.service.taken == 0, seconds=1)
        assert served.engine.figures.ended["cancelled"] == 1


@pytest.mark.usefixtures("endless")
def test_two_hundred_clients_that_vanish_leave_no_trace() -> None:
    """vLLM's cancellation drill: half a second, and a new request is answered within five more."""
    with running(tiny_assistant(), limits=Limits(rows=16, queue=200)) as served:
        clients = [start(served, stream=number % 2 == 0) for number in range(200)]
        time.sleep(0.5)
        for each in clients:
            each.close()
        reply = served.chat(max_tokens=10)
        print(f"answered after {reply.seconds:.2f} s")
        assert reply.status == 200
        assert reply.seconds < 5
        served.wait_until(lambda: served.service.taken == 0, seconds=5)
        assert served.engine.load == (0, 0)
        assert served.lines == []


@pytest.mark.usefixtures("endless")
def test_the_queue_has_an_end_and_says_when_to_come_again() -> None:
    with running(tiny_assistant(), limits=Limits(rows=2, queue=3)) as served:
        clients = [start(served, max_tokens=30) for _ in range(5)]
        served.wait_until(lambda: served.service.taken == 5)
        for _ in range(3):
            reply = served.chat()
            assert (reply.status, reply.code) == (429, "queue_full")
            assert 1 <= int(reply.headers["retry-after"]) <= 30
        assert [each.getresponse().status for each in clients] == [200] * 5
        assert served.chat().status == 200
        assert b'sightline_refusals_total{status="429",code="queue_full"} 3' in served.ask("GET", "/metrics").body


@pytest.mark.usefixtures("endless")
def test_a_client_that_does_not_read_is_cut_off_and_others_are_not_held_up() -> None:
    with running(tiny_assistant(), limits=Limits(stall=0.5)) as served:
        decode = served.service.models["tiny"].processor.decode
        served.service.models["tiny"].processor.decode = lambda ids: "x" * 200_000 * len(ids)  # type: ignore[method-assign]
        left = start(served, stream=True, max_tokens=100)
        served.wait_until(lambda: served.engine.load == (0, 0) and served.engine.figures.tokens > 5)
        served.service.models["tiny"].processor.decode = decode  # type: ignore[method-assign]
        assert served.chat(max_tokens=3).status == 200
        time.sleep(1)
        response = left.getresponse()
        with pytest.raises((OSError, HTTPException)):
            while True:
                assert response.read1(2**16), "it must not look like an end"


def test_health_is_a_step_of_the_engine() -> None:
    model, processor = tiny_assistant()
    gate = threading.Event()
    gate.set()
    decode = model.decode

    def gated(*arguments: Any, **keys: Any) -> Any:
        gate.wait(20)
        return decode(*arguments, **keys)

    model.decode = gated  # type: ignore[method-assign]
    with running((model, processor), limits=Limits(proof=0.3, work=0.2)) as served:
        assert served.ask("GET", "/health").json == {"status": "ok", "models": {"tiny": True}}
        time.sleep(0.4)
        before = served.engine.stepped
        assert served.ask("GET", "/health").status == 200
        assert served.engine.stepped > before, "an idle engine was asked to step"
        gate.clear()
        hanging = start(served, max_tokens=3)
        time.sleep(0.5)
        reply = served.ask("GET", "/health")
        assert (reply.status, reply.json["models"]) == (503, {"tiny": False})
        gate.set()
        assert hanging.getresponse().status == 200
        assert served.ask("GET", "/health").status == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_engine_is_seen_told_and_ends_the_server() -> None:
    model, processor = tiny_assistant()

    def dying(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with running((model, processor)) as served:
        model.decode = dying  # type: ignore[method-assign]
        reply = served.chat()
        assert (reply.status, reply.code) == (503, "stopping")
        served.wait_until(lambda: not served.engine.alive)


@contextmanager
def keyed(**options: Any) -> Iterator[Running]:
    with running(tiny_assistant(), door=Door(hosts=None, key=KEY), **options) as served:
        yield served


def test_without_the_key_nothing_is_told_and_every_refusal_is_the_same() -> None:
    """T9."""
    with keyed() as served:
        tried = [None, "", "Bearer ", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", f"Basic {KEY}", KEY, f"bearer {KEY}", "é"]
        bodies = set()
        for given in tried:
            for path in ("/v1/models", "/metrics", "/nothing"):
                headers = {} if given is None else {"Authorization": given}
                reply = served.ask("GET", path, headers=headers)
                assert (reply.status, reply.code) == (401, "invalid_api_key")
                bodies.add(reply.body)
        assert len(bodies) == 1
        assert served.ask("GET", "/health", headers={"Host": "any.example"}).status == 200
        assert served.client(api_key=KEY).models.list().data[0].id == "tiny"
        assert served.lines == []


def test_refusals_are_quick_while_answers_are_made() -> None:
    with running(tiny_assistant()) as served:
        start(served, stream=True)
        slowest = max(served.chat(n=3).seconds for _ in range(20))
        print(f"{slowest * 1000:.1f} ms")
        assert slowest < 2


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.168.0.1", False), ("box.local", False)],
)  # fmt: skip
def test_others_reach_a_server_only_with_a_key(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    if loopback:
        assert door_for(host, None).hosts is not None
    else:
        with pytest.raises(ConfigError, match="needs a key"):
            door_for(host, None)
        assert door_for(host, KEY).key == KEY
    with pytest.raises(ConfigError, match="at least 16"):
        door_for(host, "short")


def test_a_port_that_is_taken_is_refused_in_one_line(capsys: Captured) -> None:
    with listen("127.0.0.1", 0) as taken:
        assert_refused(capsys, f"serve nowhere --port {taken.getsockname()[1]}", "in use")


def test_no_write_waits_for_the_clients_acknowledgement_of_the_one_before() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_command_refuses_what_is_unsafe_or_not_there(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(capsys, "serve nowhere --port 0", "no such directory")
    assert_refused(capsys, "serve nowhere --host 0.0.0.0 --port 0", "needs a key")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert_refused(capsys, "serve nowhere --api-key-env NO_SUCH_KEY --port 0", "not set")
    monkeypatch.setenv("SHORT_KEY", "abc")
    assert_refused(capsys, "serve nowhere --api-key-env SHORT_KEY --port 0", "at least 16")
    assert_refused(capsys, "serve nowhere --port 0 --collect /dev/null/x.jsonl", "cannot write")


# Signals


def test_sigterm_lets_answers_end_and_takes_no_more(tmp_path: Path) -> None:
    model, processor = tiny_assistant()
    save_assistant(tmp_path / "tiny", model, processor)
    command = [sys.executable, "-c", "from sightline.cli import main; main()", "serve", str(tmp_path / "tiny")]
    with subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = ["tiny: loaded\n"]
        while not (found := re.search(r"http://127.0.0.1:(\d+)", lines[-1])):
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        port = int(found.group(1))

        def ask() -> HTTPResponse:
            connection = HTTPConnection("127.0.0.1", port, timeout=60)
            body = json.dumps(QUESTION | {"max_tokens": 400, "stream": True})
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            return connection.getresponse()

        try:
            responses = [ask() for _ in range(3)]
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            late = ask()
            assert (late.status, late.getheader("Retry-After")) == (503, "30")
            assert all(response.read().endswith(b"data: [DONE]\n\n") for response in responses)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_a_second_signal_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr("sightline.serve.server.os._exit", codes.append)
    service = Service(limits=Limits())
    server = Server(uvicorn.Config(build_app(service, door=Door())), service)
    server.handle_exit(signal.SIGTERM, None)
    assert (service.stopping, codes) == (True, [])
    server.handle_exit(signal.SIGTERM, None)
    assert codes == [128 + signal.SIGTERM]


def test_an_answer_that_outlasts_the_drain_ends_with_an_error() -> None:
    with running(tiny_assistant(context=8192), limits=Limits(drain=0)) as served:
        connection = start(served, stream=True, max_tokens=4096, temperature=2.0)
        response = connection.getresponse()
        response.read(10)
        served.service.stopping = True
        rest = response.read()
    assert b'"code": "stopping"' in rest or b'"code":"stopping"' in rest
    assert b"[DONE]" not in rest


def test_pictures_are_decoded_aside() -> None:
    """A picture at the limit does not hold up the others."""
    large = Image.new("RGB", (4096, 4096), (9, 9, 9))
    messages = shown(address_of(large))
    with running(tiny_assistant()) as served, ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(served.chat, messages=messages) for _ in range(3)]
        slowest = max(served.ask("GET", "/health").seconds for _ in range(10))
        print(f"{slowest * 1000:.0f} ms")
        assert slowest < 5
        assert [each.result().status for each in busy] == [200] * 3
