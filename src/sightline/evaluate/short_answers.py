"""Questions with short answers, scored by exact match.

Comes in: a checkpoint, a JSONL file of questions with their answers and categories. Goes out: every answer, and
accuracy by category. Does not know where the questions come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.atomic import write_atomic
from sightline.data.image import check_image, open_image
from sightline.data.processor import Processor
from sightline.data.sample import ImageRef, Turn, canonical_content
from sightline.errors import DataError
from sightline.infer.chat import stop_rule
from sightline.infer.generate import Prompt, generate
from sightline.infer.sampling import Sampling
from sightline.model.vlm import VisionLanguageModel

MAX_NEW_TOKENS = 16
"""A short answer is a word or a phrase."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question about one picture; `unseen` marks a composition that training never showed."""

    question_id: str
    image: str
    text: str
    answer: str
    category: str
    unseen: bool = False


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


def read_questions(path: Path) -> list[Question]:
    """Reads JSONL with `question_id`, `image`, `text`, `answer`, `category`, and perhaps `unseen`.

    Raises:
        DataError: the file is missing, or a line is not such a question; the message names the line.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a JSONL file of questions", reason="file_missing")
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(_question(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(
                f"{path}:{number}: expected an object with question_id, image, text, answer, category; {error}",
                reason="question_invalid",
            ) from error
    if not found:
        raise DataError(f"{path}: no questions; give a file with at least one", reason="no_samples")
    return found


def _question(fields: dict[str, Any]) -> Question:
    """One line's question; an id may be a number. `KeyError` or `TypeError` when it is none."""
    question = Question(**{**fields, "question_id": str(fields["question_id"])})
    for key in ("image", "text", "answer", "category"):
        if not isinstance(fields[key], str):
            raise TypeError(f"{key} is {fields[key]!r}, not a text")
    return question


def normalise(answer: str) -> str:
    """Lower case, no article in front, no punctuation at the ends, single spaces: `The red star.` -> `red star`."""
    words = re.sub(r"\s+", " ", answer.lower()).strip(" .,!?\"'")
    return re.sub(r"^(a|an|the) ", "", words)


def swapped(questions: Sequence[Question]) -> list[str]:
    """A picture of another question for each question: halfway around the list, and never its own.

    Raises:
        DataError: all questions are about one picture.
    """
    images = [question.image for question in questions]
    if len(set(images)) == 1:
        raise DataError(
            f"all questions are about {images[0]}, so none can be shown another picture: leave out --swap-images",
            reason="one_picture",
        )
    shifted = []
    for position, own in enumerate(images):
        around = (images[(position + len(images) // 2 + step) % len(images)] for step in range(len(images)))
        shifted.append(next(image for image in around if image != own))
    return shifted


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
    """Answers greedily, in batches of prompts of like lengths; the result is in the order of the questions.

    Args:
        root: folder of the pictures.
        swap_images: show each question the picture of another one: what is still answered right needs no eyes.

    Raises:
        DataError: a picture is missing or cannot be used; found before anything is answered.
    """
    images = swapped(questions) if swap_images else [question.image for question in questions]
    for name in dict.fromkeys(images):
        check_image(name, root=root)
    turns = [Turn(role="user", content=canonical_content([ImageRef(index=0), asked.text])) for asked in questions]
    ids = [processor.prompt([turn]) for turn in turns]
    order = sorted(range(len(questions)), key=lambda index: len(ids[index]))
    stop = stop_rule(processor)
    sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS)
    given: dict[int, str] = {}
    for start in range(0, len(order), batch):
        group = order[start : start + batch]
        prompts = [
            Prompt(ids=ids[index], pixels=processor.pixels([open_image(images[index], root=root)])) for index in group
        ]
        for index, answer in zip(group, generate(model, prompts, sampling=sampling, stop=stop), strict=True):
            given[index] = stop.text(answer)
        say(f"answered {min(start + batch, len(order))} of {len(order)} questions")
    return [
        Answered(
            question=question,
            image=images[index],
            given=given[index],
            correct=normalise(given[index]) == normalise(question.answer),
        )
        for index, question in enumerate(questions)
    ]


def score(answers: Iterable[Answered]) -> Scores:
    """Exact match after `normalise`, by category and overall; every question counts the same."""
    right: dict[str, int] = {}
    asked: dict[str, int] = {}
    for answer in answers:
        category = answer.question.category
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
        json.dumps({**asdict(answer.question), "shown": answer.image, "given": answer.given, "correct": answer.correct})
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
