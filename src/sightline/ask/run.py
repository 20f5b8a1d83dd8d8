"""Asking all questions there are.

Comes in: questions, a teacher, a ledger, limits, a budget, a judge. Goes out: every question accepted, rejected or dead
in the ledger, and a summary. Stops at once, but never forgets: what is in flight when it has to stop is waited for and
stored, and the same call made again goes on from there. Which questions, and what makes a reply good, is not its
business.
"""

from __future__ import annotations

import asyncio
import dataclasses
import operator
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sightline.ask.budget import Budget, Cost
from sightline.ask.commits import Commits
from sightline.ask.judging import Judge, judge_stored
from sightline.ask.ledger import Entry, Ledger
from sightline.ask.limits import Clock, Gate, Limits, SystemClock
from sightline.ask.outcome import Snapshot, Summary
from sightline.ask.question import Question
from sightline.ask.reply import Unusable, read_usage
from sightline.ask.teacher import Retryable, Teacher, Unanswerable
from sightline.errors import BudgetError, DataError, TeacherError

_TOKEN_BYTES = 4
"""Of a prompt for one token, as OpenAI's limiter estimates it (platform.openai.com/docs/guides/rate-limits). The
budget, which must hold, is reckoned otherwise."""


def ask_all(
    questions: Iterable[Question],
    *,
    teacher: Teacher,
    ledger: Ledger,
    judge: Judge,
    limits: Limits | None = None,
    budget: Budget | None = None,
    asks: int = 1,
    progress: Callable[[Snapshot], None] | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Ask what the ledger does not answer yet, until each question is accepted, rejected or dead.

    Args:
        questions: iterated lazily, once; a repeated key is asked once.
        judge: see `Judge`. Replies that are empty, refused by a filter, cut or of another model are rejected before.
        asks: how often one question may be asked in all while its replies are rejected. A reply that was cut at
            `max_tokens` is asked for once more with twice as many, on top.
        progress: called after each question.

    Raises:
        TeacherError: see `Teacher.reply`; or so many failures in a row that the service must be down; or one reason
            rejects a large share of the replies.
        BudgetError: the next question does not fit into what is left.
        StorageError: the ledger cannot be written. Raised before the next paid call.
        KeyboardInterrupt: SIGINT; what was in flight is stored first. A second SIGINT does not wait.
        SystemExit: SIGTERM, likewise.
    """
    run = _Run(
        questions=questions,
        teacher=teacher,
        ledger=ledger,
        judge=judge,
        limits=limits or Limits(),
        budget=budget or Budget(),
        asks=asks,
        progress=progress,
        clock=clock or SystemClock(),
    )
    asyncio.run(run.main())
    if run.interrupted_by == signal.SIGTERM:
        raise SystemExit(128 + signal.SIGTERM)
    if run.interrupted_by is not None:
        raise KeyboardInterrupt
    return run.summary()


class _Run:
    def __init__(
        self,
        *,
        questions: Iterable[Question],
        teacher: Teacher,
        ledger: Ledger,
        judge: Judge,
        limits: Limits,
        budget: Budget,
        asks: int,
        progress: Callable[[Snapshot], None] | None,
        clock: Clock,
    ) -> None:
        self._total = operator.length_hint(questions, 0)
        self._questions = iter(questions)
        self._teacher, self._ledger, self._judge = teacher, ledger, judge
        self._limits, self._budget, self._asks = limits, budget, asks
        self._progress, self._clock = progress, clock
        self._active: set[str] = set()
        self._workers: list[asyncio.Task[None]] = []
        self._busy: set[asyncio.Task[None] | None] = set()
        self._stopping = False
        self.interrupted_by: signal.Signals | None = None
        self._commits = Commits(ledger)
        self._open_tries = 0
        self._excess = Cost()
        self._calls = self._accepted = 0
        self._failures: Counter[str] = Counter()
        self._rejections: Counter[str] = Counter()

    # ---- start and end -----------------------------------------------------------------------------------------------

    async def main(self) -> None:
        self._gate = Gate(self._limits, self._clock, random.Random())
        self._settled = asyncio.Event()
        try:
            with self._signals():
                self._workers = [asyncio.create_task(self._work()) for _ in range(self._limits.concurrency)]
                await asyncio.wait(self._workers)
        finally:
            await self._teacher.close()
        errors = [worker.exception() for worker in self._workers if not worker.cancelled()]
        for error in errors:
            if error is not None:
                raise error
        self._ledger.commit()
        if self._progress:
            self._progress(self._snapshot())

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Inside, SIGINT and SIGTERM end the run politely, and a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _interrupt(self, number: signal.Signals) -> None:
        if self.interrupted_by is not None:
            for worker in self._workers:
                worker.cancel()
        self.interrupted_by = number
        self._stop()

    def _stop(self) -> None:
        """No call leaves any more; those under way are waited for."""
        self._stopping = True
        for worker in self._workers:
            if worker not in self._busy and worker is not asyncio.current_task():
                worker.cancel()

    def summary(self) -> Summary:
        judged = self._accepted + self._rejections.total()
        warnings = [
            f"{number} of {judged} replies were rejected for {reason}"
            for reason, number in sorted(self._rejections.items())
            if number > self._limits.warn_share * judged
        ]
        waiting = sum(count.count for count in self._ledger.counts() if count.state == "batched")
        if waiting:
            warnings.append(f"{waiting} questions wait for batch files to come back; read those first")
        if any(self._excess):
            warnings.append(f"the server bills more tokens than a request can have: up to {self._excess.tokens}")
        return Summary(
            counts=tuple(self._ledger.counts()),
            calls=self._calls,
            lost=self._ledger.lost,
            failures=dict(sorted(self._failures.items())),
            rejections=dict(sorted(self._rejections.items())),
            spending=self._ledger.spending(),
            warnings=tuple(warnings),
        )

    def _snapshot(self) -> Snapshot:
        return Snapshot(tuple(self._ledger.counts()), self._total, self._ledger.spending())

    # ---- one worker --------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        done = False
        try:
            while not self._stopping and (question := self._next()) is not None:
                self._active.add(question.key)
                await self._answer(question)
                self._active.remove(question.key)
                if self._progress:
                    self._progress(self._snapshot())
            done = True
        finally:
            if not done:  # at once, before any other worker can send anything
                self._stop()

    def _next(self) -> Question | None:
        """The next question that is open and that no other worker has."""
        for question in self._questions:
            entry = self._ledger.find(question.key)
            if entry is None:
                self._ledger.add(question)
                return question
            if question.key in self._active:
                continue
            if entry.state == "raw" or entry.is_open(self._asks):
                return question
        return None

    async def _answer(self, question: Question) -> None:
        """Ask until the question is no longer open."""
        failures = 0
        while not self._stopping:
            entry = self._ledger.find(question.key)
            assert entry is not None
            try:
                if entry.state == "raw":  # a run that was killed has left it
                    self._look_at(question)
                elif entry.is_open(self._asks):
                    await self._try(question, entry)
                else:
                    return
                failures = 0
            except Retryable as error:
                failures += 1
                self._failures[error.reason] += 1
                wait = self._gate.failed(error.reason, failures, asked=error.retry_after, busy=error.busy)
                if failures == self._limits.attempts:
                    self._ledger.bury(question.key, error.reason)
                else:
                    await self._clock.sleep(wait)
            except (Unanswerable, DataError) as error:
                self._failures[error.reason] += 1
                self._ledger.bury(question.key, error.reason)
                self._gate.failed(error.reason, 1, asked=None, busy=False)

    async def _try(self, question: Question, entry: Entry) -> None:
        """One call, from the reservation to the verdict.

        Raises:
            Retryable, Unanswerable, TeacherError: it brought no reply.
        """
        asked = dataclasses.replace(question, max_tokens=question.max_tokens * (1 + entry.longer))
        worst = self._budget.worst(asked)
        attempt = await self._reserve(question.key, worst)
        self._open_tries += 1
        task = asyncio.current_task()
        try:
            await self._gate.enter(_estimate(asked))
            try:
                self._ledger.sent(attempt)
                await self._commits.durable()
                self._busy.add(task)
                raw = await self._call(asked, entry.asks, attempt)
            finally:
                self._gate.leave()
            self._ledger.store(attempt, raw)
            await self._commits.durable()
            self._watch_bill(raw, worst)
            self._look_at(question)
        except asyncio.CancelledError:
            if task not in self._busy:
                self._ledger.release(attempt)
            raise
        finally:
            self._busy.discard(task)
            self._open_tries -= 1
            self._settled.set()

    async def _reserve(self, key: str, worst: Cost) -> int:
        """Set the worst cost aside once the budget has room; calls that end give back what they did not need."""
        while not self._budget.fits(self._ledger.spending(), worst.plus(self._excess)):
            if not self._open_tries:
                raise BudgetError(
                    f"the budget is reached: {self._budget}; spent: {_spelled(self._ledger.spending())}; the next "
                    f"question may take {_spelled(worst)}: all replies are kept, with a larger budget the same command "
                    "continues"
                )
            self._settled.clear()
            await self._settled.wait()
        return self._ledger.reserve(key, worst.plus(self._excess))

    async def _call(self, question: Question, ask: int, attempt: int) -> bytes:
        self._calls += 1
        try:
            return await self._teacher.reply(question, ask)
        except (Retryable, Unanswerable, DataError) as error:
            self._ledger.fail(attempt, error.reason, billed=isinstance(error, Retryable) and error.billed)
            raise
        except TeacherError:
            self._ledger.fail(attempt, "refused", billed=False)
            raise

    def _look_at(self, question: Question) -> None:
        """Judge the stored reply.

        Raises:
            Retryable: it was none.
            TeacherError: too many are rejected for one reason.
        """
        verdict = judge_stored(question, self._ledger, self._judge, self._budget.prices)
        if isinstance(verdict, Unusable):
            raise Retryable(verdict.reason)
        self._gate.succeeded()
        if verdict is None:
            self._accepted += 1
            return
        self._rejections[verdict] += 1
        judged, number = self._accepted + self._rejections.total(), self._rejections[verdict]
        if judged >= self._limits.stop_after and number > self._limits.stop_share * judged:
            raise TeacherError(
                f"{number} of {judged} replies were rejected for {verdict}: look at the prompts and at the model; all "
                "replies are kept: the same command continues"
            )

    def _watch_bill(self, raw: bytes, worst: Cost) -> None:
        """A server may bill more than we sent (a prompt of its own): reserve as much more from then on."""
        usage = read_usage(raw)
        if usage is not None:
            over = self._budget.prices.cost(*usage).minus(worst)
            self._excess = Cost(*map(max, self._excess, over))


def _estimate(question: Question) -> int:
    """Tokens that a server's limiter counts for a request, before it is answered."""
    text = sum(len(message.content.encode("utf-8", "surrogatepass")) for message in question.messages)
    return text // _TOKEN_BYTES + question.max_tokens


def _spelled(cost: Cost) -> str:
    money = f" and {cost.money.normalize():f} of money" if cost.picos else ""
    return f"{cost.tokens} tokens{money}"
