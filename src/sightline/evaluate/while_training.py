"""Benchmarks for a model that still trains: opened before the run, asked between its steps.

Comes in: what a recipe says under `benchmarks`; then, at a step, model and processor. Goes out: a figure of each task,
and its answers in LLaVA's format. Asks and scores as `sightline evaluate` does; what cannot be asked or scored is said
before the run begins. Does not know when it is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sightline.data.processor import Processor
from sightline.errors import ConfigError, DataError, SightlineError
from sightline.evaluate.answering import answers, check_pictures, prompt_ids
from sightline.evaluate.evaluation import headline
from sightline.evaluate.exam import Exam, open_exam
from sightline.evaluate.results import Result
from sightline.evaluate.runner import write_rows
from sightline.evaluate.score import OFFICIAL
from sightline.evaluate.tasks.registry import task_named
from sightline.evaluate.tasks.task import AnswerTask
from sightline.infer.generate import context_of
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import BenchmarksSpec
from sightline.train.log import Log


@dataclass(frozen=True, kw_only=True)
class OpenBenchmarks:
    """What `train.loop.train` is given to ask. `batch`: questions answered at once."""

    exams: Sequence[Exam]
    batch: int

    def check(self, model: VisionLanguageModel, processor: Processor) -> None:
        """Every prompt as ids, so that none is refused in the middle of a run.

        Raises:
            DataError: a prompt holds what none may hold.
            ConfigError: a prompt does not fit into the language model's context.
        """
        context = context_of(model)
        for exam in self.exams:
            for at, one in enumerate(exam.asked):
                length = len(prompt_ids(processor, one))
                if length >= context:
                    raise ConfigError(
                        f"benchmarks.tasks: {exam.task}: the prompt of question {exam.questions[at].id} takes {length} "
                        f"positions, the language model has {context}; remove the task"
                    )

    def figures(
        self,
        model: VisionLanguageModel,
        processor: Processor,
        *,
        folder: Path,
        name: str,
        stopping: Callable[[], bool],
        log: Log,
    ) -> dict[str, float | None] | None:
        """See `train.benchmarks.Benchmarks`. A task that cannot be asked now has no figure; the log says why."""
        found: dict[str, float | None] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for exam in self.exams:
            task = answer_task(exam)
            figure = f"{exam.task}.{task.metric}"
            try:
                said = self._said(exam, model, processor, stopping, log)
                if said is None:
                    return None
                path = folder / f"{exam.task}.jsonl"
                write_rows(path, exam, said, name=name)
                found[figure] = headline(scored(exam, path))[0]
            except (SightlineError, OSError, torch.OutOfMemoryError) as error:
                reason = str(error).partition("\n")[0]
                log.say(f"{figure}: no figure at this step, the run goes on: {reason}")
                found[figure] = None
        return found

    def _said(
        self,
        exam: Exam,
        model: VisionLanguageModel,
        processor: Processor,
        stopping: Callable[[], bool],
        log: Log,
    ) -> dict[int, str] | None:
        """Answers by the question's place; None where it broke off."""
        said: dict[int, str] = {}
        groups = answers(model, processor, exam.asked, max_new_tokens=exam.max_new_tokens, batch=self.batch)
        with closing(groups):
            for group in groups:
                said |= group
                log.doing(f"{exam.task}: {len(said):,} of {len(exam.asked):,}")
                if stopping():
                    return None
        return said


def open_benchmarks(spec: BenchmarksSpec) -> OpenBenchmarks:
    """Reads the questions, and the headers of their pictures.

    Raises:
        DataError: there is no such task, it has no figure, or files or pictures are missing or not what they should be.
    """
    if not Path(spec.data).is_dir():
        raise DataError(
            f"benchmarks.data: {spec.data}: no such folder; give the one with the official files", reason="no_data"
        )
    exams = []
    for name in spec.tasks:
        try:
            exam = subset(open_exam(name, Path(spec.data), split=spec.split), spec.limit)
            check_pictures(exam.asked)
        except DataError as error:
            raise DataError(f"benchmarks: {error}", reason=error.reason) from error
        if not exam.truths or not any(question.answers for question in exam.questions):
            raise DataError(
                f"benchmarks.tasks: {name} has no figure: its server or a judge scores it; remove it", reason="no_truth"
            )
        exams.append(exam)
    return OpenBenchmarks(exams=exams, batch=spec.batch)


def subset(exam: Exam, limit: int | None) -> Exam:
    """Pictures with all of their questions, until there are `limit` questions: so MME's pairs and MMBench's rotations
    stay whole. A question without a picture is drawn by itself.

    Pictures come in the order of the SHA-256 of their first question's id: always the same, and those of a smaller
    limit are among those of a larger one.
    """
    if limit is None or limit >= len(exam.questions):
        return exam
    shown: dict[object, list[int]] = {}
    for at, one in enumerate(exam.asked):
        shown.setdefault(one.pictures or at, []).append(at)
    places: list[int] = []
    for group in sorted(shown.values(), key=lambda group: _digest(exam.questions[group[0]].id)):
        if len(places) >= limit:
            break
        places += group
    places.sort()
    return replace(
        exam,
        questions=[exam.questions[at] for at in places],
        asked=[replace(exam.asked[at], number=new) for new, at in enumerate(places)],
        rows=[exam.rows[at] for at in places],
    )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def answer_task(exam: Exam) -> AnswerTask:
    """The task of an exam that has right answers."""
    task = task_named(exam.task)
    assert isinstance(task, AnswerTask)
    return task


def scored(exam: Exam, answers: Path) -> Result:
    """A file of answers under the benchmark's own rules, over the exam's questions alone: none that was not asked is
    missing."""
    return replace(answer_task(exam), questions=lambda _: list(exam.questions)).evaluate(
        [answers], exam.truths, OFFICIAL
    )
