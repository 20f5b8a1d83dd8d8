"""The drill: one training run, killed again and again at seeded moments, ends with the bits of an undisturbed one.

Most lives are forked from a process that has imported everything and done nothing (a fork server), so that a life costs
no imports. Three kinds of death: after a seeded number of function calls, which does not depend on the machine's speed;
by the clock; and at each fault point of `sightline.atomic`, inside the writing of a training state and of the final
checkpoint. Two lives are processes of the command line itself.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from sightline.atomic import FAULT_VARIABLE, read_manifest, verify_manifest
from sightline.config import dump_recipe
from sightline.errors import ConfigError
from sightline.recipe import Recipe
from sightline.train import loop
from sightline.train.log import LOG_FILE, read_log
from sightline.train.run import prepare
from tests.train.small_run import instruct_recipe, make_world, prepared, result_hashes

STEPS, SAVE_EVERY = 160, 3
SEED = 20240917
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "sightline.train.loop",
        "transformers.models.clip.modeling_clip",
        "transformers.models.llama.modeling_llama",
        "tests.train.small_run",
    ]
)


# ---- one life, in a process of its own -------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Death:
    """How a life ends: after so many calls, or at a fault point, or not by itself."""

    calls: int | None = None
    fault: str | None = None


def live(recipe: Recipe, death: Death, report: Path) -> None:
    """Trains as the command line does; what it says goes to `report`, which ends with the calls that were counted."""
    with report.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.setsid()  # what is sent to its group does not reach the tests
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for worker processes, as in the command line
    os.environ[FAULT_VARIABLE] = death.fault or ""
    counter = CallCounter(death.calls)
    if death.calls is not None:
        sys.setprofile(counter)
    loop.plot_run = lambda rows, path, *, title: None  # drawing takes longer than training
    run = prepare(recipe, say=lambda message: print(message, flush=True))
    ready = counter.count
    loop.train(run, quiet=True)
    sys.setprofile(None)
    print(json.dumps({"ready": ready, "end": counter.count}), flush=True)


class CallCounter:
    """A profile function that counts the calls and returns of all Python code, and kills at one of them."""

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self.last = last

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


class Drill:
    """The lives of one run, one after the other."""

    def __init__(self, recipe: Recipe, report: Path) -> None:
        self.recipe = recipe
        self.directory = Path(recipe.output)
        self.report = report
        self.kills = self.reached = 0

    def start(self, death: Death | None = None) -> BaseProcess:
        process = SERVER.Process(target=live, args=(self.recipe, death or Death(), self.report))
        process.start()
        return process

    def survive(self) -> None:
        """A life that goes to the end of the run."""
        process = self.start()
        process.join(timeout=120)
        assert process.exitcode == 0, self.report.read_text()[-2000:]

    def kill(self, death: Death | None = None, *, after: float | None = None) -> None:
        """A life that ends by SIGKILL, and what must be true after it."""
        process = self.start(death)
        if after is not None:
            process.join(timeout=after)
            process.kill()
        process.join(timeout=120)
        self.killed(process.exitcode)

    def killed(self, code: int | None) -> None:
        assert code == -signal.SIGKILL, (code, self.report.read_text()[-2000:])
        self.kills += 1
        if self.step():  # older ones may be half removed
            verify_manifest(self.directory / "checkpoints" / f"step-{self.step():08d}")
        assert self.step() >= self.reached
        self.reached = self.step()

    def step(self) -> int:
        """The newest state's step."""
        return max((int(path.name[5:]) for path in self.directory.glob("checkpoints/step-*")), default=0)

    def saves_left(self) -> int:
        return math.ceil((STEPS - self.step()) / SAVE_EVERY)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return


def drill(world: Path, directory: Path, **train: Any) -> Drill:
    settings = {"steps": STEPS, "save_every": SAVE_EVERY, "validate_every": 50, **train}
    data = [{"path": str(world / "instruct.jsonl"), "images": str(world / "pictures")}]
    recipe = instruct_recipe(world, directory / "run", start=None, train=settings, validation=data)
    directory.mkdir(exist_ok=True)
    return Drill(recipe, directory / "report.txt")


def calls_of(life: Drill) -> tuple[int, int]:
    """Counted in a short run: calls to get ready, and calls per step (with its share of saving)."""
    life.start(Death(calls=-1)).join(timeout=120)
    counts = json.loads(life.report.read_text().splitlines()[-1])
    return counts["ready"], (counts["end"] - counts["ready"]) // 12


