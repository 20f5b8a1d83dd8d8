"""`python -m benchmarks [train|limit|answer|data|checks|scaling|all] [--quick]`: what `make bench` runs.

Comes in: what to measure. Goes out: tables on the terminal, JSON and Markdown under `runs/bench/`. Exit code 1 when
`--check` finds losses that differ.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.record import Record, Table
from benchmarks.sizes import MODES, SIZES, Size

os.environ.setdefault("HF_HUB_OFFLINE", "1")

WHAT = ("train", "limit", "answer", "data", "checks", "scaling")
CHECK_STEPS = 50
WIDTH = 120
"""Of tables in a log, where no terminal tells."""
PEERS = ("trainer", "tuned", "grouped", "single", "trl")


def main() -> int:
    """Measures, prints, writes."""
    given = _arguments()
    warnings.simplefilter("ignore", FutureWarning)
    _quiet_transformers()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    written, differ = Record(given.what, given.out, console), False
    for what in WHAT if given.what == "all" else (given.what,):
        for table in BENCHMARKS[what](given, lambda line: console.print(line, style="dim", highlight=False)):
            written.add(what, table)
            differ |= any(row.get("agree") is False for row in table.rows)
    console.print(f"written: {written.path}", highlight=False)
    return 1 if differ else 0


def _train(given: argparse.Namespace, say: Callable[[str], None]) -> Iterable[Table]:
    from benchmarks import train

    sizes, modes = _sizes(given, ("small", "mid")), [MODES[name] for name in given.mode or MODES]
    if given.check:
        pairs = [(size, mode) for size in sizes for mode in modes]
        return (train.agree(size=size, mode=mode, steps=given.steps or CHECK_STEPS, say=say) for size, mode in pairs)
    if given.tune:
        peers = given.peer or PEERS
        return [train.tune(sizes=sizes, peers=peers, candidates=(2, 4, 8, 16), steps=given.steps or 2, say=say)]
    steps = given.steps or (2 if given.quick else 5)
    return train.run(sizes=sizes, modes=modes, peers=given.peer, steps=steps, memory=not given.no_memory, say=say)


def _limit(given: argparse.Namespace, say: Callable[[str], None]) -> Iterable[Table]:
    from benchmarks import limit

    modes = [MODES[name] for name in given.mode or MODES]
    steps = given.steps or (2 if given.quick else 5)
    return [limit.run(sizes=_sizes(given, ("small", "mid")), modes=modes, steps=steps, say=say)]


def _answer(given: argparse.Namespace, say: Callable[[str], None]) -> Iterable[Table]:
    from benchmarks import answer

    say("answer: time to the first token, tokens a second")
    sizes = _sizes(given, ("small",) if given.quick else ("mid",))
    return [Table(title=f"answer: {size.name}", rows=answer.run(size=size.name)) for size in sizes]


def _data(given: argparse.Namespace, say: Callable[[str], None]) -> Iterable[Table]:
    from benchmarks import data

    (size,) = _sizes(given, ("small",))[:1]
    return data.run(pictures=16 if given.quick else 128, samples=512 if given.quick else 8192, size=size, say=say)


def _checks(given: argparse.Namespace, say: Callable[[str], None]) -> Iterable[Table]:
    from benchmarks import data_checks

    samples, clean = (20_000, 300) if given.quick else (1_000_000, 3000)
    return data_checks.run(samples=samples, clean=clean, each=3, say=say)


def _scaling(given: argparse.Namespace, say: Callable[[str], None]) -> Iterable[Table]:
    from benchmarks import scaling

    (size,) = _sizes(given, ("small",))[:1]
    factors = (1, 2) if given.quick else scaling.FACTORS
    return scaling.run(size=size, factors=factors, plot=given.out / "scaling.png", say=say)


BENCHMARKS: dict[str, Callable[[argparse.Namespace, Callable[[str], None]], Iterable[Table]]] = {
    "train": _train,
    "limit": _limit,
    "answer": _answer,
    "data": _data,
    "checks": _checks,
    "scaling": _scaling,
}


def _sizes(given: argparse.Namespace, default: Sequence[str]) -> list[Size]:
    names = given.size or (default[:1] if given.quick else default)
    found = [SIZES[name] for name in names]
    batch = given.batch or (8 if given.quick else None)
    return found if batch is None else [replace(size, batch=min(batch, size.batch)) for size in found]


def _quiet_transformers() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", default="all", choices=(*WHAT, "all"))
    parser.add_argument("--quick", action="store_true", help="the small size, eight samples a step, two steps")
    parser.add_argument("--size", nargs="+", choices=list(SIZES), help="small and mid if not given")
    parser.add_argument("--mode", nargs="+", choices=list(MODES), help="all if not given")
    parser.add_argument("--peer", nargs="+", choices=PEERS, help="train: those of the mode if not given")
    parser.add_argument("--steps", type=int, help="train: timed steps of each side")
    parser.add_argument("--batch", type=int, help="samples a step")
    parser.add_argument("--check", action="store_true", help="train: only whether losses agree, over 50 steps")
    parser.add_argument("--tune", action="store_true", help="train: only the peers' micro-batches")
    parser.add_argument("--no-memory", action="store_true", help="train: leave the runs for memory out")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
