"""From a ledger to data that trains: LLaVA JSON and what its card and page tell about it.

Comes in: accepted answers in the order of their keys. Goes out: `instruct.json`, the same bytes for the same answers,
and an `Export` that counts them. Reads no source, no prompts, no pictures: an answer's subject holds all it needs.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.ask.ledger import Answer
from sightline.atomic import fault_point, fsync_dir
from sightline.synth.grammar import Pair
from sightline.synth.likeness import Likeness
from sightline.synth.plan import Subject
from sightline.synth.statistics import Statistics, spread_add

DATA = "instruct.json"
DUPLICATES = {
    "pair_duplicate": "a question with its answer that the same picture has already",
    "duplicate_in_picture": "a reply of which no question is new to its picture",
    "duplicate_across_pictures": "a reply that is like one about another picture",
}
"""Why something that was accepted is not exported."""
ON_PAGE = 48
"""Samples that the page shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A sample with what its teacher saw."""

    id: str
    kind: str
    subject: Subject
    pairs: list[Pair]


@dataclass(kw_only=True)
class Export:
    """What was written.

    Attributes:
        samples: by kind.
        editions: kind -> (model, version of the prompts) -> samples.
        dropped: near-duplicates, by the reasons of `DUPLICATES`.
        shown: samples at even distances, for people to look at.
    """

    samples: Counter[str] = field(default_factory=Counter)
    editions: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    statistics: Statistics = field(default_factory=Statistics)
    shown: list[Shown] = field(default_factory=list)


def write_data(answers: Iterable[Answer], path: Path) -> Export:
    """Writes the samples as one JSON list, whole or not at all."""
    export = Export()
    likeness, ids = Likeness(), Counter[str]()
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        opening = "["
        for answer in answers:
            subject = Subject.from_json(answer.subject)
            pairs = _new(subject, answer.reply.text, likeness, export.dropped)
            if not pairs:
                continue
            name = _unique(f"{subject.context.id}-{answer.kind}", ids)
            file.write(f"{opening}\n{json.dumps(sample(name, subject, pairs), ensure_ascii=False)}")
            opening = ","
            _count(export, Shown(id=name, kind=answer.kind, subject=subject, pairs=pairs), answer)
        file.write("\n]\n" if export.samples else "[]\n")
        file.flush()
        os.fsync(file.fileno())
    fault_point("before_replace")
    temporary.replace(path)
    fsync_dir(path.parent)
    return export


def sample(name: str, subject: Subject, pairs: Iterable[Pair]) -> dict[str, Any]:
    """A sample as LLaVA's data has it: the picture's mark opens the first question, the suffix closes it."""
    turns = []
    for number, pair in enumerate(pairs):
        question = pair.question
        if number == 0:
            question = f"<image>\n{question}" + (f"\n{subject.suffix}" if subject.suffix else "")
        turns += [{"from": "human", "value": question}, {"from": "gpt", "value": pair.answer}]
    return {"id": name, "image": subject.context.image, "conversations": turns}


def _new(subject: Subject, reply: str, likeness: Likeness, dropped: Counter[str]) -> list[Pair]:
    pairs = subject.pairs(reply)
    kept = likeness.new_pairs(subject.context.id, pairs)
    if not kept:
        dropped["duplicate_in_picture"] += 1
        return []
    dropped["pair_duplicate"] += len(pairs) - len(kept)
    if not likeness.is_new(kept):
        dropped["duplicate_across_pictures"] += 1
        return []
    return kept


def _unique(name: str, ids: Counter[str]) -> str:
    """The name; with a number behind it, where it was given before."""
    ids[name] += 1
    return name if ids[name] == 1 else f"{name}-{ids[name]}"


def _count(export: Export, one: Shown, answer: Answer) -> None:
    export.samples[one.kind] += 1
    export.editions.setdefault(one.kind, Counter())[answer.model, answer.version] += 1
    export.statistics.add(one.kind, one.subject.context, one.pairs)
    spread_add(export.shown, one, export.samples.total(), most=ON_PAGE)
