"""What a benchmark is to this package: a way to read its questions, to give each its answer, and to count.

Comes in: paths of annotations and answers, the name of a protocol. Goes out: a `Result`. Reading the questions is apart
from scoring, so that a program that asks them reads the same files. Knows no benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sightline.errors import DataError, nearest
from sightline.evaluate.result_files import ANSWER_FIELDS, ID, Row, read_rows
from sightline.evaluate.results import Figures, Result, nulled


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question, as the official files have it.

    Attributes:
        id: the official id, as text.
        image: file name or path of the picture, empty where the files name none.
        text, hint, options: what is asked, what is told beforehand, the texts of the options A, B, ...
        answers: right answers as annotated; of a multiple choice, the letter. Empty where the files hold none.
        group: by what the official tables split first: a type, a category, a subset.
        more: what else the scorer of this task needs.
    """

    id: str
    image: str = ""
    text: str = ""
    hint: str = ""
    options: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    group: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


class Scored(NamedTuple):
    """What a scorer makes of questions and their rows: figures, each unit's value, answers it could not parse; and how
    the answers lean, which is none of the benchmark's figures."""

    figures: Figures
    values: Mapping[str, float]
    unparsable: int = 0
    notes: tuple[str, ...] = ()
    leanings: Figures | None = None


class Rules(NamedTuple):
    """A protocol: what it does, in a sentence, and what a missing answer is to it: `wrong`, or `refused`."""

    says: str
    missing: str = "refused"


class Paired(NamedTuple):
    """Each question's row, or None; rows without a question; rows replaced by a later one of the same question."""

    rows: list[Row | None]
    extra: list[Row]
    doubled: list[Row]


