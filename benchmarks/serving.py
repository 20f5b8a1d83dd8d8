"""Serving beside `transformers serve`: `python -m benchmarks.serving [SIZE]`.

Comes in: the name of a size. Goes out: tokens per second and the time to the first one, at 1, 4, 16 and 64 requests at
a time, from a process of `sightline serve`; the same from `transformers serve` on the same weights in the llava-hf
layout, where it runs. Every request shows a picture of its own and streams a greedy answer; the clients run on the same
machine. The first requests of each server are not counted: it loads and warms up.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
from PIL import Image
from rich.console import Console

from benchmarks.answer import _save
from benchmarks.record import Table, machine, show
from benchmarks.sizes import SIZES
from sightline.exchange.export import export

AT_ONCE = (1, 4, 16, 64)
NEW_TOKENS = 64
ROUNDS = 2
"""Requests for each client: with one at a time, eight."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One request: seconds to its first words and to its end, and how many tokens it got."""

    first: float
    total: float
    tokens: int


def run(*, size: str = "small", peer_at: Sequence[int] = (1, 16), new_tokens: int = NEW_TOKENS) -> list[dict[str, Any]]:
    """Rows of the table; `ratio` is to one request at a time of the same server."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        ours, theirs = Path(scratch) / "ours", Path(scratch) / "theirs"
        _save(SIZES[size], ours)
        export(ours, theirs, format_name="hf")
        side = SIZES[size].vision["image_size"]
        with _ours(ours) as port:
            rows += _measured("sightline serve", port, "ours", AT_ONCE, side=side, new_tokens=new_tokens)
        with _theirs(theirs) as port:
            rows += _measured("transformers serve", port, str(theirs), peer_at, side=side, new_tokens=new_tokens)
    return rows


def _measured(
    server: str, port: int, model: str, at_once: Sequence[int], *, side: int, new_tokens: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    asyncio.run(_load(port, model, 2, 2, side=side, new_tokens=8, seed=10_000))
    for clients in at_once:
        each = max(ROUNDS, 8 // clients)
        started = time.perf_counter()
        taken = asyncio.run(_load(port, model, clients, each, side=side, new_tokens=new_tokens, seed=clients * 100))
        seconds = time.perf_counter() - started
        firsts = sorted(one.first for one in taken)
        rate = sum(one.tokens for one in taken) / seconds
        rows.append(
            {
                "server": server,
                "at once": clients,
                "requests": len(taken),
                "tokens/s": rate,
                "ratio": rate / rows[0]["tokens/s"] if rows else 1.0,
                "first token p50 s": statistics.median(firsts),
                "p99 s": firsts[min(len(firsts) - 1, int(0.99 * len(firsts)))],
            }
        )
    return rows


async def _load(
    port: int, model: str, clients: int, each: int, *, side: int, new_tokens: int, seed: int
) -> list[Taken]:
    """So many clients, each of which asks one question after another."""
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:

        async def ask(number: int) -> list[Taken]:
            return [await _one(client, model, seed + number * each + turn, side, new_tokens) for turn in range(each)]

        found = await asyncio.gather(*(ask(number) for number in range(clients)))
    return [one for taken in found for one in taken]


async def _one(client: openai.AsyncOpenAI, model: str, seed: int, side: int, new_tokens: int) -> Taken:
    messages: Any = [
        {"role": "user", "content": [_picture(seed, side), {"type": "text", "text": "What is shown here?"}]}
    ]
    started = time.perf_counter()
    first, tokens = 0.0, 0
    stream = await client.chat.completions.create(
        model=model, messages=messages, max_tokens=new_tokens, temperature=0, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    async for chunk in stream:
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter() - started
        if chunk.usage is not None:
            tokens = chunk.usage.completion_tokens
    total = time.perf_counter() - started
    return Taken(first=first or total, total=total, tokens=tokens)


def _picture(seed: int, side: int) -> dict[str, Any]:
    """A photograph's worth of work: noise, coarse enough for a JPEG."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((2 * side, side)).save(buffer, "JPEG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


@contextmanager
def _ours(checkpoint: Path) -> Iterator[int]:
    command = [sys.executable, "-c", "from sightline.cli import main; main()", "serve", str(checkpoint), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"listening on http://127.0.0.1:(\d+)", line):
                    yield int(found.group(1))
                    break
        finally:
            process.terminate()


@contextmanager
def _theirs(exported: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(exported)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--log-level", "error"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        yield port
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Prints the table; a size may be named."""
    console = Console()
    rows = run(size=sys.argv[1] if len(sys.argv) > 1 else "small")
    show(Table(title="serving", rows=rows), console)
    console.print(machine())


if __name__ == "__main__":
    main()
