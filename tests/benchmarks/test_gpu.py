"""The GPU benchmark, end to end on a CPU with a model of a few thousand weights."""

from __future__ import annotations

import pytest
import torch
from benchmarks.gpu import PUBLISHED, hours, run
from benchmarks.sizes import MODES, SIZES


def test_hours_of_a_run() -> None:
    assert hours(36_000, samples_per_second=5.0) == 2.0


def test_all_modes_run_end_to_end() -> None:
    tables = run(device=torch.device("cpu"), size=SIZES["tiny"], timed=1, say=lambda line: None)
    rows = [row for table in tables for row in table.rows]
    assert [row["mode"] for row in rows] == list(MODES) == list(PUBLISHED)
    for row in rows:
        assert row["fits"]
        assert row["tokens/s"] > 0
        assert row["hours"] == pytest.approx(PUBLISHED[row["mode"]].samples / row["samples/s"] / 3600)
        assert row["MFU"] is None
        assert row["last loss"] < 10
