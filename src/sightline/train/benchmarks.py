"""Benchmark tasks that are asked of a model while it trains.

Comes in: a run between two steps, and somebody who can ask: `evaluate` can, which this floor does not know. Goes out: a
row of figures in the log. The run goes on as if nobody had asked: weights, moments and the next batches are untouched,
modes and random numbers are set anew at every step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from sightline.data.processor import Processor
from sightline.model.packed import usual_attention
from sightline.model.vlm import VisionLanguageModel
from sightline.train.device import autocast
from sightline.train.log import LOG_FILE, Log, read_log
from sightline.train.pieces import any_cut
from sightline.train.run import Run

KEY = "benchmarks"
"""Of the figures in a row of the log; the folder of the answers in the run's directory."""


class Benchmarks(Protocol):
    """Somebody who can ask benchmark tasks of a model in this process."""

    def check(self, model: VisionLanguageModel, processor: Processor) -> None:
        """Finds what cannot be asked of this model: a `SightlineError`."""

    def figures(
        self,
        model: VisionLanguageModel,
        processor: Processor,
        *,
        folder: Path,
        name: str,
        stopping: Callable[[], bool],
        log: Log,
    ) -> Mapping[str, float | None] | None:
        """Asks everything.

        Args:
            folder: of the answers; what is there is replaced.
            name: of the model, for the answers.
            stopping: whether to break off; looked at often.

        Returns:
            Figures by name, None for one that there is not; or None where it broke off.
        """


def ask_due(run: Run, benchmarks: Benchmarks | None, log: Log, *, stopping: Callable[[], bool]) -> bool:
    """Asks what is due at the step where the run stands, unless the log has it. The first rank asks, the others wait.

    Where layers are cut over the ranks none can answer alone: all ask the same, in step, and the first one's answers
    count.

    Returns:
        False where the run is to stop, and nothing was asked or not everything: it is due again when the run goes on.
    """
    if benchmarks is None or not _is_due(run):
        return True
    ranks, together = run.ranks, any_cut(run.model)
    if ranks.largest(int(ranks.first and _is_logged(run))):
        return True

    def agreed() -> bool:
        return ranks.largest(int(stopping())) > 0 if together else stopping()

    whole = True
    if ranks.first or together:
        with _folder(run) as folder:
            whole = not agreed() and _ask(run, benchmarks, log, folder, agreed)
    return not ranks.largest(int(not whole))


@contextmanager
def _folder(run: Run) -> Iterator[Path]:
    """Of this step's answers; on all ranks but the first one it is gone afterwards."""
    if run.ranks.first:
        yield run.directory / KEY / f"step-{run.state.step:08d}"
        return
    with TemporaryDirectory(prefix="sightline-benchmarks-") as place:
        yield Path(place)


def _is_due(run: Run) -> bool:
    spec, done = run.recipe.benchmarks, run.state.step
    if spec is None or done == 0:
        return False
    return done == run.total or (spec.every > 0 and done % spec.every == 0)


def _is_logged(run: Run) -> bool:
    return any(row["step"] == run.state.step and KEY in row for row in read_log(run.directory / LOG_FILE))


def _ask(run: Run, benchmarks: Benchmarks, log: Log, folder: Path, stopping: Callable[[], bool]) -> bool:
    """Asks and writes the row; False where it broke off."""
    step, started = run.state.step, time.perf_counter()
    with usual_attention(run.model.language), autocast(run.device, run.dtype):
        found = benchmarks.figures(
            run.model,
            run.processor,
            folder=folder,
            name=f"{run.recipe.name}-{step}",
            stopping=stopping,
            log=log,
        )
    if found is None:
        return False
    seconds = time.perf_counter() - started
    log.write({"step": step, KEY: dict(found), "benchmark_seconds": round(seconds, 3)})
    shown = ", ".join(f"{name} {'-' if figure is None else format(figure, '.4g')}" for name, figure in found.items())
    log.say(f"step {step}: {shown} ({seconds:.0f} s)")
    return True
