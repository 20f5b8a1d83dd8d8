"""What is varied, and what it is beside the first value."""

from __future__ import annotations

from pathlib import Path

from benchmarks.scaling import draw, measure, points, relative
from benchmarks.sizes import SIZES

TINY = SIZES["tiny"]


def test_each_thing_grows_alone() -> None:
    found = points(TINY, (1, 2, 4, 8))
    by_thing: dict[str, list[int]] = {}
    for point in found:
        by_thing.setdefault(point.what, []).append(point.value)
    assert by_thing == {
        "row length": [128, 256, 512, 1024],
        "vocabulary": [2048, 4096, 8192, 16384],
        "pictures per sample": [1, 2, 4, 8],
        "samples": [256, 512, 1024, 2048],
    }


def test_rows_tell_what_they_are_beside_the_first() -> None:
    rows = [
        {"what": "row length", "value": 1, "seconds": 2.0, "peak GiB": 1.0, "beyond imports GiB": 0.5},
        {"what": "row length", "value": 4, "seconds": 3.0, "peak GiB": 1.5, "beyond imports GiB": 1.0},
    ]
    second = relative(rows)[1]
    assert (second["value x"], second["seconds x"], second["memory x"]) == (4.0, 1.5, 2.0)


def test_a_point_is_measured_in_a_process_of_its_own_and_drawn(tmp_path: Path) -> None:
    (point,) = [point for point in points(TINY, (1,)) if point.what == "samples"]
    row = measure(point)
    assert row["seconds"] > 0
    assert row["peak GiB"] > row["beyond imports GiB"] > 0
    draw([row], tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 1000
