"""The loop: steps, logs, validation, checkpoints.

Comes in: a prepared `Run`. Goes out: a trained checkpoint in the run's directory. There is no stage here: what trains
was decided when the run was prepared.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError

from sightline.data.batch import Batch
from sightline.data.loader import Refusal, Step, steps
from sightline.errors import DataError, StorageError, TrainingError
from sightline.train.benchmarks import Benchmarks, ask_due
from sightline.train.device import autocast
from sightline.train.devices import peak_flops
from sightline.train.figures import peak_memory, shown_by_all, step_figures
from sightline.train.log import LOG_FILE, Log, NoLog, RunLog, read_log
from sightline.train.loss import loss_sum
from sightline.train.optim import rate_at, set_rates
from sightline.train.parts import set_modes
from sightline.train.plot import plot_run
from sightline.train.run import Run, finish, is_finished, whole_model
from sightline.train.shard import idle_loss, passes
from sightline.train.state import save_state
from sightline.train.step import StepResult, take_step

MAX_FAILED_SAVES = 3
"""Saves that may fail in a row."""


class Stopped(SystemExit):
    """The run was told to stop and did, with its state saved. The exit code is 128 + the signal's number."""


def train(run: Run, *, quiet: bool = False, benchmarks: Benchmarks | None = None) -> Path:
    """Trains from where the run stands to its end.

    Args:
        benchmarks: whoever asks what the recipe names under `benchmarks`.

    Returns:
        The run's directory, which now is a checkpoint.

    Raises:
        TrainingError: more than `max_bad_steps` steps in a row were not finite.
        DataError: pictures broke since the run began, and the recipe does not allow (that many of) them.
        StorageError: the state or the checkpoint cannot be written; what was written before is whole.
        Stopped: SIGINT or SIGTERM arrived; the state is saved.
        SightlineError: something under `benchmarks` cannot be asked of this model; nothing was trained.
    """
    if is_finished(run):
        return run.directory
    assert (benchmarks is None) == (run.recipe.benchmarks is None)
    if benchmarks is not None:
        benchmarks.check(run.model, run.processor)
    settings, ranks = run.recipe.train, run.ranks
    log = _open_log(run, quiet=quiet)
    source = steps(
        run.make_step,
        start=run.state.step,
        stop=run.total,
        workers=settings.workers,
        pin_memory=run.device.type == "cuda",
    )
    with log, _stop_signal() as stop, closing(source):  # however it ends, the workers end first
        told = 0

        def stopping() -> bool:
            return told > 0 or stop.received > 0

        if not ask_due(run, benchmarks, log, stopping=stopping):  # what a stop has left out
            raise _stopped(run, log, ranks.largest(stop.received))
        for made, waited in _timed(source):
            _note_lost(run, made.lost, log)
            _one_step(run, made.batches, log, waited=waited)
            done = run.state.step
            told = ranks.largest(stop.received)  # read once: a signal that comes from here on waits for a save
            due = settings.validate_every and done % settings.validate_every == 0
            if run.validation and (due or done == run.total):
                log.write({"step": done, "validation_loss": validate(run)})
            asked = ask_due(run, benchmarks, log, stopping=stopping)
            told = told or ranks.largest(stop.received)  # asking may take long
            if told or done % settings.save_every == 0 or done == run.total:
                _save(run, log, last_chance=bool(told) or done == run.total)
            if told and (done < run.total or not asked):
                raise _stopped(run, log, told)
    _finish(run)
    return run.directory


def _stopped(run: Run, log: Log, told: int) -> Stopped:
    log.say(f"stopped at step {run.state.step}; the same command continues")
    return Stopped(128 + told)


def _open_log(run: Run, *, quiet: bool) -> Log:
    """The log of the first process; the others keep none."""
    if not run.ranks.first:
        return NoLog()
    return RunLog(run.directory, name=run.recipe.name, start=run.state.step, total=run.total, quiet=quiet)


def _finish(run: Run) -> None:
    try:
        model = whole_model(run)
        with run.ranks.first_goes_ahead():
            if model is not None:
                plot_run(read_log(run.directory / LOG_FILE), run.directory / "loss.png", title=run.recipe.name)
                finish(run, model)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{run.directory}: the trained model could not be written: {error}; "
            "make room and start the same command again"
        ) from error


def _timed(source: Iterator[Step]) -> Iterator[tuple[Step, float]]:
    """The steps, with the seconds that each was waited for."""
    while True:
        started = time.perf_counter()
        made = next(source, None)
        if made is None:
            return
        yield made, time.perf_counter() - started


