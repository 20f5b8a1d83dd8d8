"""What an engine counts, and how Prometheus reads it.

Comes in: counts and durations, from the one thread that owns them. Goes out: the text format of Prometheus (version
0.0.4). Holds no words of any request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets of durations."""


class Histogram:
    """Durations in seconds, counted in buckets."""

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one duration."""
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    @property
    def mean(self) -> float:
        """0 without any."""
        return self._sum / max(1, sum(self._counts))

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """As Prometheus wants it: every bucket holds those below it too."""
        below = 0
        for bound, count in zip((*SECONDS, "+Inf"), self._counts, strict=True):
            below += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {below}'
        yield f"{name}_sum{{{labels}}} {self._sum:.6f}"
        yield f"{name}_count{{{labels}}} {below}"


@dataclass
class Figures:
    """Of one engine. `ended` counts answers by how they ended; `reused` are prompt positions that a memory had."""

    steps: int = 0
    prompt_tokens: int = 0
    reused: int = 0
    tokens: int = 0
    pictures: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    first_token: Histogram = field(default_factory=Histogram)
    answer: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One engine's figures at one moment."""

    model: str
    figures: Figures
    rows: int
    waiting: int


_COUNTERS = {
    "decode_steps_total": ("Steps of generation, of all rows together.", "steps"),
    "prompt_tokens_total": ("Positions of prompts.", "prompt_tokens"),
    "reused_prompt_tokens_total": ("Positions of prompts that were known from an earlier turn.", "reused"),
    "generated_tokens_total": ("Tokens of answers; its rate is tokens per second.", "tokens"),
    "pictures_encoded_total": ("Pictures that went through the encoder.", "pictures"),
}
_HISTOGRAMS = {
    "first_token_seconds": ("From the request's arrival to its first token.", "first_token"),
    "answer_seconds": ("From the request's arrival to its last token.", "answer"),
}


def render(readings: Iterable[Reading], refusals: Mapping[tuple[int, str], int]) -> str:
    """The whole page; `refusals` are counted by status and code."""
    readings = list(readings)
    lines: list[str] = []

    def metric(name: str, kind: str, about: str, values: Iterable[str]) -> None:
        lines.extend((f"# HELP sightline_{name} {about}", f"# TYPE sightline_{name} {kind}", *values))

    labels = {reading.model: f'model="{_escaped(reading.model)}"' for reading in readings}
    for name, about in (("rows", "Requests that are being answered."), ("waiting", "Requests that wait for a row.")):
        values = [f"sightline_{name}{{{labels[each.model]}}} {getattr(each, name)}" for each in readings]
        metric(name, "gauge", about, values)
    for name, (about, key) in _COUNTERS.items():
        values = [f"sightline_{name}{{{labels[each.model]}}} {getattr(each.figures, key)}" for each in readings]
        metric(name, "counter", about, values)
    ended = [
        f'sightline_answers_total{{{labels[each.model]},end="{end}"}} {count}'
        for each in readings
        for end, count in sorted(dict(each.figures.ended).items())
    ]
    metric("answers_total", "counter", "Answers by how they ended.", ended)
    for name, (about, key) in _HISTOGRAMS.items():
        found = (getattr(each.figures, key).lines(f"sightline_{name}", labels[each.model]) for each in readings)
        metric(name, "histogram", about, [line for part in found for line in part])
    refused = [
        f'sightline_refusals_total{{status="{status}",code="{code}"}} {count}'
        for (status, code), count in sorted(refusals.items())
    ]
    metric("refusals_total", "counter", "Requests that were refused, by status and code.", refused)
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    """A label's value (Prometheus' exposition formats)."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
