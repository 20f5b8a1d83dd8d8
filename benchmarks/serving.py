"""Serving beside `transformers serve`: `python -m benchmarks.serving [SIZE]`.

Comes in: the name of a size. Goes out: tokens per second, the time to the first one, and the server's processor
seconds, at 1, 4, 16 and 64 requests at a time, from a process of `sightline serve`; the same from `transformers serve`
on the same weights in the llava-hf layout, where it runs. Every request shows a picture of its own and streams a greedy
answer; the clients run on the same machine. The first requests of each server are not counted: it loads and warms up.
Then how long somebody who is reading an answer waits for its next token while a long prompt comes in.
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
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
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
SPARE = 160
"""Positions of the context that the prompt that comes in while somebody reads does not fill, about."""
ROUNDS = 2
"""Requests for each client: with one at a time, eight."""


Place = tuple[int, int]
"""A server's port and process."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One request: seconds to its first words and to its end, and how many tokens it got."""

    first: float
    total: float
    tokens: int


def run(*, size: str = "small", peer_at: Sequence[int] = (1, 16), new_tokens: int = NEW_TOKENS) -> list[Table]:
    """`ratio` is to one request at a time of the same server, `to ours` the other server's rate to ours at as many."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        ours, theirs = Path(scratch) / "ours", Path(scratch) / "theirs"
        _save(SIZES[size], ours)
        export(ours, theirs, format_name="hf")
        side = SIZES[size].vision["image_size"]
        with _ours(ours) as place:
            rows += _measured("sightline serve", place, "ours", AT_ONCE, side=side, new_tokens=new_tokens)
            stalls = asyncio.run(_stalls(place, "ours", SIZES[size].language["max_position_embeddings"] - SPARE))
        with _theirs(theirs) as place:
            rows += _measured("transformers serve", place, str(theirs), peer_at, side=side, new_tokens=new_tokens)
    ours_at = {row["at once"]: row["tokens/s"] for row in rows if row["server"] == "sightline serve"}
    for row in rows:
        row["to ours"] = row["tokens/s"] / ours_at[row["at once"]]
    return [Table(title=f"serving: {size}", rows=rows), Table(title="tokens of a reader", rows=[stalls])]


def _measured(
    server: str, place: Place, model: str, at_once: Sequence[int], *, side: int, new_tokens: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    port, process = place
    asyncio.run(_load(port, model, 2, 2, side=side, new_tokens=8, seed=10_000))
    for clients in at_once:
        each = max(ROUNDS, 8 // clients)
        started, worked = time.perf_counter(), _worked(process)
        taken = asyncio.run(_load(port, model, clients, each, side=side, new_tokens=new_tokens, seed=clients * 100))
        seconds = time.perf_counter() - started
        worked = _worked(process) - worked
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
                "cpu s / 1000 tokens": 1000 * worked / sum(one.tokens for one in taken),
            }
        )
    return rows


async def _stalls(place: Place, model: str, positions: int) -> dict[str, Any]:
    """The gaps between the tokens of one answer, before and while a prompt of about so many positions comes in."""
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{place[0]}/v1", api_key="none", max_retries=0) as client:

        async def tokens(text: str, count: int) -> AsyncIterator[float]:
            """When each came."""
            messages: Any = [{"role": "user", "content": text}]
            stream = await client.chat.completions.create(
                model=model, messages=messages, max_tokens=count, stream=True, logprobs=True
            )
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].logprobs:
                    yield time.perf_counter()

        async def first(text: str) -> tuple[float, float]:
            asked = time.perf_counter()
            return asked, await anext(tokens(text, 1))

        word = "shown "
        usage = (await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": word * 20}], max_tokens=1
        )).usage  # fmt: skip
        assert usage is not None
        text = word * (20 * positions // usage.prompt_tokens)
        times: list[float] = []
        long: asyncio.Task[tuple[float, float]] | None = None
        async for now in tokens("What is shown here?", 400):
            times.append(now)
            if len(times) == 30:
                long = asyncio.create_task(first(text))
            if long is not None and long.done() and times[-1] > long.result()[1]:
                break
        assert long is not None
        asked, answered = await long
    gaps = [(after, after - before) for before, after in pairwise(times)]
    return {
        "usual gap s": statistics.median(gap for when, gap in gaps if when < asked),
        f"longest while {positions} positions come in": max(gap for when, gap in gaps if when >= asked),
        "their first token s": answered - asked,
    }


def _worked(process: int) -> float:
    """Processor seconds of a process so far, in user's and the system's mode (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
def _ours(checkpoint: Path) -> Iterator[Place]:
    command = [sys.executable, "-c", "from sightline.cli import main; main()", "serve", str(checkpoint), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"listening on http://127.0.0.1:(\d+)", line):
                    yield int(found.group(1)), process.pid
                    break
        finally:
            process.terminate()


@contextmanager
def _theirs(exported: Path) -> Iterator[Place]:
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
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Prints the table; a size may be named."""
    console = Console()
    for table in run(size=sys.argv[1] if len(sys.argv) > 1 else "small"):
        show(table, console)
    console.print(machine())


if __name__ == "__main__":
    main()