def _one_step(run: Run, batches: list[Batch], log: Log, *, waited: float) -> None:
    """Takes one step, whatever comes of it, and moves the state on by one. `waited`: seconds, for its data."""
    settings, state, ranks = run.recipe.train, run.state, run.ranks
    started = time.perf_counter()
    factor = rate_at(state.step, total=run.total, warmup=settings.warmup, schedule=settings.schedule)
    set_rates(run.optimizer, factor)
    seed = run.recipe.seed * 1_000_003 + state.step  # dropout: a function of seed and step, like the batch
    torch.manual_seed(seed + ranks.rank * 2**40)
    set_modes(run.model, settings)
    result = take_step(run.model, run.optimizer, batches, clip=settings.clip, dtype=run.dtype, ranks=ranks)
    seconds = time.perf_counter() - started
    shown, positions, samples = shown_by_all(batches, ranks)
    peak = peak_flops(run.device)
    state.step += 1
    state.seconds += seconds
    state.samples += samples
    state.tokens += shown.positions
    state.trained_tokens += shown.trained
    row: dict[str, Any] = {
        "step": state.step,
        "loss": result.loss,
        "lr": max(settings.lr.values()) * factor,
        "gradient_norm": result.gradient_norm,
        "tokens": state.tokens,
        "seconds": round(state.seconds, 3),
        "data_wait_seconds": round(waited, 4),
    }
    row |= step_figures(
        shown,
        positions=positions,
        seconds=waited + seconds,
        waited=waited,
        flops=None if run.flops is None else run.flops.total(shown),
        peak_flops=None if peak is None else peak * ranks.size,
        peak_memory=peak_memory(run.device),
    )
    if not result.finite:
        row["skipped"] = list(result.suspects)
    log.step(row, write=not result.finite or state.step % settings.log_every == 0 or state.step == run.total)
    _count_bad(run, result, log)


def _note_lost(run: Run, lost: Sequence[Refusal], log: Log) -> None:
    """Counts the samples of a step that broke since the run began; more than the recipe allows end the run."""
    (count,) = run.ranks.totals(len(lost))
    run.state.lost += int(count)
    for refusal in lost:
        log.say(f"left out at step {run.state.step + 1}: {refusal.message}")
    limit = run.recipe.bad_samples.max_fraction
    due = max(run.samples.per_epoch, run.state.samples)  # in the first epoch, of what it will have shown
    if lost and run.state.lost > limit * due:  # the other ranks end with this one
        raise DataError(
            f"{run.state.lost} of {due} samples broke during the run, more than bad_samples.max_fraction "
            f"{limit}; the last: {lost[-1].message}",
            reason=lost[-1].reason,
        )


def _save(run: Run, log: Log, *, last_chance: bool) -> None:
    """Saves the state. A full disk may have room again at the next save: only the third failure in a row ends the run.

    Raises:
        StorageError: that third failure, or the first when there is no next save. The states of before are whole.
    """
    failure: Exception | None = None
    try:
        save_state(
            run.states, run.state, model=run.model, optimizer=run.optimizer, keep=run.recipe.train.keep, ranks=run.ranks
        )
    except (OSError, SafetensorError) as error:
        failure = error
    if not run.ranks.largest(int(failure is not None)):
        run.failed_saves = 0
        return
    run.failed_saves += 1
    what = f"step {run.state.step}: the state could not be saved in {run.states}: {failure}"
    if last_chance or run.failed_saves == MAX_FAILED_SAVES:
        raise StorageError(f"{what}; make room and start the same command again: it continues") from failure
    log.say(f"{what}; the next save tries again")


def _count_bad(run: Run, result: StepResult, log: Log) -> None:
    """Counts a skipped step; too many in a row end the run, with the last good state on disk."""
    state, limit = run.state, run.recipe.train.max_bad_steps
    if result.finite:
        state.bad_steps = 0
        return
    state.bad_steps += 1
    state.bad_steps_total += 1
    names = ", ".join(result.suspects[:8]) + (", ..." if len(result.suspects) > 8 else "")
    what = f"step {state.step}: loss {result.loss}, gradient norm {result.gradient_norm}; not applied; samples: {names}"
    if state.bad_steps > limit:
        raise TrainingError(
            f"{what}; {state.bad_steps} such steps in a row (max_bad_steps: {limit}): lower the rates or mend the data"
        )
    log.say(what)


@torch.no_grad()
def validate(run: Run) -> float:
    """The mean loss over the trained tokens of the validation samples, in nats."""
    run.model.eval()
    total, count = 0.0, 0.0
    for batch in passes(run.validation_batches(), run.model, run.ranks):
        with autocast(run.device, run.dtype):
            loss = idle_loss(run.model) if batch is None else loss_sum(run.model, batch.to(run.device))
        if batch is not None:
            total += loss.item()
            count += batch.trained_tokens
    total, count = run.ranks.totals(total, count)
    return total / max(count, 1)


class _Stop:
    """The number of the signal that came, 0 before."""

    received = 0


@contextmanager
def _stop_signal() -> Iterator[_Stop]:
    """SIGINT and SIGTERM ask the loop to stop after its step; a second one interrupts at once, as usual."""
    stop = _Stop()

    def note(number: int, frame: FrameType | None) -> None:
        stop.received = number
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are its owner's business
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
