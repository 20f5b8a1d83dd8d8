"""One run of the engine in its directory: ask what is not answered yet, then write data, card and page.

Comes in: a `Job`. Goes out: `instruct.json`, `report.json`, `README.md`, `page.html` beside the ledger. Whatever was
asked is in the ledger before anything else happens, so the same call made again goes on where the last one was killed,
and ends with the same `instruct.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sightline import __version__
from sightline.ask.batch import read_batch, write_batch
from sightline.ask.budget import Budget
from sightline.ask.judging import Judge as Verdict
from sightline.ask.ledger import Ledger
from sightline.ask.limits import Clock, Limits
from sightline.ask.outcome import Snapshot, Summary
from sightline.ask.question import Question
from sightline.ask.run import ask_all
from sightline.ask.teacher import Teacher
from sightline.atomic import write_atomic
from sightline.errors import BudgetError, ConfigError
from sightline.synth.card import Licences, Report, write_card
from sightline.synth.checks import Judge
from sightline.synth.context import Context
from sightline.synth.export import DATA, write_data
from sightline.synth.page import write_page
from sightline.synth.plan import Plan, counts
from sightline.synth.source import Source

LEDGER, SETTINGS, REPORT, CARD, PAGE = "ledger.sqlite", "settings.json", "report.json", "README.md", "page.html"

Editions = Literal["one", "present", "all"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a run needs.

    Attributes:
        contexts: those of the source that are asked about.
        images: the folder of the pictures, for the page; None without them.
        asks: how often a question may be asked while its replies are rejected.
        revive: ask again what earlier runs have given up because no reply came.
        editions: what happens to replies of another model or other prompts: `one` refuses to begin, `present` leaves
            them out of the data, `all` takes them in.
    """

    directory: Path
    source: Source
    contexts: Sequence[Context]
    plan: Plan
    images: Path | None = None
    limits: Limits = field(default_factory=Limits)
    budget: Budget = field(default_factory=Budget)
    asks: int = 3
    revive: bool = False
    editions: Editions = "one"
    licences: Licences = field(default_factory=Licences)

    @property
    def judge(self) -> Judge:
        return Judge(self.plan.kinds, self.source.vocabulary)


class Questions:
    """A plan's questions, made one by one, with a hint of how many there are."""

    def __init__(self, plan: Plan, contexts: Sequence[Context]) -> None:
        self._plan, self._contexts = plan, contexts

    def __iter__(self) -> Iterator[Question]:
        return self._plan.questions(self._contexts)

    def __length_hint__(self) -> int:
        return sum(counts(self._plan.mixture, len(self._contexts)).values())


def run(
    job: Job,
    teacher: Teacher,
    *,
    progress: Callable[[Snapshot], None] | None = None,
    clock: Clock | None = None,
) -> tuple[Summary, Report]:
    """Asks, then exports. When the budget ends first, what was answered is exported all the same.

    Raises:
        ConfigError: the directory holds a run of another model or other prompts, or another process writes to it.
        BudgetError, TeacherError, StorageError: see `ask.run.ask_all`; the same call continues.
    """
    questions = Questions(job.plan, job.contexts)
    return run_questions(job, questions, teacher, job.judge, progress=progress, clock=clock)


def run_questions(
    job: Job,
    questions: Iterable[Question],
    teacher: Teacher,
    judge: Verdict,
    *,
    progress: Callable[[Snapshot], None] | None = None,
    clock: Clock | None = None,
) -> tuple[Summary, Report]:
    """The same with questions and verdicts that somebody else makes of the plan."""
    with open_ledger(job) as ledger:
        if job.revive:
            ledger.revive()
        try:
            summary = ask_all(
                questions,
                teacher=teacher,
                ledger=ledger,
                judge=judge,
                limits=job.limits,
                budget=job.budget,
                asks=job.asks,
                progress=progress,
                clock=clock,
            )
        except BudgetError:
            export(job, ledger)
            raise
        return summary, export(job, ledger)


def write_requests(job: Job) -> list[Path]:
    """Writes batch files of what is not answered yet into `batch/`, for a service that takes them."""
    with open_ledger(job) as ledger:
        questions = Questions(job.plan, job.contexts)
        return write_batch(questions, job.directory / "batch", ledger=ledger, budget=job.budget, asks=job.asks)


def read_results(job: Job, results: Sequence[Path]) -> tuple[dict[str, Any], Report]:
    """Stores and judges a service's result files; exports what there is then."""
    with open_ledger(job) as ledger:
        questions = Questions(job.plan, job.contexts)
        found = read_batch(results, questions, ledger=ledger, judge=job.judge)
        lines = {"lines": found.lines, "missing": found.missing, "judged": found.judged}
        return lines, export(job, ledger)


def open_ledger(job: Job) -> Ledger:
    """The run's ledger, once it is sure that the run may go on in this directory."""
    job.directory.mkdir(parents=True, exist_ok=True)
    path = job.directory / SETTINGS
    before = _editions_of(path)
    present = {name: job.plan.edition(name) for name in job.plan.mixture}
    if job.editions == "one":
        for kind, edition in present.items():
            if before.get(kind) not in (None, [edition]):
                raise ConfigError(
                    f"{path}: {kind} was asked of another model or with other prompts (editions "
                    f"{', '.join(before[kind])}, now {edition}): choose another --out, or --editions present, which "
                    "exports the new replies alone, or all"
                )
    ledger = Ledger(job.directory / LEDGER)
    settings = _settings(job)
    settings["editions"] = {
        kind: sorted({*before.get(kind, []), *([present[kind]] if kind in present else [])})
        for kind in sorted({*before, *present})
    }
    write_atomic(path, json.dumps(settings, indent=2) + "\n")
    return ledger


def export(job: Job, ledger: Ledger) -> Report:
    """Writes data, report, card and page, from the ledger."""
    present = {job.plan.edition(name) for name in job.plan.mixture}
    answers = ledger.accepted(editions=present if job.editions == "present" else None, mixed=job.editions == "all")
    directory = job.directory
    exported = write_data(answers, directory / DATA)
    source = job.source
    report = Report(
        source={
            "format": source.format,
            "path": str(source.path),
            "contexts": len(job.contexts),
            "left_out": {reason: count for reason, count in sorted(source.left_out.items()) if count},
        },
        settings=_settings(job),
        counts=ledger.counts(),
        rejections=ledger.rejections(),
        spending=ledger.spending(),
        export=exported,
        licences=job.licences,
    )
    write_atomic(directory / REPORT, json.dumps(report.to_json(), indent=2) + "\n")
    write_atomic(directory / CARD, write_card(report, directory.name))
    write_atomic(directory / PAGE, write_page(report, name=directory.name, images=job.images))
    return report


def _settings(job: Job) -> dict[str, Any]:
    plan = job.plan
    return {
        "sightline": __version__,
        "source": str(job.source.path),
        "format": job.source.format,
        "model": plan.model,
        "seed": plan.seed,
        "mix": dict(plan.mixture),
        "asks": job.asks,
        "prompts": {name: plan.kinds[name].version for name in plan.mixture},
        "shows": {name: list(plan.kinds[name].shows) for name in plan.mixture},
    }


def _editions_of(path: Path) -> dict[str, list[str]]:
    """Kind -> editions that runs in this directory have asked for."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["editions"]
        return {str(kind): [str(edition) for edition in editions] for kind, editions in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged: {error!r}; remove it if the ledger beside it is to be used") from error
