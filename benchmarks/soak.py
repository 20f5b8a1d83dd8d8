"""Ten thousand requests, good and bad: `python -m benchmarks.soak CHECKPOINT [COUNT]`.

Comes in: a checkpoint, best a tiny one. Goes out: the server's memory and threads as it went, and what it answered by
status. A fifth of the requests is wrong, a fifth ends early; exit code 1 when one is answered with 500, or when memory
has grown by 20 MB after a tenth of them.
"""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.serving import _picture

CLIENTS = 12
GROWTH = 20.0
"""Megabytes."""


def main() -> int:
    """Asks, watches, tells."""
    console = Console()
    checkpoint, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    command = [sys.executable, "-c", "from sightline.cli import main; main()", "serve", str(checkpoint), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = None
        while found is None:
            found = re.search(r"listening on http://127.0.0.1:(\d+)", process.stderr.readline())
        port = int(found.group(1))
        bodies = [_body(checkpoint.name, number) for number in range(200)]
        statuses: Counter[str] = Counter()
        memory: list[float] = []
        try:
            with ThreadPoolExecutor(CLIENTS) as pool:
                for start in range(0, count, count // 10):
                    statuses.update(
                        pool.map(lambda n: _ask(port, n, bodies[n % 200]), range(start, start + count // 10))
                    )
                    memory.append(_status(process.pid, "VmRSS") / 1024)
                    threads = int(_status(process.pid, "Threads"))
                    console.print(
                        f"{start + count // 10:6} requests  {memory[-1]:8.1f} MB  {threads} threads  {dict(statuses)}",
                        highlight=False,
                    )
        finally:
            process.terminate()
    grown = memory[-1] - memory[0]
    console.print(f"grown by {grown:.1f} MB after the first tenth")
    return int(statuses["500"] > 0 or grown >= GROWTH)


def _body(model: str, seed: int) -> bytes:
    dice = random.Random(seed)
    content = [_picture(seed, 32)] * dice.choice([0, 1, 2]) + [
        {"type": "text", "text": "what is it " * dice.randint(1, 9)}
    ]
    asked: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": dice.randint(1, 24),
    }
    asked |= {"stream": dice.random() < 0.5, "temperature": dice.choice([0, 1]), "seed": seed}
    wrong: tuple[dict[str, Any], ...] = (
        {"n": 2},
        {"messages": []},
        {"model": "x"},
        {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
    )
    return json.dumps(asked | (dice.choice(wrong) if seed % 5 == 0 else {})).encode()


def _ask(port: int, number: int, body: bytes) -> str:
    """The status; `left` where the client did not wait for it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        if number % 5 == 1:
            assert isinstance(connection.sock, socket.socket)
            return "left"
        response = connection.getresponse()
        response.read()
        return str(response.status)
    finally:
        connection.close()


def _status(process: int, key: str) -> float:
    """A figure of /proc/PID/status; memory in KiB."""
    found = re.search(rf"{key}:\s*(\d+)", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return float(found.group(1))


if __name__ == "__main__":
    sys.exit(main())
