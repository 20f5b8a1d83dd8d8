"""Questions with short answers, asked of a model in this process: what the demo compares models by.

Comes in: a model, questions with their answers and categories. Goes out: every answer, and accuracy by category. The
same questions as a benchmark, from the command line, are the task `short-answers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.atomic import write_atomic
from sightline.data.processor import Processor
from sightline.evaluate import answering
from sightline.evaluate.answering import Asked, check_pictures
from sightline.evaluate.blind import swapped
from sightline.evaluate.tasks.short_answers import is_right
from sightline.evaluate.tasks.task import Question
from sightline.model.vlm import VisionLanguageModel

MAX_NEW_TOKENS = 16
"""A short answer is a word or a phrase."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A question with what the model said, and the picture that it was shown."""

    question: Question
    image: str
    given: str
    correct: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Accuracies from 0 to 1, and how many questions each is over."""

    overall: float
    by_type: Mapping[str, float]
    questions: int
    count_by_type: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def answer_questions(
    model: VisionLanguageModel,
    processor: Processor,
    questions: Sequence[Question],
    *,
    root: Path,
    swap_images: bool = False,
    batch: int = 64,
    say: Callable[[str], None] = lambda line: None,
) -> list[Answered]:
    """Answers greedily; the result is in the order of the questions.

    Args:
        root: folder of the pictures.
        swap_images: show each question the picture of another one: what is still answered right needs no eyes.

    Raises:
        DataError: a picture is missing or cannot be used; found before anything is answered.
    """
    images = [question.image for question in questions]
    images = swapped(images) if swap_images else images
    asked = [Asked(at, question.text, (Path(images[at]),)) for at, question in enumerate(questions)]
    check_pictures(asked, root=root)
    given: dict[int, str] = {}
    for group in answering.answers(model, processor, asked, max_new_tokens=MAX_NEW_TOKENS, batch=batch, root=root):
        given |= group
        say(f"answered {len(given)} of {len(asked)} questions")
    return [
        Answered(
            question=question,
            image=images[at],
            given=given[at],
            correct=is_right(given[at], question.answers[0]),
        )
        for at, question in enumerate(questions)
    ]


def score(answers: Iterable[Answered]) -> Scores:
    """Exact match after `normalise`, by category and overall; every question counts the same."""
    right: dict[str, int] = {}
    asked: dict[str, int] = {}
    for answer in answers:
        category = answer.question.group
        asked[category] = asked.get(category, 0) + 1
        right[category] = right.get(category, 0) + answer.correct
    total = sum(asked.values())
    return Scores(
        overall=sum(right.values()) / total if total else 0.0,
        by_type={category: right[category] / asked[category] for category in sorted(asked)},
        questions=total,
        count_by_type=dict(sorted(asked.items())),
    )


def write_answers(path: Path, answers: Iterable[Answered]) -> None:
    """One JSON object a line, whole or not at all."""
    lines = [
        json.dumps(
            {
                "question_id": answer.question.id,
                "image": answer.question.image,
                "text": answer.question.text,
                "answer": answer.question.answers[0],
                "category": answer.question.group,
                "unseen": answer.question.more["unseen"],
                "shown": answer.image,
                "given": answer.given,
                "correct": answer.correct,
            }
        )
        for answer in answers
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "\n".join(lines) + "\n")


def table(columns: Mapping[str, Scores]) -> str:
    """Accuracy in percent: one line per category, one column per model or baseline."""
    first = next(iter(columns.values()))
    width = max(12, *(len(name) + 2 for name in columns))
    lines = [f"{'':<14}{'questions':>10}" + "".join(f"{name:>{width}}" for name in columns)]
    for category, count in first.count_by_type.items():
        lines.append(
            f"{category:<14}{count:>10}"
            + "".join(f"{100 * scores.by_type.get(category, 0.0):>{width - 1}.1f}%" for scores in columns.values())
        )
    lines.append(
        f"{'overall':<14}{first.questions:>10}"
        + "".join(f"{100 * scores.overall:>{width - 1}.1f}%" for scores in columns.values())
    )
    return "\n".join(lines)