class Task(Protocol):
    """A benchmark that can be scored."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def protocols(self) -> Mapping[str, Rules]: ...
    def evaluate(self, predictions: Sequence[Path], annotations: Sequence[Path], protocol: str) -> Result: ...


Pair = Callable[[Sequence[Question], Sequence[Row]], Paired]
Score = Callable[[Sequence[Question], Sequence[Row | None], str], Scored]


@dataclass(frozen=True, kw_only=True)
class AnswerTask:
    """A benchmark whose answers are texts, one to a question.

    Attributes:
        questions: reads the official files, in any order; raises `DataError` for others.
        pair: gives each question its row.
        score: counts, under the protocol of this name; a row is None where an answer is missing.
        answer_fields: where an answer stands in a row, first found first.
        optional: questions that may go without an answer; then they are as if they were not in the file.
    """

    name: str
    title: str
    metric: str
    protocols: Mapping[str, Rules]
    questions: Callable[[Sequence[Path]], list[Question]]
    pair: Pair
    score: Score
    read: Callable[..., list[Row]] = read_rows
    answer_fields: Sequence[str] = ANSWER_FIELDS
    optional: Callable[[Question], bool] = lambda question: False
    decimals: int = 2

    def evaluate(self, predictions: Sequence[Path], annotations: Sequence[Path], protocol: str) -> Result:
        """Reads, pairs and counts.

        Raises:
            DataError: a file cannot be used, or no answer belongs to a question of the annotations.
        """
        rules = chosen(self.protocols, protocol, self.name)
        if not annotations:
            raise DataError(
                f"{self.name}: needs --annotations, the official files as downloaded", reason="file_missing"
            )
        questions = self.read_questions(annotations)
        if not any(question.answers for question in questions):
            raise DataError(
                f"{_names(annotations)}: holds no right answers: this split is scored by the benchmark's server",
                reason="no_truth",
            )
        rows = self.read(predictions, answer_fields=self.answer_fields)
        paired = self.pair(questions, rows)
        if not any(paired.rows):
            raise _wrong_split(predictions, annotations, rows, questions)
        questions, paired = _needed(questions, paired, self.optional)
        missing = sum(row is None for row in paired.rows)
        refused = missing > 0 and rules.missing == "refused"
        counted = [(q, row) for q, row in zip(questions, paired.rows, strict=True) if row is not None or not refused]
        scored = self.score([q for q, _ in counted], [row for _, row in counted], protocol)
        return Result(
            task=self.name,
            protocol=protocol,
            rules=rules.says,
            metric=self.metric,
            n=len(questions),
            answered=len(questions) - missing,
            missing=missing,
            extra=len(paired.extra),
            doubled=len(paired.doubled),
            unparsable=scored.unparsable,
            figures=nulled(scored.figures) if refused else scored.figures,
            answered_only=scored.figures if refused else None,
            notes=(*_faults(questions, paired, refused), *scored.notes),
            values=scored.values,
            leanings=scored.leanings,
            decimals=self.decimals,
        )

    def read_questions(self, annotations: Sequence[Path]) -> list[Question]:
        """The questions of the official files.

        Raises:
            DataError: a file is another one, an entry lacks something, or there is no question.
        """
        try:
            questions = self.questions(annotations)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise DataError(
                f"{_names(annotations)}: an entry is not as {self.title} has them ({type(error).__name__}: {error})",
                reason="file_invalid",
            ) from error
        if not questions:
            raise DataError(f"{_names(annotations)}: no questions in it", reason="no_truth")
        return questions


def chosen(protocols: Mapping[str, Rules], name: str, task: str) -> Rules:
    """The rules of that name.

    Raises:
        DataError: the task has no such protocol.
    """
    if name not in protocols:
        raise DataError(
            f"--protocol {name}: {task} has {', '.join(protocols)}{nearest(name, protocols)}", reason="no_protocol"
        )
    return protocols[name]


def by_key(question_key: Callable[[Question], Hashable], row_keys: Callable[[Row], Iterable[Hashable]]) -> Pair:
    """Pairs a row with the questions of its key: the first of the row's keys that any question has.

    Questions of one key share an answer, as SEED-Bench's id 49914 does, which its file has twice. Of several rows the
    last one counts, as in the originals, which fill a dict.
    """

    def pair(questions: Sequence[Question], rows: Sequence[Row]) -> Paired:
        keys = [question_key(question) for question in questions]
        known = set(keys)
        found: dict[Hashable, Row] = {}
        extra, doubled = [], []
        for row in rows:
            key = next((key for key in row_keys(row) if key in known), None)
            if key is None:
                extra.append(row)
                continue
            if key in found:
                doubled.append(row)
            found[key] = row
        return Paired([found.get(key) for key in keys], extra, doubled)

    return pair


def by_id(*fields: str) -> Pair:
    """Pairs by the official id: the first of these fields that a row has, compared as text."""
    names = (*fields, ID)

    def keys(row: Row) -> list[Hashable]:
        return [str(row.fields[name]) for name in names if name in row.fields]

    return by_key(lambda question: question.id, keys)


def _needed(
    questions: list[Question], paired: Paired, optional: Callable[[Question], bool]
) -> tuple[list[Question], Paired]:
    """Without the optional questions that have no answer."""
    kept = [
        (question, row)
        for question, row in zip(questions, paired.rows, strict=True)
        if row is not None or not optional(question)
    ]
    return [question for question, _ in kept], paired._replace(rows=[row for _, row in kept])


def _faults(questions: Sequence[Question], paired: Paired, refused: bool) -> list[str]:
    """One line for each kind of fault, with the first example of it."""
    lines = []
    missing = [question.id for question, row in zip(questions, paired.rows, strict=True) if row is None]
    if missing:
        outcome = "the original refuses such a file: no figure is given" if refused else "they count as wrong"
        lines.append(f"{len(missing):,} of {len(questions):,} questions have no answer ({missing[0]} first): {outcome}")
    if paired.extra:
        first = paired.extra[0].place
        lines.append(
            f"{len(paired.extra):,} answers are to no question of the annotations ({first} first): not counted"
        )
    if paired.doubled:
        first = paired.doubled[0].place
        lines.append(
            f"{len(paired.doubled):,} answers are to a question answered before ({first} first): the last counts"
        )
    return lines


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)


def _wrong_split(
    predictions: Sequence[Path], annotations: Sequence[Path], rows: Sequence[Row], questions: Sequence[Question]
) -> DataError:
    fields = {name: value for name, value in rows[0].fields.items() if "id" in name or name in ("image", "index")}
    return DataError(
        f"{_names(predictions)}: no answer belongs to a question of {_names(annotations)}: the first answer is of "
        f"{_brief(fields)}, the first question is {_brief(questions[0].id)}; is it another split?",
        reason="wrong_split",
    )


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
