"""The picture of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.train.plot import curves, plot_run, smoothed

ROWS: list[dict[str, Any]] = [
    *({"step": step, "loss": 3.0 / step, "lr": 1e-3 / step} for step in range(1, 9)),
    {"step": 9, "loss": None, "lr": 1e-4, "skipped": ["a"]},
    {"step": 9, "validation_loss": 0.7},
]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([3.0], [3.0]),
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0]),
        ([0.0, 1.0], [0.0, 1 / 1.5]),
        ([4.0, 0.0, 0.0], [4.0, 4 / 3, 4 / 7]),
    ],
)
def test_smoothing_by_hand(values: Sequence[float], expected: list[float]) -> None:
    assert smoothed(values, weight=0.5) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[-2:], []], ids=["all", "one-step", "no-loss", "nothing"])
def test_a_picture_is_drawn_from_whatever_rows_there_are(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    plot_run(rows, tmp_path / "loss.png", title="small: $x_1 of {all}")
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (1200, 750)
        assert len(picture.convert("RGB").getcolors(2**20) or []) > 50


ASKED: list[dict[str, Any]] = [
    {"step": step, "benchmarks": {"pope.mean_f1": figure, "gqa.accuracy": 10.0 * step}}
    for step, figure in ((3, None), (6, 0.5), (9, 0.75))
]


def test_benchmarks_have_the_steps_at_which_they_have_a_figure() -> None:
    assert curves(ROWS) == {}
    assert curves([*ROWS, *ASKED, {"step": 12, "benchmarks": {"mme.perception": None}}]) == {
        "pope.mean_f1": ([6, 9], [0.5, 0.75]),
        "gqa.accuracy": ([3, 6, 9], [30.0, 60.0, 90.0]),
        "mme.perception": ([], []),
    }


def test_each_benchmark_has_a_panel_that_follows_its_figures(tmp_path: Path) -> None:
    pictures = []
    for gqa in (1, -1):
        rows = [{**row, "benchmarks": {**row["benchmarks"], "gqa.accuracy": gqa * row["step"]}} for row in ASKED]
        plot_run([*ROWS, *rows], tmp_path / "loss.png", title="small")
        with Image.open(tmp_path / "loss.png") as picture:
            assert picture.size == (1200, 750 + 2 * 187.5)
            pictures.append(picture.convert("RGB").tobytes())
    assert pictures[0] != pictures[1]


def test_the_curve_follows_the_loss(tmp_path: Path) -> None:
    """Falling and rising losses give different pictures; the same rows give the same one."""
    pictures = []
    for name, losses in (("falling", [3, 2, 1]), ("rising", [1, 2, 3]), ("again", [3, 2, 1])):
        plot_run(
            [{"step": step, "loss": loss, "lr": 0.1} for step, loss in enumerate(losses, start=1)],
            tmp_path / f"{name}.png",
            title="x",
        )
        with Image.open(tmp_path / f"{name}.png") as picture:
            pictures.append(picture.convert("RGB").tobytes())
    assert pictures[0] == pictures[2] != pictures[1]
