"""Statistics for people: a table for the terminal, a picture.

Comes in: `Statistics`. Goes out: text, a PNG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.atomic import replacing
from sightline.data.statistics import ANSWERS, Statistics, summary

INK, ACCENT, MUTED = "#1f2933", "#2563eb", "#9fb3c8"
BARS = 12
"""Bars of a panel at most; the rest is one bar."""


def table(found: Statistics) -> str:
    """Lines for a terminal."""
    lines = [f"{found.samples:,} samples" + (f", {found.refused.total():,} refused" if found.refused else "")]
    lines += [f"  {count:>12,}  refused: {reason}" for reason, count in found.refused.most_common()]
    lengths = {"tokens": found.tokens, "trained tokens": found.trained, "words of an answer": found.words}
    for name, values in lengths.items():
        known = summary(values)
        if known is not None:
            lines.append(f"{name}: " + ", ".join(f"{key} {value:,}" for key, value in known.items()))
    if found.cut:
        lines.append(f"{found.cut:,} samples lose trained tokens to max_length")
    for name, counts in _groups(found).items():
        lines.append(name)
        lines += [f"  {count:>12,}  {100 * count / max(1, sum(counts.values())):5.1f}%  {key}" for key, count in
                  top(counts).items()]  # fmt: skip
    return "\n".join(lines)


def plot(found: Statistics, path: Path, *, title: str) -> None:
    """Draws lengths and counts into `path` (PNG), whole or not at all."""
    import matplotlib as mpl  # here, because importing it takes longer than any command's --help may

    mpl.use("Agg")
    from matplotlib import pyplot

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": MUTED}
    with mpl.rc_context(style):
        figure, panels = pyplot.subplots(2, 3, figsize=(13, 7), layout="constrained")
        figure.suptitle(f"{title}: {found.samples:,} samples", color=INK, fontweight="bold", x=0.01, ha="left")
        _histogram(panels[0][0], found.tokens, "tokens of a sample" if found.tokens else "tokens: needs --recipe")
        _histogram(panels[0][1], found.words, "words of an answer")
        places = (panels[0][2], panels[1][0], panels[1][1], panels[1][2])
        for panel, (name, counts) in zip(places, _groups(found).items(), strict=True):
            _bars(panel, top(counts), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=130, format="png")
        pyplot.close(figure)


def top(counts: Mapping[str, int]) -> dict[str, int]:
    """The first `BARS` counts, and the sum of the others."""
    items = list(counts.items())
    rest = sum(count for _, count in items[BARS:])
    return dict(items[:BARS]) | ({f"({len(items) - BARS} more)": rest} if rest else {})


def _groups(found: Statistics) -> dict[str, dict[str, int]]:
    return {
        "pictures of a sample": {str(number): found.images[number] for number in sorted(found.images)},
        "exchanges of a sample": {str(number): found.turns[number] for number in sorted(found.turns)},
        "sources": dict(found.sources.most_common()),
        "answers": {kind: found.answers[kind] for kind in ANSWERS},
    }


def _histogram(panel: Any, values: Sequence[int], name: str) -> None:
    if len(values):
        panel.hist(values, bins=min(60, len(set(values))), color=ACCENT)
    panel.set_title(name, loc="left", color=INK)
    panel.grid(axis="y", color="#e5e9ef")


def _bars(panel: Any, counts: Mapping[str, int], name: str) -> None:
    shown = panel.barh(list(counts), list(counts.values()), color=ACCENT)
    panel.bar_label(shown, labels=[f"{count:,}" for count in counts.values()], padding=3, color=INK)
    panel.invert_yaxis()
    panel.margins(x=0.15)
    panel.set_title(name, loc="left", color=INK)
