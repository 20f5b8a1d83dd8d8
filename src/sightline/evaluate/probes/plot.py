"""A picture of what the probes found.

Comes in: what `sightline score probes --json` printed of a seeing, perhaps of a blind run. Goes out: a plot: accuracy
of reading against the height of the letters, and of each probe beside chance and the blind run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.atomic import new_file
from sightline.evaluate.probes.demonstrations import MAKERS
from sightline.evaluate.result_files import read_json, refuse

Figures = Mapping[str, Any]


def read_figures(path: Path) -> Figures:
    """The figures of a result of the probes.

    Raises:
        DataError: it is another file, or its figures are null because answers are missing.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("task") != "probes":
        raise refuse(path, "expected what `sightline score probes --json` prints")
    if content["score"] is None:
        raise refuse(path, f"{content['missing']} answers are missing, so there is no figure to plot")
    figures: Figures = content["figures"]
    return figures


def plot(seeing: Figures, blind: Figures | None, path: Path) -> None:
    """Writes the picture; `path` ends in .png, .svg or .pdf."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(10, 4), layout="constrained")
    left, right = sheet.subplots(1, 2)
    heights = seeing.get("reading", {}).get("by_height", {})
    left.plot([int(height) for height in heights], list(heights.values()), marker="o", label="seeing")
    if blind is not None:
        unseen = blind.get("reading", {}).get("by_height", {})
        left.plot([int(height) for height in unseen], list(unseen.values()), marker=".", linestyle=":", label="blind")
    left.set(xlabel="height of a capital in pixels", ylabel="words read", ylim=(-0.03, 1.03), title="Reading")
    left.legend()
    names = [name for name in MAKERS if name in seeing]
    places = range(len(names))
    right.bar([p - 0.2 for p in places], [seeing[name]["accuracy"] for name in names], width=0.4, label="seeing")
    if blind is not None:
        right.bar([p + 0.2 for p in places], [blind[name]["accuracy"] for name in names], width=0.4, label="blind")
    for place, name in zip(places, names, strict=True):
        right.hlines(
            seeing[name]["chance"], place - 0.45, place + 0.45, colors="black", label="chance" if place == 0 else None
        )
    right.set_xticks(list(places), names)
    right.set(ylim=(0, 1.03), ylabel="accuracy", title="Probes")
    right.legend()
    with new_file(path) as file:
        sheet.savefig(file, format=path.suffix[1:] or "png")
