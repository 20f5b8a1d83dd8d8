"""The same run on many machines: contexts become questions, replies and verdicts on Ray; one process owns the ledger.

Comes in: a `Job` and how to make its teacher, which must be a local one (rules, a checkpoint). Goes out: what `run.run`
makes, under the same keys. Workers read pictures and weights by the same paths as the driver, and never see the ledger.
What the ledger has already is not computed again; what a kill leaves unfinished is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from sightline.ask.ledger import Ledger
from sightline.ask.outcome import Snapshot, Summary
from sightline.ask.question import Message, Picture, Question, Reply
from sightline.ask.reply import Unusable, read_reply
from sightline.ask.teacher import Teacher, Unanswerable
from sightline.errors import ConfigError, SightlineError, TeacherError
from sightline.synth.card import Report
from sightline.synth.checks import Judge
from sightline.synth.context import Context
from sightline.synth.plan import Plan, Subject
from sightline.synth.run import LEDGER, Job, run_questions

MakeTeacher = Callable[[], Teacher]
BATCH = 16
"""Questions that a worker takes at once: few, so that none waits long while others work."""
BLOCKS = 64
"""Most pieces that the work of one worker is cut into: each costs Ray some milliseconds."""


def run_on_ray(
    job: Job,
    make_teacher: MakeTeacher,
    *,
    workers: int,
    gpus: float = 0.0,
    progress: Callable[[Snapshot], None] | None = None,
) -> tuple[Summary, Report]:
    """Runs the job.

    Args:
        make_teacher: called once in each worker, where Ray carries it.
        workers: teachers at a time.
        gpus: for each of them.

    Raises:
        ConfigError: Ray is not installed. Otherwise as `run.run`.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray needs Ray: pip install 'sightline[ray]'") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    settled = _settled(job)
    tasks = [
        {"kind": kind, "subject": Subject(context=context).to_json()} for kind, context in job.plan.asked(job.contexts)
    ]
    ray.data.DataContext.get_current().enable_progress_bars = False
    blocks = max(1, min(len(tasks) // BATCH, BLOCKS * workers))
    rows = ray.data.from_items(tasks, override_num_blocks=blocks).map_batches(
        Worker,
        fn_constructor_args=(job.plan, job.judge, make_teacher, job.asks, settled),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=gpus,
    )
    computed = Computed(rows.iter_rows(), total=len(tasks), judge=job.judge)
    try:
        return run_questions(job, computed, computed, computed.verdict, progress=progress)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, SightlineError):
            raise cause from None
        raise TeacherError(f"Ray: {str(error).strip().splitlines()[-1]}; the same command continues") from error


def _settled(job: Job) -> frozenset[str]:
    """Keys of questions that need no computing any more."""
    path = job.directory / LEDGER
    if not path.exists():
        return frozenset()
    with Ledger(path, read_only=True) as ledger:
        return frozenset(answer.key for answer in ledger.accepted(mixed=True))


class Worker:
    """What runs elsewhere: tasks in, questions with their replies and verdicts out, each as one line of JSON."""

    def __init__(self, plan: Plan, judge: Judge, make_teacher: MakeTeacher, asks: int, settled: frozenset[str]) -> None:
        self._plan, self._judge, self._asks, self._settled = plan, judge, asks, settled
        self._teacher = make_teacher()

    def __call__(self, batch: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        """`kind` and `subject` of some tasks; goes out: `computed`, empty where there is nothing to ask any more."""
        pairs = zip(batch["kind"], batch["subject"], strict=True)
        return {"computed": [self._compute(str(kind), Subject.from_json(str(text)).context) for kind, text in pairs]}

    def _compute(self, kind: str, context: Context) -> str:
        question = self._plan.question(kind, context)
        if question is None or question.key in self._settled:
            return ""
        replies: list[tuple[str, str | None]] = []
        unanswerable = None
        try:
            while len(replies) < self._asks and (not replies or replies[-1][1] is not None):
                raw = asyncio.run(self._teacher.reply(question, len(replies)))
                replies.append((raw.decode(), self._verdict(question, raw)))
        except Unanswerable as error:
            unanswerable = error.reason
        return json.dumps({"question": asdict(question), "replies": replies, "unanswerable": unanswerable})

    def _verdict(self, question: Question, raw: bytes) -> str | None:
        try:
            return self._judge(question, read_reply(raw, model=question.model))
        except Unusable as error:
            return error.reason


class Computed:
    """What workers computed, as `ask_all` wants it: questions, a teacher that knows their replies, verdicts."""

    def __init__(self, rows: Iterable[Mapping[str, Any]], *, total: int, judge: Judge) -> None:
        self._rows, self._total, self._judge = rows, total, judge
        self._replies: dict[str, list[tuple[str, str | None]]] = {}
        self._unanswerable: dict[str, str | None] = {}

    def __iter__(self) -> Iterator[Question]:
        for row in self._rows:
            if row["computed"]:
                found = json.loads(row["computed"])
                question = _question(found["question"])
                self._replies[question.key] = found["replies"]
                self._unanswerable[question.key] = found["unanswerable"]
                yield question

    def __length_hint__(self) -> int:
        return self._total

    async def reply(self, question: Question, ask: int) -> bytes:
        """The reply that was computed."""
        replies = self._replies[question.key]
        if ask >= len(replies):
            raise Unanswerable(self._unanswerable[question.key] or "not_computed")
        return replies[ask][0].encode()

    async def close(self) -> None:
        """Nothing is open."""

    def verdict(self, question: Question, reply: Reply) -> str | None:
        """The verdict that was computed; judged here where a killed run has left the reply."""
        for raw, reason in self._replies.get(question.key, ()):
            if raw.encode() == reply.raw:
                if reason is None:
                    del self._replies[question.key]
                return reason
        return self._judge(question, reply)


def _question(tree: Mapping[str, Any]) -> Question:
    """A question of its fields, under the key that it had."""
    messages = tuple(
        Message(message["role"], message["content"], tuple(Picture(**image) for image in message["images"]))
        for message in tree["messages"]
    )
    return Question(**{**tree, "messages": messages})
