"""What the benchmarks' servers take: files to upload, made from answers.

Comes in: a benchmark's questions and their answers. Goes out: a file in the server's format, with LLaVA-1.5's
conversion of the answers (haotian-liu/LLaVA c121f043, scripts/convert_*.py). Uploads nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.atomic import write_atomic
from sightline.evaluate.asks import number
from sightline.evaluate.exam import Exam
from sightline.evaluate.normalise import n2
from sightline.evaluate.prompts import LETTERS
from sightline.evaluate.result_files import read_json, read_table
from sightline.evaluate.tasks.gqa import converted
from sightline.evaluate.tasks.mmmu import CHOICE, choice
from sightline.evaluate.tasks.task import Question

Said = Sequence[tuple[Question, str]]
"""Questions with their answers; those without one are not in it."""
SHEET = ("index", "question", "A", "B", "C", "D", "prediction", "answer", "split")
"""Columns of MMBench's upload. LLaVA drops hint, category, source, image, comment and l2-category, and puts the
prediction behind the options."""


def write_submission(exam: Exam, answers: Mapping[int, str], folder: Path) -> list[str]:
    """Writes the upload of a benchmark that has a server, beside the answers.

    Returns:
        What the user should know, one line each: which file is to be uploaded where.
    """
    if exam.task not in SUBMISSIONS:
        return []
    said = [(question, answers[at]) for at, question in enumerate(exam.questions) if at in answers]
    return SUBMISSIONS[exam.task](exam, said, folder)


def _json(folder: Path, name: str, content: Any, where: str) -> list[str]:
    path = folder / name
    write_atomic(path, json.dumps(content, ensure_ascii=False))
    return [f"{path}: {where}"]


def _vqav2(exam: Exam, said: Said, folder: Path) -> list[str]:
    """EvalAI takes answers to all of test2015: those that were not asked (test-dev is a part of it) are empty."""
    given = {question.id: n2(text) for question, text in said}
    ids = [question.id for question in exam.questions]
    whole = next((path for path in exam.beside if "test2015" in path.name), None)
    if whole is not None:
        ids = [str(entry["question_id"]) for entry in read_json(whole)["questions"]]
    rows = [{"question_id": number(name), "answer": given.get(name, "")} for name in ids]
    return _json(folder, "vqav2_upload.json", rows, "for EvalAI's challenge 830")


def _vizwiz(exam: Exam, said: Said, folder: Path) -> list[str]:
    rows = [{"image": question.image, "answer": n2(text)} for question, text in said]
    return _json(folder, "vizwiz_upload.json", rows, "for EvalAI's challenge 2185")


def _gqa(exam: Exam, said: Said, folder: Path) -> list[str]:
    rows = [{"questionId": question.id, "prediction": converted(text)} for question, text in said]
    return _json(folder, "gqa_predictions.json", rows, "for GQA's eval.py, or its server")


def _mmvet(exam: Exam, said: Said, folder: Path) -> list[str]:
    rows = {question.id: text for question, text in said}
    return _json(folder, "mmvet_upload.json", rows, "for MM-Vet's grader")


def _caption(exam: Exam, said: Said, folder: Path) -> list[str]:
    rows = [{"image_id": number(question.id), "caption": text} for question, text in said]
    return _json(folder, "captions_results.json", rows, "for coco-caption, or COCO's server")


def _seedbench(exam: Exam, said: Said, folder: Path) -> list[str]:
    rows = [{"question_id": number(question.id), "prediction": text} for question, text in said]
    path = folder / "seedbench_upload.jsonl"
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return [f"{path}: for SEED-Bench's leaderboard"]


def _mmmu(exam: Exam, said: Said, folder: Path) -> list[str]:
    """Letters, as the official parser reads them; where it reads none, and would draw one, there is none."""
    rows = {}
    for question, text in said:
        options = dict(zip(LETTERS, question.options, strict=False))
        rows[question.id] = (choice(text, options) or "") if question.more["type"] == CHOICE else text
    return _json(folder, "mmmu_upload.json", rows, "for MMMU's main_eval_only.py, or its server")


def _mmbench(exam: Exam, said: Said, folder: Path) -> list[str]:
    """An xlsx sheet where openpyxl is installed; otherwise the same table as TSV."""
    given = {question.id: text for question, text in said}
    cells = [row for path in exam.files for row in read_table(path) if row["index"] in given]
    columns = [name for name in SHEET if name == "prediction" or (cells and name in cells[0])]
    rows = [[(row | {"prediction": given[row["index"]]})[name] for name in columns] for row in cells]
    try:
        import openpyxl
    except ImportError:
        path = folder / "mmbench_upload.tsv"
        table = io.StringIO()
        csv.writer(table, delimiter="\t", lineterminator="\n").writerows([columns, *rows])
        write_atomic(path, table.getvalue())
        return [f"{path}: MMBench's server takes xlsx; with pip install 'sightline[sheets]' it is written as one"]
    book = openpyxl.Workbook()
    for row in [columns, *rows]:
        book.active.append([_cell(name, value) for name, value in zip(columns, row, strict=True)])
    file = io.BytesIO()
    book.save(file)
    write_atomic(folder / "mmbench_upload.xlsx", file.getvalue())
    return [f"{folder / 'mmbench_upload.xlsx'}: for MMBench's server"]


def _cell(name: str, value: str) -> str | int:
    """An index is a number; no text becomes a formula, or holds what XML cannot."""
    if name == "index" and value.isdigit():
        return int(value)
    clean = "".join(letter for letter in value if letter in "\t\n\r" or letter >= " ")
    return f" {clean}" if clean.startswith("=") else clean


SUBMISSIONS: dict[str, Callable[[Exam, Said, Path], list[str]]] = {
    "vqav2": _vqav2,
    "vizwiz": _vizwiz,
    "gqa": _gqa,
    "mmvet": _mmvet,
    "mmmu": _mmmu,
    "mmbench": _mmbench,
    "mmbench-cn": _mmbench,
    "seedbench": _seedbench,
    "coco-caption": _caption,
    "textcaps": _caption,
}
