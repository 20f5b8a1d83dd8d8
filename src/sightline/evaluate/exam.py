"""A benchmark that is ready to be asked.

Comes in: a benchmark's name and a folder. Goes out: everything there is to ask, each with the row that its answer will
stand in, and the files for the scorer. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import DataError
from sightline.evaluate.answering import Asked, Picture
from sightline.evaluate.asks import ASKS, Ask, Row
from sightline.evaluate.official_files import Folder, Found
from sightline.evaluate.result_files import refuse
from sightline.evaluate.tasks.registry import task_named
from sightline.evaluate.tasks.task import AnswerTask, Question

WITHOUT_TOKENS = (
    "asked without OCR tokens, as TextVQA_Rosetta_OCR_v0.2_*.json is not there: LLaVA-1.5's figures are with them, and "
    "about twelve points higher"
)


@dataclass(frozen=True, kw_only=True)
class Exam:
    """A benchmark that is ready to be asked.

    Attributes:
        files: those that the questions were read from.
        truths: the files for the scorer; empty where nobody but a server or a judge can score.
        beside: other questions' files in the same folder, of other splits.
        questions, asked, rows: in one order; a row is complete but for `text` and what tells the model.
    """

    task: str
    files: list[Path]
    truths: list[Path]
    beside: list[Path]
    questions: list[Question]
    asked: list[Asked]
    rows: list[Row]
    max_new_tokens: int
    notes: tuple[str, ...] = ()


def open_exam(name: str, root: Path, *, split: str = "") -> Exam:
    """Reads a benchmark's files from `root`, or from the folder of the benchmark's name in it.

    Pictures may lie in either: COCO's serve several benchmarks.

    Raises:
        DataError: there is no such benchmark, or a file or a picture is missing or is not what it should be.
    """
    task, ask = task_named(name), ASKS[name]
    folders = [Folder(path) for path in (root / name, root) if path == root or path.is_dir()]
    found = folders[0].find(ask.wanted, split=split)
    files = [*found.questions, *found.truths]
    if ask.read is not None:
        questions = ask.read(files)
    else:
        assert isinstance(task, AnswerTask)
        questions = task.read_questions(files)
    scored = isinstance(task, AnswerTask) and any(question.answers for question in questions)
    prompt = ask.prompter(found.hints) if ask.prompter else ask.prompt
    said = [prompt(question) for question in questions]
    recorded = [ask.recorded(question) for question in questions] if ask.recorded else said
    pictures = _pictures(ask, folders, found, questions)
    return Exam(
        task=name,
        files=found.questions,
        beside=found.others,
        truths=files if scored else [],
        questions=questions,
        asked=[Asked(at, *one, marked=ask.marked) for at, one in enumerate(zip(said, pictures, strict=True))],
        rows=[{"prompt": words} | ask.row(question) for question, words in zip(questions, recorded, strict=True)],
        max_new_tokens=ask.max_new_tokens,
        notes=_notes(name, found),
    )


def _notes(name: str, found: Found) -> tuple[str, ...]:
    if name == "textvqa" and not found.hints:
        return (WITHOUT_TOKENS,)
    return ()


def _pictures(
    ask: Ask, folders: Sequence[Folder], found: Found, questions: Sequence[Question]
) -> list[tuple[Picture, ...]]:
    if ask.pictures is not None:
        inside = ask.pictures(found.questions)
        absent = [question.id for question in questions if not inside.get(question.id)]
        if absent:
            raise refuse(found.questions[0], f"{absent[0]}: no picture in its cell image", reason="image_missing")
        return [inside[question.id] for question in questions]
    shown: list[tuple[Picture, ...]] = []
    missing = []
    for question in questions:
        names = ask.names(question) if question.image else []
        path = next((path for folder in folders if (path := folder.picture(names)) is not None), None)
        if question.image and path is None:
            missing.append(question.image)
        shown.append(() if path is None else (path,))
    if missing:
        raise DataError(
            f"{folders[-1].root}: {len(set(missing)):,} of the pictures are not in it or below, {missing[0]} first; "
            "put the benchmark's pictures there",
            reason="image_missing",
        )
    return shown
