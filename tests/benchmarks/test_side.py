"""One side alone, for its memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.sizes import MODES, SIZES
from benchmarks.world import make_world

from benchmarks import side


def test_a_process_of_its_own_takes_the_steps_and_tells_its_peak(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", SIZES["tiny"], MODES["stage1"], steps=2)
    ours = side.measure(world.root, "ours", steps=2)
    assert len(ours["losses"]) == len(ours["seconds"]) == 2
    assert ours["peak"] >= ours["before"] > 0


def test_a_side_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No such file"):
        side.measure(tmp_path / "nowhere", "ours", steps=1)
