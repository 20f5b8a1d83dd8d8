"""Three real steps of a run, in a process of their own: what they took.

Comes in: a recipe. Goes out: seconds and the peak of memory. The steps are those that `train` would take; nothing is
left behind. Run as a program with a recipe's file it prints them as JSON; that is how `measure` calls it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from sightline.config import dump_recipe, load_recipe
from sightline.errors import ConfigError, TrainingError
from sightline.recipe import Recipe

STEPS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Of each step: seconds, those of waiting for its data among them; and bytes at most (None: not known)."""

    seconds: tuple[float, ...]
    waited: tuple[float, ...]
    peak_memory: int | None


def measure(recipe: Recipe, *, device: str) -> Measured:
    """Takes the first steps of a recipe on `cpu` or `cuda`.

    Raises:
        ConfigError: the run cannot be prepared.
        TrainingError: it ended otherwise, as when memory ran out.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-plan-") as place:
        train = recipe.train.model_copy(
            update={"steps": STEPS, "epochs": None, "device": device, "feature_cache": None}
        )
        short = recipe.model_copy(update={"train": train, "output": str(Path(place) / "run"), "validation": ()})
        path = Path(place) / "recipe.yaml"
        path.write_text(dump_recipe(short), encoding="utf-8")
        command = [sys.executable, "-m", "sightline.train.measure", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == ConfigError.exit_code:
        raise ConfigError(last)
    if done.returncode:
        raise TrainingError(f"the measured steps ended with code {done.returncode}: {last}")
    content = json.loads(done.stdout.splitlines()[-1])
    return Measured(
        seconds=tuple(content["seconds"]), waited=tuple(content["waited"]), peak_memory=content["peak_memory"]
    )


def take_steps(recipe: Recipe) -> Measured:
    """The steps, in this process."""
    import torch

    from sightline.data.loader import steps
    from sightline.train.figures import peak_memory
    from sightline.train.optim import set_rates
    from sightline.train.parts import set_modes
    from sightline.train.run import prepare
    from sightline.train.step import take_step

    run = prepare(recipe, say=lambda message: None)
    settings = recipe.train
    set_rates(run.optimizer, 1.0)
    set_modes(run.model, settings)
    seconds, waited = [], []
    started = time.perf_counter()
    pinned = run.device.type == "cuda"
    source = steps(run.make_step, start=0, stop=STEPS, workers=settings.workers, pin_memory=pinned)
    with closing(source):
        for made in source:
            waited.append(time.perf_counter() - started)
            take_step(run.model, run.optimizer, made.batches, clip=settings.clip, dtype=run.dtype)
            if pinned:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
    return Measured(seconds=tuple(seconds), waited=tuple(waited), peak_memory=peak_memory(run.device))


if __name__ == "__main__":
    from sightline.errors import SightlineError

    try:
        sys.stdout.write(json.dumps(asdict(take_steps(load_recipe(Path(sys.argv[1]))))) + "\n")
    except SightlineError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(ConfigError.exit_code)
