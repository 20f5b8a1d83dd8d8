"""A language model's server that misbehaves on a script, on this machine.

Comes in: a function that writes the replies, one that scripts the troubles. Goes out: the OpenAI chat-completions
protocol on 127.0.0.1, and a list of what was asked. What a request gets is a pure function of its content (the asking's
number is in it, as `seed`) and of how often this content has come before:

- `replies(body)` is the text; a reply that is wrong in itself (a refusal, no text) depends on the content alone, so
  that a run that was killed meets the same ones as an undisturbed run;
- `troubles(key, attempt)` names what goes wrong on the way, one of `TROUBLES`, or None.

Usage is billed in words: those of the messages and those of the reply.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Body = dict[str, Any]
Replies = Callable[[Body], str | Body]
"""The reply's text; or what stands in `choices[0]` instead, such as `{"finish_reason": "length", ...}`; or, under the
key `whole`, the whole answer."""
Troubles = Callable[[str, int], str | None]

TRANSIENT = (
    "429_1",
    "429_90",
    "429_date",
    "429_none",
    "500",
    "503",
    "529",
    "redirect",
    "reset",
    "cut_json",
    "cut_body",
    "html",
    "never",
    "drip",
)
FATAL = ("quota", "401", "403", "404")
TROUBLES = (*TRANSIENT, *FATAL, "400", "408", "429_0", "429_-5", "429_soon", "429_400", "endless", "bomb", "echo_key")


def key_of(body: Body) -> str:
    """The content of a request, as this server tells them apart."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def plain_reply(body: Body) -> str:
    """Some words that depend on the content alone, never more than `max_tokens`."""
    chance = random.Random(key_of(body))
    words = ("red", "bus", "waits", "beside", "the", "old", "station", "while", "people", "pass")
    return " ".join(chance.choice(words) for _ in range(min(12, body["max_tokens"])))


def no_troubles(key: str, attempt: int) -> str | None:
    return None


def seeded_troubles(seed: int, kinds: tuple[str, ...] = TRANSIENT, *, share: float = 0.5, most: int = 3) -> Troubles:
    """A share of the requests meets one to `most` troubles before it is answered."""

    def troubles(key: str, attempt: int) -> str | None:
        chance = random.Random(f"{seed} {key}")
        planned = [chance.choice(kinds) for _ in range(chance.randint(1, most))] if chance.random() < share else []
        return planned[attempt] if attempt < len(planned) else None

    return troubles


@dataclass(frozen=True)
class Call:
    """One request: when it came (`time.monotonic`), its content's key, the how-manieth of that content, what it met.

    `headers`: names in lower case.
    """

    at: float
    key: str
    attempt: int
    trouble: str | None
    body: Body
    headers: dict[str, str]


