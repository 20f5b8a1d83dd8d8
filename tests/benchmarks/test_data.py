"""The loader's benchmark on a few pictures and samples."""

from __future__ import annotations

from benchmarks.sizes import SIZES

from benchmarks import data


def test_both_sides_make_the_same_pixels_and_rows_are_filled() -> None:
    pictures, samples = data.run(pictures=2, samples=128, size=SIZES["tiny"], say=lambda line: None)
    assert [row["policy"] for row in pictures.rows] == ["crop", "pad"]
    assert pictures.rows[0]["pixels differ"] < 1e-5  # padding may be done before or after resizing
    assert all(row["faster"] > 0 for row in pictures.rows)
    (row,) = samples.rows
    assert 0.5 < row["rows filled"] <= 1
    assert row["indexed samples/s"] > 0
