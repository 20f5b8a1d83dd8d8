"""What a scorer found, for people and for programs.

Comes in: figures of a task under a protocol, and what was amiss with the answers. Goes out: a table, or JSON. A figure
that the original cannot compute, or refuses to, is None (`null`): never a smaller number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

LEANING_DECIMALS = 3
Figures = Mapping[str, Any]
"""Names to numbers, None, lists of numbers, or further figures."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The figures of one file of answers.

    Attributes:
        protocol: whose rules; `rules` says in a sentence what they are.
        metric: the figure that papers print, and where it stands: `overall`, or `image.accuracy`.
        n: questions of the annotations that count; `answered` of them have an answer.
        missing, extra, doubled: questions without an answer, answers without a question, answers that a later one of
            the same question replaced.
        unparsable: answers that the rules could make nothing of; they count as the protocol says.
        figures: unrounded, but for those that the original itself rounds.
        answered_only: the same over the answered questions alone, where the original refuses incomplete answers.
        notes: what else the user should know, one line each.
        values: each scored unit's value, 0 to 1 where right and wrong are all there is.
        leanings: towards yes, or towards an option's place (see `leanings`); None where the task has no such thing.
    """

    task: str
    protocol: str
    rules: str
    metric: str
    n: int
    answered: int
    missing: int = 0
    extra: int = 0
    doubled: int = 0
    unparsable: int = 0
    figures: Figures
    answered_only: Figures | None = None
    notes: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    leanings: Figures | None = None
    decimals: int = 2

    def to_json(self) -> dict[str, Any]:
        """As `sightline score --json` prints it."""
        counts = ("n", "answered", "missing", "extra", "doubled", "unparsable")
        return {
            "task": self.task,
            "protocol": self.protocol,
            "rules": self.rules,
            "metric": self.metric,
            "score": figure(self.figures, self.metric),
            **{name: getattr(self, name) for name in counts},
            "figures": self.figures,
            "answered_only": self.answered_only,
            "leanings": self.leanings,
            "notes": list(self.notes),
        }


def figure(figures: Figures, path: str) -> Any:
    """The figure at `a.b.c`; None where there is none."""
    found: Any = figures
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def nulled(figures: Figures) -> Figures:
    """The same names, and None for every number."""
    return {name: nulled(value) if isinstance(value, Mapping) else None for name, value in figures.items()}


def mean(values: list[float]) -> float | None:
    """None of nothing."""
    return sum(values) / len(values) if values else None


def ratio(part: float, whole: float) -> float | None:
    """None where the original divides by zero."""
    return part / whole if whole else None


def percent(part: float | None, whole: float = 1) -> float | None:
    """A hundred times the ratio; None of nothing."""
    return None if part is None or not whole else 100 * part / whole


def table(result: Result) -> str:
    """For people: what was scored under which rules, and every figure on a line of its own."""
    lines = [f"{result.task}, protocol {result.protocol}: {result.rules}"]
    counts = [f"{result.n:,} questions, {result.answered:,} answered"]
    counts += [f"{getattr(result, name):,} {name}" for name in ("missing", "extra", "doubled") if getattr(result, name)]
    lines.append(", ".join([*counts, f"{result.unparsable:,} unparsable"]))
    lines += _block(result.figures, result.decimals)
    if result.answered_only is not None:
        lines.append("over the answered questions alone, which is not the benchmark's figure:")
        lines += _block(result.answered_only, result.decimals)
    if result.leanings is not None:
        lines.append("how the answers lean, which is no figure of the benchmark:")
        lines += _block(result.leanings, LEANING_DECIMALS)
    return "\n".join(lines)


def _block(figures: Figures, decimals: int) -> list[str]:
    rows = list(_flat(figures, 0))
    width = max((2 * depth + len(name) for depth, name, _ in rows), default=0) + 2
    return [f"{'  ' * depth + name:<{width}}{_shown(value, decimals):>10}".rstrip() for depth, name, value in rows]


def _flat(figures: Figures, depth: int) -> Iterator[tuple[int, str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield depth, name, ""
            yield from _flat(value, depth + 1)
        else:
            yield depth, name, value


def _shown(value: Any, decimals: int) -> str:
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    if isinstance(value, list):
        return ", ".join(_shown(one, decimals) for one in value)
    return "null" if value is None else f"{value}"
