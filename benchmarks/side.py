"""One side alone in a process of its own, for the memory that it takes: `python -m benchmarks.side WORLD SIDE STEPS`.

Comes in: the directory of a world, `ours`, a peer's name or `index` (reading and checking all samples), how many of
its steps, keys of `train` as JSON. Goes out: one line of JSON: the peak of resident memory, what it was when everything
was imported, seconds and losses by step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.train.figures import status_bytes


def measure(root: Path, side: str, *, steps: int, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Runs `side` in a process of its own and returns what it wrote."""
    command = [sys.executable, "-m", "benchmarks.side", str(root), side, str(steps), json.dumps(dict(changes or {}))]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    here = Path(__file__).parents[1]
    environment["PYTHONPATH"] = os.pathsep.join([*filter(None, [environment.get("PYTHONPATH")]), str(here)])
    done = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:5])} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(root: Path, side: str, steps: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Takes the steps. The peers' libraries are imported on their side alone."""
    from benchmarks.ours import Ours
    from benchmarks.world import open_world

    world = open_world(root)
    world = replace(world, order=world.order[:steps])
    if side not in ("ours", "index"):
        from benchmarks.peers import run_peer
    if side == "trl":
        import datasets  # noqa: F401
        import trl  # noqa: F401
    before = status_bytes("VmRSS")
    if side == "index":
        started = time.perf_counter()
        world.samples()
        return {"peak": status_bytes("VmHWM"), "before": before, "seconds": [time.perf_counter() - started]}
    with tempfile.TemporaryDirectory() as scratch:
        if side == "ours":
            ours = Ours(world.recipe(Path(scratch) / "run", **changes))
            taken = [ours.step() for _ in world.order]
            ours.close()
        else:
            taken = run_peer(world, side, micro_batch=world.size.micro_batch(side), output=Path(scratch))
    return {
        "peak": status_bytes("VmHWM"),
        "before": before,
        "seconds": [step.seconds for step in taken],
        "losses": [step.loss for step in taken],
        "positions": [step.positions for step in taken],
    }


if __name__ == "__main__":
    found = main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
    sys.stdout.write(json.dumps(found) + "\n")
