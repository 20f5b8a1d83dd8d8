"""A benchmark from the questions to the page: asked, written for the server, scored under every protocol, reported.

Comes in: an exam, somebody who answers, a folder. Goes out: `answers.jsonl`, the upload, `score.json`, `report.html`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.atomic import write_atomic
from sightline.evaluate.blind import blinded
from sightline.evaluate.exam import Exam
from sightline.evaluate.journal import MAKING, given
from sightline.evaluate.results import Result, figure
from sightline.evaluate.runner import ANSWERS, WHOLE, Answerer, Shard, ask_exam
from sightline.evaluate.score import OFFICIAL
from sightline.evaluate.submissions import write_submission
from sightline.evaluate.tasks.registry import task_named
from sightline.evaluate.tasks.task import chosen

SCORE = "score.json"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user may choose; `blind` is asked as well as the questions with their own pictures."""

    protocol: str = OFFICIAL
    blind: str | None = None
    limit: int | None = None
    shard: Shard = WHOLE
    max_new_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A benchmark that was asked.

    Attributes:
        answers: by the question's place.
        results: by protocol; none where a server or a judge scores.
        blind: how the pictures were changed, the answers then, and their result under the chosen protocol.
        notes: what else the user should know.
    """

    exam: Exam
    model: str
    making: Mapping[str, Any]
    protocol: str
    folder: Path
    answers: Mapping[int, str]
    results: Mapping[str, Result] = field(default_factory=dict)
    blind: str | None = None
    blind_answers: Mapping[int, str] = field(default_factory=dict)
    blind_result: Result | None = None
    notes: tuple[str, ...] = ()

    @property
    def result(self) -> Result | None:
        """Under the chosen protocol."""
        return self.results.get(self.protocol)

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it and `score.json` holds it."""
        return {
            "task": self.exam.task,
            "model": self.model,
            "protocol": self.protocol,
            "asked": len(self.answers),
            "making": dict(self.making),
            "results": {name: result.to_json() for name, result in self.results.items()},
            "blind": self.blind
            and {
                "pictures": self.blind,
                "result": self.blind_result.to_json() if self.blind_result else None,
            },
            "notes": list(self.notes),
        }


def headline(result: Result) -> tuple[float | None, bool]:
    """The figure that papers print, and whether it is the benchmark's: over the answered questions alone it is not."""
    partial = result.answered_only is not None
    return figure(result.answered_only or result.figures, result.metric), not partial


def evaluate_exam(
    exam: Exam, answerer: Answerer, folder: Path, options: Options, *, say: Callable[[str], None]
) -> Outcome | None:
    """Does whatever is not done yet.

    Returns:
        None where other shards have not answered yet.

    Raises:
        DataError, ConfigError: see `ask_exam`; or the benchmark has no such protocol.
    """
    if exam.truths:
        chosen(task_named(exam.task).protocols, options.protocol, exam.task)
    if options.blind:
        blinded(exam.asked, options.blind)  # a mistake is told before anything is asked
    paths: list[Path | None] = []
    blind_folder = folder / f"blind-{options.blind}"
    for place, blind in ((folder, None), (blind_folder, options.blind)):
        if blind or place == folder:
            paths.append(
                ask_exam(
                    exam,
                    answerer,
                    place,
                    blind=blind,
                    limit=options.limit,
                    shard=options.shard,
                    max_new_tokens=options.max_new_tokens,
                    say=say,
                )
            )
    if None in paths:
        return None
    outcome = _outcome(exam, answerer, folder, options, blind_folder)
    write_atomic(folder / SCORE, json.dumps(outcome.to_json(), indent=2) + "\n")
    from sightline.evaluate.task_report import write_report

    write_report(outcome)
    return outcome


def _outcome(exam: Exam, answerer: Answerer, folder: Path, options: Options, blind_folder: Path) -> Outcome:
    answers = _first(given(folder), options.limit)
    protocols = list(task_named(exam.task).protocols) if exam.truths else []
    scored = {name: score_answers(exam, folder, name) for name in protocols}
    notes = [*exam.notes, *write_submission(exam, answers, folder)]
    if not exam.truths:
        notes.append(f"{exam.task}: no score: its server or a judge gives it")
    return Outcome(
        exam=exam,
        model=answerer.name,
        making=json.loads((folder / MAKING).read_text()),
        protocol=options.protocol,
        folder=folder,
        answers=answers,
        results=scored,
        blind=options.blind,
        blind_answers=_first(given(blind_folder), options.limit) if options.blind else {},
        blind_result=score_answers(exam, blind_folder, options.protocol) if options.blind and exam.truths else None,
        notes=tuple(notes),
    )


def score_answers(exam: Exam, folder: Path, protocol: str) -> Result:
    """The file of answers under a protocol."""
    return task_named(exam.task).evaluate([folder / ANSWERS], exam.truths, protocol)


def _first(answers: Mapping[int, str], limit: int | None) -> dict[int, str]:
    return {at: text for at, text in sorted(answers.items()) if limit is None or at < limit}
