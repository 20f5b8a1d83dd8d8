"""ScienceQA with a text-only model: complement and judge."""

from __future__ import annotations

import json
from pathlib import Path

from sightline.ask.question import Question
from sightline.evaluate.judge.asking import prompt_file
from sightline.evaluate.judge.scienceqa import combine, read_answers
from sightline.evaluate.score import score_files
from tests.evaluate.judge.helpers import desk, lines

PROMPT = prompt_file("scienceqa.json", None)
OWN = {"1": "B", "2": "A", "3": "A", "4": "B"}
"""The model is right on 1 and 3; the right answer is always that of `TRUTH`."""
TRUTH = {"1": 1, "2": 1, "3": 0, "4": 0}


def says(shown: str, asked: Question) -> str:
    """Alone it fails on 1, is right on 2 and 4, wrong on 3; as a judge it is right, but unclear on 4."""
    number = asked.subject
    if asked.kind == "solve":
        return {"1": "I cannot see the picture.", "2": "So. The answer is B.\n", "3": "The answer is B.\n",
                "4": "The answer is A.\n"}[number]  # fmt: skip
    assert OWN[number] in shown
    return {"2": "The answer is B.\n", "3": "The answer is A.\n", "4": "Either is fine."}[number]


def files(folder: Path) -> tuple[list[Path], Path]:
    problem = {"choices": ["yes", "no"], "hint": "Mind.", "image": None, "grade": "grade 3", "subject": "x"}
    problems = {key: {**problem, "question": f"Problem {key}?", "answer": answer} for key, answer in TRUTH.items()}
    (folder / "problems.json").write_text(json.dumps(problems))
    rows = ({"question_id": key, "prompt": "<image>\nP", "text": text} for key, text in OWN.items())
    return [folder / "problems.json"], lines(folder / "answers.jsonl", rows)


def test_complement_and_judge_take_the_answer_that_the_recipe_takes(tmp_path: Path) -> None:
    annotations, answers = files(tmp_path)
    problems, rows, missing = read_answers(annotations, answers)
    judge = desk(tmp_path / "run", says)
    found = combine(problems, rows, PROMPT, judge)
    texts = {name: {row["question_id"]: row["text"] for row in getattr(found, name)} for name in
             ("text_only", "complement", "judged")}  # fmt: skip
    assert missing == []
    assert texts["complement"]["1"] == "B", "the text-only model failed: the model's own answer"
    assert texts["complement"]["3"] == "The answer is B.\n"
    assert texts["judged"] == {"1": "B", "2": "The answer is B.\n", "3": "The answer is A.\n", "4": "B"}
    assert (found.asked_again, found.failed, found.silent) == (3, 1, 0)
    assert len(judge.teacher.calls) == 4 + 3  # type: ignore[attr-defined]
    figures = {}
    for name, kept in (
        ("own", None),
        ("text_only", found.text_only),
        ("complement", found.complement),
        ("judged", found.judged),
    ):
        path = answers if kept is None else lines(tmp_path / f"{name}.jsonl", kept)
        figures[name] = score_files("scienceqa", [path], annotations, protocol="llava15").figures
    assert [figures[name]["accuracy"] for name in figures] == [50.0, 50.0, 75.0, 75.0]
    assert figures["judged"]["IMG"] == 75.0, "the recorded prompts are kept"
