"""The dataset card: what was made of what, by whom, what was thrown away and why, what it cost.

Comes in: everything about a run. Goes out: `README.md` with the metadata block that dataset hubs read, and the same as
`report.json`. Says nothing that was not counted: a licence that nobody stated is not stated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from sightline import __version__
from sightline.ask.budget import Cost
from sightline.ask.ledger import Count
from sightline.synth.checks import REASONS
from sightline.synth.export import DATA, DUPLICATES, Export

NOT_STATED = "not stated"
_MEANINGS = REASONS | DUPLICATES
_LIMITS = (
    "No reply was read by a person. The checks speak only where they are certain, so what they let through is not "
    "thereby true. The teacher knew captions and boxes, not the picture, unless the table above names a checkpoint."
)


@dataclass(frozen=True, kw_only=True)
class Licences:
    """What the user says about rights; None where nothing was said."""

    data: str | None = None
    annotations: str | None = None
    pictures: str | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything about a run.

    Attributes:
        source: where contexts came from: format, path, how many, what was left out by reason.
        counts: questions by kind, state and reason, as the ledger has them.
        rejections: rejected replies by reason, those of questions that were answered later included.
        settings: what the run was started with, as `settings.json` has it.
    """

    source: Mapping[str, Any]
    settings: Mapping[str, Any]
    counts: Sequence[Count]
    rejections: Mapping[str, int]
    spending: Cost
    export: Export
    licences: Licences

    @property
    def asked(self) -> Counter[str]:
        """Questions by kind that have an end: accepted, rejected, or dead."""
        return self._in_states("accepted", "rejected", "dead")

    @property
    def accepted(self) -> Counter[str]:
        return self._in_states("accepted")

    def _in_states(self, *states: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for count in self.counts:
            if count.state in states:
                found[count.kind] += count.count
        return found

    def to_json(self) -> dict[str, Any]:
        """The report for a program."""
        export, statistics = self.export, self.export.statistics
        return {
            "sightline": __version__,
            "source": dict(self.source),
            "settings": dict(self.settings),
            "questions": [asdict(count) for count in self.counts],
            "rejected_replies": dict(self.rejections),
            "samples": dict(export.samples),
            "pairs": dict(statistics.pairs),
            "editions": {
                kind: [
                    {"model": model, "prompts": version, "samples": number} for (model, version), number in of.items()
                ]
                for kind, of in sorted(export.editions.items())
            },
            "duplicates": dict(export.dropped),
            "prompt_tokens": self.spending.prompt_tokens,
            "completion_tokens": self.spending.completion_tokens,
            "cost": float(self.spending.money),
            "licences": {
                "data": self.licences.data,
                "annotations": self.licences.annotations,
                "pictures": self.licences.pictures,
            },
        }


def write_card(report: Report, name: str) -> str:
    """The card in Markdown."""
    samples = report.export.samples.total()
    head = {
        "license": report.licences.data or "other",
        "language": ["en"],
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "size_categories": [_size(samples)],
        "configs": [{"config_name": "default", "data_files": DATA}],
    }
    spent = report.spending
    sections = {
        "Sources": _source(report.source),
        "Who wrote it": _teachers(report),
        "What was asked, accepted, kept": _counts(report),
        "What was thrown away": _thrown_away(report),
        "What it cost": f"{spent.prompt_tokens:,} tokens of prompts, {spent.completion_tokens:,} of replies, "
        f"{spent.money:.2f} in the currency of the stated prices.",
        "Licences": _licences(report.licences),
        "Limits": _LIMITS,
    }
    opening = (
        f"{samples:,} samples of visual instruction data in LLaVA's JSON (`{DATA}`), written by `sightline synth` "
        f"{__version__} from captions and boxes. Pictures are not part of it: `image` is a path in their folder."
    )
    blocks = [f"---\n{yaml.safe_dump(head, sort_keys=False)}---", f"# {name}", opening]
    blocks += [f"## {title}\n\n{text}" for title, text in sections.items()]
    return "\n\n".join(blocks) + "\n"


def _licences(licences: Licences) -> str:
    rows = [
        ("this data", licences.data or NOT_STATED),
        ("captions and boxes", licences.annotations or NOT_STATED),
        ("pictures", licences.pictures or NOT_STATED),
    ]
    table = _table(("What", "Licence"), rows)
    return f"{table}\n\nA teacher's terms of use may restrict what its replies may be used for."


def _size(samples: int) -> str:
    """The class of sizes as dataset hubs name it."""
    names = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for limit, name in names if samples < limit), "1M<n<10M")


def _source(source: Mapping[str, Any]) -> str:
    rows = [("format", source["format"]), ("path", f"`{source['path']}`"), ("pictures", f"{source['contexts']:,}")]
    rows += [(f"left out: {reason}", f"{count:,}") for reason, count in sorted(source["left_out"].items()) if count]
    return _table(("What", "Value"), rows)


def _teachers(report: Report) -> str:
    rows = [
        (kind, f"`{model}`", f"`{version}`", f"{count:,}")
        for kind, editions in sorted(report.export.editions.items())
        for (model, version), count in sorted(editions.items())
    ]
    return _table(("Kind", "Teacher", "Hash of the prompts", "Samples"), rows)


def _counts(report: Report) -> str:
    statistics, samples = report.export.statistics, report.export.samples
    rows = []
    for kind in sorted(report.asked):
        asked, accepted, pairs = report.asked[kind], report.accepted[kind], statistics.pairs[kind]
        words = statistics.words[kind] / pairs if pairs else 0.0
        counts = (f"{count:,}" for count in (asked, accepted, samples[kind], pairs))
        rows.append((kind, *counts, f"{accepted / asked:.1%}", f"{words:.1f}"))
    head = ("Kind", "Questions to the teacher", "Accepted", "Samples", "Pairs", "Acceptance", "Words an answer")
    return _table(head, rows)


def _thrown_away(report: Report) -> str:
    dead = Counter({count.reason: count.count for count in report.counts if count.state == "dead"})
    rows = [
        (f"`{reason}`", f"{count:,}", _MEANINGS.get(reason, ""))
        for reason, count in [*sorted(report.rejections.items()), *sorted(report.export.dropped.items())]
        if count
    ]
    rows += [(f"`{reason}`", f"{count:,}", "no reply") for reason, count in sorted(dead.items())]
    if not rows:
        return "Nothing."
    return _table(("Reason", "Replies", "Meaning"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: object) -> str:
    """A cell cannot break its table, whatever a path or a name holds."""
    return " ".join(str(text).split()).replace("|", "\\|")