# ---- the drills ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(world: Path, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    ready, per_step = calls_of(drill(world, tmp_path / "short", steps=12, validate_every=5))
    straight, broken = drill(world, tmp_path / "straight"), drill(world, tmp_path / "broken")
    started = time.monotonic()
    straight.survive()
    duration = time.monotonic() - started

    # Twenty random moments: while it gets ready, while it trains or saves, by calls and by the clock.
    for moment in [chance.randint(1, ready) for _ in range(3)]:
        broken.kill(Death(calls=moment))
    for moment in [ready + chance.randint(1, 5 * per_step) for _ in range(12)]:
        broken.kill(Death(calls=moment))
    for moment in [chance.uniform(0.0, duration / 16) for _ in range(4)]:
        broken.kill(Death(calls=ready + 10 * per_step), after=moment)  # a busy machine must not let it finish
    kill_command_line(broken)
    assert broken.kills == 20
    assert 0 < broken.step() < STEPS

    # Inside the writing of a state: `write_atomic` first passes run.json, recipe.yaml and the log.
    for fault in (
        "file:2",
        "before_manifest",
        "before_replace:4",
        "before_replace:5",
        "before_rename",
        "after_rename:2",
    ):
        broken.kill(Death(fault=fault))
    # Inside the final checkpoint: first with some states still to be written, then with nothing else left to do.
    broken.kill(Death(fault=f"before_rename:{broken.saves_left() + 3}"))
    assert broken.step() == STEPS
    for fault in (
        "file:4",
        "before_manifest",
        "before_rename:1",
        "before_rename:6",
        "after_rename",
        "before_replace:5",
    ):
        broken.kill(Death(fault=fault))
    assert not (broken.directory / "finished.json").exists()
    broken.survive()
    broken.survive()  # and once more, with nothing to do

    assert_equal(broken.directory, straight.directory)


def assert_equal(found: Path, expected: Path) -> None:
    """Same weights and moments, same files, same log, and nothing left lying about."""
    assert result_hashes(found, step=STEPS) == result_hashes(expected, step=STEPS)
    listed = [
        {name: file for name, file in read_manifest(path).items() if name != "sightline.json"}
        for path in (found, expected)
    ]
    assert listed[0] == listed[1]  # sightline.json names the output
    logs = [
        [
            {key: row.get(key) for key in ("step", "loss", "lr", "validation_loss", "tokens")}
            for row in read_log(path / LOG_FILE)
        ]
        for path in (found, expected)
    ]
    assert logs[0] == logs[1]
    assert [row["step"] for row in logs[0] if row["loss"] is not None] == list(range(1, STEPS + 1))
    leftovers = [path.name for path in (*found.parent.iterdir(), *found.rglob("*")) if path.name.startswith(".")]
    assert leftovers == []


def command_line(life: Drill, *, fault: str = "") -> subprocess.Popen[bytes]:
    recipe = life.report.with_name("recipe.yaml")
    recipe.write_text(dump_recipe(life.recipe))
    program = "from sightline.cli import main; main()"
    with life.report.open("ab") as report:
        return subprocess.Popen(
            [sys.executable, "-c", program, "train", str(recipe)],
            env={**os.environ, FAULT_VARIABLE: fault},
            stdout=report,
            stderr=report,
        )


def wait_for_steps(process: subprocess.Popen[bytes], life: Drill, *, steps: int) -> None:
    """Until the process has taken some steps of its own."""
    path, done = life.directory / LOG_FILE, life.step()
    before = path.stat().st_ino if path.exists() else 0  # the log is written anew when a run starts
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and path.stat().st_ino != before and len(read_log(path)) >= done + steps:
            return
        time.sleep(0.02)
    assert process.poll() == -signal.SIGKILL, life.report.read_text()[-2000:]


def kill_command_line(life: Drill) -> None:
    process = command_line(life, fault="after_rename:4")  # dies there by itself if this process is kept waiting
    wait_for_steps(process, life, steps=2)
    process.kill()
    life.killed(process.wait())


@pytest.mark.slow
def test_the_command_line_stops_on_sigterm_with_its_state_saved(world: Path, tmp_path: Path) -> None:
    life = drill(world, tmp_path / "life", steps=5000, save_every=10_000, workers=1)
    process = command_line(life)
    wait_for_steps(process, life, steps=3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    said = life.report.read_text()
    assert f"stopped at step {life.step()}; the same command continues" in said
    assert "Traceback" not in said
    assert "ignored" not in said
    assert life.step() == read_log(life.directory / LOG_FILE)[-1]["step"] >= 3


def first_step(life: Drill) -> BaseProcess:
    """A life that has taken its first step."""
    process = life.start()
    while not (life.directory / LOG_FILE).exists() or not read_log(life.directory / LOG_FILE):
        assert process.is_alive(), life.report.read_text()[-2000:]
        time.sleep(0.02)
    return process


def test_a_killed_run_with_workers_can_be_started_again_at_once(world: Path, tmp_path: Path) -> None:
    """Worker processes outlive their parent for some seconds; they must not hold its lock."""
    life = drill(world, tmp_path / "life", workers=1, steps=5000, save_every=10_000)
    process = first_step(life)
    with pytest.raises(ConfigError, match=f"in use by process {process.pid}"):
        prepared(life.recipe)
    process.kill()
    process.join(timeout=30)
    assert prepared(life.recipe).state.step == 0


def test_a_keyboard_interrupt_reaches_the_workers_too_and_still_saves(world: Path, tmp_path: Path) -> None:
    """The terminal sends it to the whole process group."""
    life = drill(world, tmp_path / "life", workers=2, steps=5000, save_every=10_000)
    process = first_step(life)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGINT)
    process.join(timeout=30)
    assert process.exitcode == 130, life.report.read_text()[-2000:]
    assert life.step() == read_log(life.directory / LOG_FILE)[-1]["step"] >= 1
