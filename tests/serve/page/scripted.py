"""A server that says what a test tells it to: the page's protocol without a model.

It serves the page's files as the real one does, content policy included, speaks the same chat protocol, and can do what
a healthy server never does: write hostile words, hold still in the middle of an answer, hang up.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import sightline.serve

PAGE = Path(sightline.serve.__file__).parent / "page"
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".png": "image/png",
    ".json": "application/json",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    status: int
    code: str
    message: str = "no"
    retry_after: int | None = None


@dataclass(kw_only=True)
class Script:
    """What the server does next, and what it saw."""

    pieces: list[str] = field(default_factory=lambda: ["A red", " circle."])
    by_model: dict[str, list[str]] = field(default_factory=dict)
    """Pieces of a model that answers otherwise than `pieces`."""
    refusals: list[Refusal] = field(default_factory=list)
    """Given first, one for each request that would do work."""
    hold_after: int | None = None
    """Pieces after which it waits for `go_on`."""
    hang_up: bool = False
    """Closes the connection in place of the last piece."""
    promised: bool = False
    """Tells a length that no answer reaches, so that hanging up is an error of the connection and not its end."""
    fault: str | None = None
    """An error event in place of the last piece."""
    finish: str = "stop"
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "painted"}])
    key: str | None = None
    heat: list[list[list[float]]] = field(default_factory=list)
    policy: bool = True

    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[dict[str, Any]] = field(default_factory=list)
    rated: list[dict[str, Any]] = field(default_factory=list)
    explained: list[dict[str, Any]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client went away in the middle of an answer."""


class Scripted:
    """The server on a port of 127.0.0.1, which stays the same over `stop` and `start`."""

    def __init__(self) -> None:
        self.script = Script()
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _Handler)
        self._server.script = self.script  # type: ignore[attr-defined]
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Stops listening, and cuts the answers that are on their way."""
        self._server.shutdown()
        self._server.server_close()
        self.script.hang_up = True
        self.script.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.0, so that no connection outlives `Scripted.stop`."""

    @property
    def script(self) -> Script:
        return self.server.script  # type: ignore[attr-defined, no-any-return]

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/v1/models":
            if self._admitted():
                self._json(200, {"object": "list", "data": self.script.models})
            return
        file = PAGE / ("index.html" if path == "/" else path[1:])
        if not file.is_file():
            self._json(404, {"error": {"message": "no such page", "code": "not_found"}})
            return
        policy = {"Content-Security-Policy": POLICY} if self.script.policy else {}
        self._reply(200, file.read_bytes(), TYPES[file.suffix], policy)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._admitted():
            return
        if self.script.refusals:
            refusal = self.script.refusals.pop(0)
            retry = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
            self._json(refusal.status, {"error": {"message": refusal.message, "code": refusal.code}}, retry)
        elif self.path == "/v1/chat/completions":
            self.script.asked.append(body)
            self._answer(body)
        elif self.path == "/v1/feedback":
            self.script.rated.append(body)
            self._json(200, {})
        elif self.path == "/v1/explain":
            self.script.explained.append(body)
            self._json(200, {"width": 6, "height": 6, "heat": self.script.heat, "words": []})

    def _answer(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        if self.script.promised:
            self.send_header("Content-Length", "1000000")
        self.end_headers()
        try:
            for event in self._events(body):
                self.wfile.write(f"data: {event}\n\n".encode())
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.script.left.set()

    def _events(self, body: dict[str, Any]) -> Iterator[str]:
        script = self.script
        pieces = script.by_model.get(body["model"], script.pieces)
        for number, piece in enumerate(pieces):
            if number == script.hold_after:
                while not script.go_on.wait(0.05):
                    yield json.dumps({"choices": []})  # so that a client that went away is noticed
            if number == len(pieces) - 1 and (script.hang_up or script.fault):
                if script.fault:
                    yield json.dumps({"error": {"message": script.fault}})
                return
            yield json.dumps({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        yield json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": script.finish}]})
        yield json.dumps({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(pieces)}})
        yield "[DONE]"

    def _admitted(self) -> bool:
        if self.script.key is None or self.headers["Authorization"] == f"Bearer {self.script.key}":
            return True
        self._json(401, {"error": {"message": "no such key", "code": "invalid_api_key"}})
        return False

    def _json(self, status: int, value: object, more: dict[str, str] | None = None) -> None:
        self._reply(status, json.dumps(value).encode(), "application/json", more or {})

    def _reply(self, status: int, body: bytes, kind: str, more: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
