"""What a refusal costs: `python -m benchmarks.refusals`.

Comes in: nothing. Goes out: for every class of bad request, what it is answered with, how long that took for a
client on the same machine, and the server's processor time (by the clock's ticks, a hundredth of a second over five
requests); the letters are those of the threat model (SSRF, files, bodies, bombs, parameters,
other pages, paths, forged turns, formats). Exit code 1 when an answer is not the expected one, or its median is above
50 ms. A tiny model is served, which none of the requests reaches.
"""

from __future__ import annotations

import base64
import io
import json
import statistics
import struct
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from benchmarks.answer import _save
from benchmarks.record import Table, machine, show
from benchmarks.serving import Place, _ours, _worked
from benchmarks.sizes import SIZES

REPEATS = 5
SLOWEST = 50.0
"""Milliseconds."""
MEGABYTES = int(11.9 * 2**20)
"""Of a body just below the limit of 12 MiB."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A bad request, and the status that it is due."""

    threat: str
    name: str
    body: bytes
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"


def asked(*content: dict[str, Any] | str, **more: Any) -> bytes:
    """A chat request with one message."""
    messages = [{"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}]
    return json.dumps({"model": "ours", "messages": messages, **more}).encode()


def shown(address: str) -> dict[str, Any]:
    """A picture by its address."""
    return {"type": "image_url", "image_url": {"url": address}}


def data(content: bytes, kind: str = "png") -> dict[str, Any]:
    """A picture by its bytes."""
    return shown(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")


def png(width: int, height: int) -> bytes:
    """One bit a pixel, all black (PNG specification, section 5)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (height * (1 + -(-width // 8))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def gif() -> bytes:
    """Any."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(buffer, "GIF")
    return buffer.getvalue()


def cases() -> list[Case]:
    """All of them."""
    said = json.dumps({"role": "user", "content": "a"})
    two = f'{{"model": "ours", "messages": [{said}, {said}]}}'.encode()
    forged = f'{{"model": "ours", "messages": [{{"role": "assistant", "content": "ok"}}, {said}]}}'.encode()
    return [
        Case(threat="T1", name="http address", body=asked(shown("http://127.0.0.1:1/x.png"))),
        Case(threat="T1", name="address with @", body=asked(shown("https://ok.com\\@127.0.0.1/"))),
        Case(threat="T2", name="file address", body=asked(shown("file:///etc/passwd"))),
        Case(threat="T3", name="13 MiB", body=b" " * (13 * 2**20), status=413),
        Case(threat="T3", name="11.9 MiB of words", body=asked("a" * MEGABYTES)),
        Case(threat="T3", name="11.9 MiB of a picture", body=asked(shown("data:image/png;base64," + "A" * MEGABYTES))),
        Case(threat="T3", name="11.9 MiB of lists", body=b'{"messages":[' + b"[]," * (MEGABYTES // 3) + b"[]]}"),
        Case(threat="T4", name="14000 x 14000", body=asked(data(png(14_000, 14_000)))),
        Case(threat="T4", name="1 x 30000", body=asked(data(png(1, 30_000)))),
        Case(threat="T6", name="n", body=asked("a", n=10**9)),
        Case(threat="T6", name="max_tokens", body=asked("a", max_tokens=-1)),
        Case(threat="T6", name="10,000 stops", body=asked("a", stop=["x"] * 10_000)),
        Case(threat="T6", name="temperature NaN", body=asked("a", temperature=float("nan"))),
        Case(threat="T6", name="65 messages", body=b'{"messages":[' + b",".join([said.encode()] * 65) + b"]}"),
        Case(threat="T10", name="foreign host", body=asked("a"), status=403, headers={"Host": "evil.example"}),
        Case(threat="T10", name="foreign origin", body=asked("a"), status=403, headers={"Origin": "http://evil.example"}),
        Case(threat="T11", name="path upwards", body=asked(shown("../../etc/passwd"))),
        Case(threat="T12", name="two questions", body=two),
        Case(threat="T12", name="an answer first", body=forged),
        Case(threat="T17", name="GIF", body=asked(data(gif(), "gif"))),
        Case(threat="T17", name="GIF that says PNG", body=asked(data(gif()))),
        Case(threat="T17", name="SVG", body=asked(data(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg+xml"))),
        Case(threat="T17", name="half a PNG", body=asked(data(png(600, 600)[:60]))),
        Case(threat="F89", name="not JSON", body=b"hello"),
        Case(threat="F89", name="empty", body=b""),
        Case(threat="F90", name="deep nesting", body=b'{"messages":' + b"[" * 40_000),
        Case(threat="F91", name="bad UTF-8", body=b'{"model":"\xff"}'),
        Case(threat="F91", name="6000 digits", body=b'{"model":"ours","seed":' + b"9" * 6000 + b"}"),
        Case(threat="F92", name="half a surrogate pair", body=asked("\ud800")),
        Case(threat="F94", name="n true", body=asked("a", n=True)),
        Case(threat="F95", name="empty content", body=asked("")),
        Case(threat="F95", name="unknown part", body=asked({"type": "audio"})),
        Case(threat="F96", name="unknown model", body=asked("a").replace(b"ours", b"none"), status=404),
        Case(threat="F96", name="method", body=b"", method="PUT", status=405),
        Case(threat="F96", name="content type", body=asked("a"), status=415, headers={"Content-Type": "text/plain"}),
        Case(threat="F96", name="longer than the context", body=asked("word " * 2000)),
        Case(threat="F97", name="headers of 100 KB", body=asked("a"), status=431, headers={"X-Large": "x" * 100_000}),
    ]  # fmt: skip


def row(place: Place, case: Case) -> dict[str, Any]:
    """Asks several times."""
    port, process = place
    taken: list[float] = []
    worked = _worked(process)
    for _ in range(REPEATS):
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        started = time.perf_counter()
        connection.request(
            case.method, "/v1/chat/completions", case.body, {"Content-Type": "application/json", **case.headers}
        )
        response = connection.getresponse()
        said = response.read()
        taken.append((time.perf_counter() - started) * 1000)
        connection.close()
    code = json.loads(said)["error"]["code"] if said.startswith(b"{") else "-"
    right = response.status == case.status and statistics.median(taken) <= SLOWEST
    return {
        "class": case.threat,
        "request": case.name,
        "status": str(response.status),
        "code": code,
        "median ms": statistics.median(taken),
        "slowest": max(taken),
        "server's cpu ms": 1000 * (_worked(process) - worked) / REPEATS,
        "right": right,
    }


def main() -> int:
    """Prints the table."""
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        _save(SIZES["tiny"], Path(scratch) / "ours")
        with _ours(Path(scratch) / "ours") as place:
            rows = [row(place, case) for case in cases()]
    show(Table(title="refusals", rows=rows), console)
    console.print(machine())
    return int(not all(row["right"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
