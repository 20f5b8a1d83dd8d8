"""The checks' benchmark on few samples: every planted defect is found, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.planted import DEFECTS

from benchmarks import data_checks


def test_every_class_of_defect_is_found_and_nothing_else(tmp_path: Path) -> None:
    table = data_checks.planted_defects(tmp_path, clean=80, each=1)
    planted = {row["defect"] for row in table.rows}
    assert set(DEFECTS) | {"id_duplicate", "sample_duplicate", "json_truncated"} <= planted
    wrong = [row for row in table.rows if (row["precision"], row["recall"]) != (1.0, 1.0)]
    assert wrong == []
    assert table.rows[-1] | {"defect": "all (clean)", "planted": 0, "reported": 0, "clean": 80} == table.rows[-1]


@pytest.mark.parametrize(
    ("wanted", "reported", "precision", "recall"),
    [({1, 2}, {2}, 1.0, 0.5), ({1}, {1, 2, 3, 4}, 0.25, 1.0), (set(), {1}, 0.0, 1.0), ({1}, set(), 1.0, 0.0)],
)
def test_precision_and_recall(wanted: set[int], reported: set[int], precision: float, recall: float) -> None:
    row = data_checks._row("x", {(one, "x") for one in wanted}, {(one, "x") for one in reported})
    assert (row["precision"], row["recall"]) == (precision, recall)


def test_a_large_file_is_clean_and_timed(tmp_path: Path) -> None:
    (row,) = data_checks.large_file(tmp_path, samples=300).rows
    assert (row["samples"], row["problems"]) == (300, 0)
    assert row["pictures"] == 240
    assert row["peak MiB, all processes"] > 20