@dataclass
class ScriptedServer:
    """Runs in threads from `with` to its end.

    Attributes:
        speed: how often faster than real time `never` and `drip` go; Retry-After says what it says.
        latency: seconds before each answer.
        calls: what came, in order.
        billed: tokens of prompts and replies that were answered, whether anybody received them or not.
        most_at_once: requests that were in work at the same time.
        elsewhere: connections to the host that redirects point to.
    """

    replies: Replies = plain_reply
    troubles: Troubles = no_troubles
    speed: float = 1.0
    latency: float = 0.0
    calls: list[Call] = field(default_factory=list)
    billed: tuple[int, int] = (0, 0)
    answered: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    elsewhere: int = 0

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self._at_once = 0
        self._closing = threading.Event()
        script = self
        handler = type("Handler", (_Handler,), {"server_script": self})

        class Elsewhere(BaseHTTPRequestHandler):
            def setup(self) -> None:
                script.elsewhere += 1
                super().setup()

            def log_message(self, *_: object) -> None: ...

        self._servers = [_Server(("127.0.0.1", 0), one) for one in (handler, Elsewhere)]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._servers[0].server_port}/v1"
        self.other_url = f"http://localhost:{self._servers[1].server_port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def note(self, body: Body, headers: dict[str, str]) -> Call:
        """Writes down that a request came."""
        key = key_of(body)
        with self._lock:
            attempt = self._seen[key]
            self._seen[key] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            call = Call(time.monotonic(), key, attempt, self.troubles(key, attempt), body, headers)
            self.calls.append(call)
        return call

    def done(self) -> None:
        with self._lock:
            self._at_once -= 1

    def bill(self, key: str, usage: Body) -> None:
        with self._lock:
            self.billed = (self.billed[0] + usage["prompt_tokens"], self.billed[1] + usage["completion_tokens"])
            self.answered[key] += 1

    def wait(self, seconds: float) -> None:
        """Real time that passes faster."""
        self._closing.wait(seconds / self.speed)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body leave one by one
    server_script: ScriptedServer

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        script = self.server_script
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = script.note(body, {name.lower(): value for name, value in self.headers.items()})
        try:
            if self.path != "/v1/chat/completions":
                return self._error(404, "invalid_request_error", "no such path")
            script.wait(script.latency * script.speed)
            return self._meet(call.trouble, body, call.key)
        finally:
            script.done()

    def _meet(self, trouble: str | None, body: Body, key: str) -> None:
        if trouble is None or trouble in ("cut_json", "cut_body", "drip", "endless", "bomb", "echo_key", "never"):
            return self._answer(trouble, body, key)
        name, _, detail = trouble.partition("_")
        if trouble == "quota":
            return self._error(429, "insufficient_quota", "You exceeded your current quota")
        if name == "429" and detail not in ("", "none"):
            wait = formatdate(time.time() + 2, usegmt=True) if detail == "date" else detail
            return self._error(429, "rate_limit_exceeded", "slow down", {"Retry-After": wait})
        if name == "redirect":
            return self._send(302, b"", {"Location": f"{self.server_script.other_url}/chat/completions"})
        if name == "reset":
            # Lingering for no time: the connection ends with a RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return None
        if name == "html":
            return self._send(200, b"<html><body>Gateway</body></html>", {"Content-Type": "text/html"})
        sent = self.headers["Authorization"] or ""  # as careless servers do, the key comes back in the message
        return self._error(int(name), f"scripted_{name}", f"Trouble {name} with {sent}")

    def _answer(self, trouble: str | None, body: Body, key: str) -> None:
        script = self.server_script
        reply = script.replies(body)
        whole = self._completion(body, reply)
        if trouble == "echo_key":
            whole["echo"] = dict(self.headers)
        content = json.dumps(whole).encode()
        script.bill(key, whole.get("usage") or {"prompt_tokens": 0, "completion_tokens": 0})
        if trouble == "never":
            script.wait(3600)
        elif trouble == "cut_json":
            self._send(200, content[: len(content) // 2])
        elif trouble == "cut_body":
            self._head(200, len(content), {})
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif trouble == "drip":
            self._head(200, len(content), {})
            for position in range(len(content)):
                self.wfile.write(content[position : position + 1])
                script.wait(1)
        elif trouble == "bomb":
            self._send(200, gzip.compress(content + b" " * 2**26), {"Content-Encoding": "gzip"})
        elif trouble == "endless":
            self._head(200, 2**40, {})
            while not script._closing.is_set():
                self.wfile.write(b" " * 65536)
        else:
            self._send(200, content)

    @staticmethod
    def _completion(body: Body, reply: str | Body) -> Body:
        if isinstance(reply, dict) and "whole" in reply:
            return dict(reply["whole"])
        text = reply if isinstance(reply, str) else str((reply.get("message") or {}).get("content") or "")
        choice: Body = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        choice.update({} if isinstance(reply, str) else {name: reply[name] for name in reply if name != "model"})
        prompt = sum(len(str(message["content"]).split()) for message in body["messages"])
        usage = {"prompt_tokens": prompt, "completion_tokens": min(len(text.split()), body["max_tokens"])}
        model = body["model"] if isinstance(reply, str) else reply.get("model", body["model"])
        return {"object": "chat.completion", "model": model, "choices": [choice], "usage": usage}

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        error = {"error": {"message": message, "type": code, "param": None, "code": code}}
        self._send(status, json.dumps(error).encode(), headers or {})

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, len(content), headers or {})
        self.wfile.write(content)
