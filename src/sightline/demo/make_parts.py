"""Trains the embedded parts anew: `make parts`.

Comes in: the name of a part. Goes out: its directory, as the package brings it. The numbers below are those of the
published parts; the log beside the weights says how long they took and where.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path

import torch

from sightline.demo import pretrain_language, pretrain_vision
from sightline.errors import ConfigError, nearest

VISION_STEPS = 4400
LANGUAGE_CYCLES = (
    pretrain_language.Cycle(steps=3000, lr=2e-3),
    pretrain_language.Cycle(steps=500, lr=2e-3),
    pretrain_language.Cycle(steps=2000, lr=2e-3, cooling=945, horizon=2700),
    pretrain_language.Cycle(steps=1500, lr=2e-3, cooling=600),
    pretrain_language.Cycle(steps=2000, lr=2e-3, cooling=800),
)
PARTS = ("vision", "language")


def processor_name() -> str:
    """What this machine computes with, as its system calls it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def make_part(part: str, output: Path, *, steps: int | None, say: Callable[[str], None]) -> None:
    """Trains one part into `output`; deterministic for one thread on one kind of machine.

    Raises:
        ConfigError: there is no such part.
    """
    if part not in PARTS:
        raise ConfigError(f'no part "{part}"; expected vision or language{nearest(part, PARTS)}')
    say(f"training {part} into {output}; {output}/log.jsonl tells how it goes")
    output.mkdir(parents=True, exist_ok=True)
    if part == "vision":
        taken = steps or VISION_STEPS
        pretrain_vision.train(output, steps=taken, batch=64, pool=60_000, lr=1e-3)
    else:
        cycles = (
            LANGUAGE_CYCLES if steps is None else (pretrain_language.Cycle(steps=steps, lr=2e-3, cooling=steps // 3),)
        )
        taken = sum(cycle.steps for cycle in cycles)
        pretrain_language.train(output, cycles=cycles, batch=16)
    made = {
        "command": f"sightline parts {part} --output {output.name}" + (f" --steps {steps}" if steps else ""),
        "steps": taken,
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    (output / "made.json").write_text(json.dumps(made, indent=2) + "\n")
