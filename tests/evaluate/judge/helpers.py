"""What the tests of judging share: small official files, and a judge that speaks by rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sightline.ask.ledger import Ledger
from sightline.ask.question import Question
from sightline.evaluate.judge.asking import Desk
from tests.ask.helpers import PlainTeacher

MODEL = "judge-1"


def lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def wild(folder: Path, *, answered: int = 3) -> Path:
    """LLaVA-Bench in the wild with three questions, as its files have them, and a model's answers beside it."""
    categories = ("conv", "detail", "complex")
    lines(
        folder / "questions.jsonl",
        ({"question_id": n, "image": f"{n:03}.jpg", "text": f"Question {n}?", "category": c}
         for n, c in enumerate(categories)),
    )  # fmt: skip
    lines(folder / "context.jsonl", ({"id": n, "image": f"{n:03}.jpg", "caption": f"Scene {n}."} for n in range(3)))
    lines(
        folder / "answers_gpt4.jsonl",
        ({"question_id": n, "answer_id": f"ref{n}", "text": f"reference {n}"} for n in range(3)),
    )
    return lines(
        folder / "answers" / "model.jsonl",
        # in another order than the questions: rows belong together by id
        ({"question_id": n, "answer_id": f"own{n}", "text": f"candidate {n}"} for n in reversed(range(answered))),
    )


def desk(
    folder: Path, says: Callable[[str, Question], str], *, teacher: PlainTeacher | None = None, asks: int = 1
) -> Desk:
    """A judge whose reply is a function of what it is shown. The ledger is open until the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    judge = teacher or PlainTeacher(lambda asked, ask, attempt: says(asked.messages[-1].content, asked))
    return Desk(model=MODEL, teacher=judge, ledger=Ledger(folder / "ledger.sqlite"), asks=asks)
