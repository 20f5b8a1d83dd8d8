"""A server as tests use it: a real one on a free port of this machine, over a tiny model, in this process."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import openai
from PIL import Image

from sightline.data.processor import Processor
from sightline.model.vlm import VisionLanguageModel
from sightline.serve.app import build_app
from sightline.serve.engine import Engine
from sightline.serve.feedback import Collection
from sightline.serve.guard import Door
from sightline.serve.limits import Limits
from sightline.serve.pictures import Fetch
from sightline.serve.server import listen, run
from sightline.serve.service import Service, card_of

RED, BLUE = Image.new("RGB", (40, 30), (200, 30, 30)), Image.new("RGB", (25, 60), (30, 30, 200))


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return str(error["code"])


@dataclass
class Running:
    """A server that runs."""

    service: Service
    port: int
    lines: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def engine(self) -> Engine:
        return next(iter(self.service.models.values())).engine

    def client(self, **options: Any) -> openai.OpenAI:
        """OpenAI's own."""
        return openai.OpenAI(**{"base_url": f"{self.address}/v1", "api_key": "none", "max_retries": 0, **options})

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """One request; a body that is no bytes goes as JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = ({} if body is None else {"Content-Type": "application/json"}) | (headers or {})
        started = time.perf_counter()
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            found = response.read()
        finally:
            connection.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, names, found, time.perf_counter() - started)

    def chat(self, **body: Any) -> Reply:
        """A question, if no messages are given."""
        asked = {"model": "tiny", "messages": [{"role": "user", "content": "What?"}], "max_tokens": 4, **body}
        return self.ask("POST", "/v1/chat/completions", asked)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def wait_until(self, true: Callable[[], bool], *, seconds: float = 20) -> float:
        """How long it took; fails when it does not come."""
        started = time.perf_counter()
        while not true():
            assert time.perf_counter() - started < seconds, "it did not come"
            time.sleep(0.005)
        return time.perf_counter() - started


@contextmanager
def running(
    *models: tuple[VisionLanguageModel, Processor],
    limits: Limits | None = None,
    door: Door | None = None,
    fetch: Fetch | None = None,
    collection: Collection | None = None,
) -> Iterator[Running]:
    """Serves the models as `tiny`, `tiny-2`, ... while the block runs."""
    lines: list[str] = []
    service = Service(limits=limits or Limits(), fetch=fetch, told=lines.append)
    for number, (model, processor) in enumerate(models, 1):
        service.add("tiny" if number == 1 else f"tiny-{number}", model, processor, card=card_of(model, processor, {}))
    listening = listen("127.0.0.1", 0)
    app = build_app(service, door=door or Door(), collection=collection)
    thread = threading.Thread(target=run, args=(app, service, listening))
    thread.start()
    try:
        yield Running(service, listening.getsockname()[1], lines)
    finally:
        service.stopping = True
        thread.join(30)
        assert not thread.is_alive(), "the server does not stop"


def encoded(picture: Image.Image, kind: str = "png", **options: Any) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind.upper(), **options)
    return buffer.getvalue()


def address_of(content: bytes | Image.Image, kind: str = "png") -> str:
    """A data address."""
    if isinstance(content, Image.Image):
        content = encoded(content, kind)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def shown(*pictures: Any, text: str | None = "What?", role: str = "user") -> list[dict[str, Any]]:
    """Messages: pictures (or addresses), then words."""
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": each if isinstance(each, str) else address_of(each)}}
        for each in pictures
    ]
    return [{"role": role, "content": parts + ([] if text is None else [{"type": "text", "text": text}])}]
