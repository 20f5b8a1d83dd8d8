"""A picture of a run.

Comes in: the rows of a log. Goes out: a PNG with loss, benchmarks and learning rate over the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INK, ACCENT, MUTED = "#1f2933", "#2563eb", "#9fb3c8"


def smoothed(values: Sequence[float], *, weight: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start (Kingma and Ba 2015, section 3)."""
    result, mean = [], 0.0
    for count, value in enumerate(values, start=1):
        mean = weight * mean + (1 - weight) * value
        result.append(mean / (1 - weight**count))
    return result


def curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """The benchmarks' figures by name: the steps at which there is one, and the figures."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        for name, figure in row.get("benchmarks", {}).items():
            steps, figures = found.setdefault(name, ([], []))
            if figure is not None:
                steps.append(row["step"])
                figures.append(figure)
    return found


def plot_run(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draws the run's loss, smoothed loss, validation loss and learning rate into `path` (PNG), and a panel for each
    benchmark, whose figures have scales of their own."""
    import matplotlib as mpl  # here, because importing it takes longer than any command's --help may

    mpl.use("Agg")
    from matplotlib import pyplot

    trained = [row for row in rows if row.get("loss") is not None]
    validated = [row for row in rows if row.get("validation_loss") is not None]
    with mpl.rc_context(
        {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": MUTED}
    ):
        benchmarks = curves(rows)
        count = len(benchmarks)
        figure, (upper, *panels, lower) = pyplot.subplots(
            2 + count, 1, figsize=(8, 5 + 1.25 * count), height_ratios=(3, *[1] * count, 1), sharex=True,
            layout="constrained",
        )  # fmt: skip
        steps = [row["step"] for row in trained]
        losses = [row["loss"] for row in trained]
        upper.plot(steps, losses, color=MUTED, linewidth=0.8, label="loss")
        upper.plot(steps, smoothed(losses), color=ACCENT, linewidth=1.8, label="smoothed")
        if validated:
            upper.plot(
                [row["step"] for row in validated],
                [row["validation_loss"] for row in validated],
                color="#dc2626",
                marker="o",
                markersize=4,
                label="validation",
            )
        upper.set_ylabel("loss, nats per trained token")
        upper.set_title(title, loc="left", color=INK, fontweight="bold")
        upper.grid(axis="y", color="#e5e9ef")
        upper.legend(frameon=False)
        for panel, (name, (asked, figures)) in zip(panels, benchmarks.items(), strict=True):
            panel.plot(asked, figures, color=ACCENT, marker="o", markersize=4, linewidth=1.2)
            panel.set_title(name, loc="left", fontsize=9, color=INK)
            panel.grid(axis="y", color="#e5e9ef")
            panel.margins(y=0.2)
        lower.plot(steps, [row["lr"] for row in trained], color=INK, linewidth=1.2)
        lower.set_ylabel("learning rate")
        lower.set_xlabel("step")
        lower.ticklabel_format(axis="y", scilimits=(-3, 3))
        figure.savefig(path, dpi=150)
        pyplot.close(figure)
