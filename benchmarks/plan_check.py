"""The plan's prediction beside the measurement: peak memory and time of three steps, for six recipes.

Run: `python -m benchmarks.plan_check [--sizes small,mid] [--modes stage1,stage2,stage2-lora] [--json FILE]`, on an idle
machine. Each recipe is planned, from its files alone and at rates measured in a second, before its steps are taken in
a process of their own. Memory is the most that a process has held (VmHWM), time the median of the later two steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.sizes import MODES, SIZES
from benchmarks.world import make_world
from sightline.train.advise import plan_recipe
from sightline.train.devices import GIB
from sightline.train.measure import STEPS, measure

HEADER = ("recipe", "memory: plan", "measured", "off by", "step: plan", "measured", "off by")


def check(size: str, mode: str) -> dict[str, Any]:
    """Prediction and measurement of one recipe, in bytes and seconds."""
    with tempfile.TemporaryDirectory(prefix="sightline-plan-check-") as place:
        world = make_world(Path(place) / "world", SIZES[size], MODES[mode], steps=STEPS)
        recipe = world.recipe(Path(place) / "run", device="cpu")
        plan, _ = plan_recipe(recipe, device="cpu")
        taken = measure(recipe, device="cpu")
    return {
        "recipe": f"{size} {mode}",
        "planned_bytes": plan.memory.total,
        "measured_bytes": taken.peak_memory,
        "planned_seconds": statistics.median(plan.first_seconds[1:]),
        "measured_seconds": statistics.median(taken.seconds[1:]),
        "waited_seconds": statistics.median(taken.waited[1:]),
        "memory": plan.memory.by_item(),
    }


def cells(found: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    memory, time = found["planned_bytes"], found["planned_seconds"]
    real_memory, real_time = found["measured_bytes"], found["measured_seconds"]
    return (
        found["recipe"],
        f"{memory / GIB:.2f} GiB",
        f"{real_memory / GIB:.2f} GiB",
        f"{memory / real_memory - 1:+.0%}",
        f"{time:.2f} s",
        f"{real_time:.2f} s",
        f"{time / real_time - 1:+.0%}",
    )


def main() -> None:
    """Prints a table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="small,mid")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    sys.stdout.write(f"| {' | '.join(HEADER)} |\n{'|---' * len(HEADER)}|\n")
    for size in options.sizes.split(","):
        for mode in options.modes.split(","):
            rows.append(check(size, mode))
            sys.stdout.write(f"| {' | '.join(cells(rows[-1]))} |\n")
            sys.stdout.flush()
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
