"""VQAv2, OK-VQA and VizWiz: short answers that ten people gave too.

An answer is worth the mean, over the ten, of what it would be worth against the nine others: a third for each that
gives the same, at most 1 (Antol et al. 2015; GT-Vision-Lab/VQA a013f004, vqaEval.py). With 0 to 4 of ten: 0, 0.3, 0.6,
0.9, 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sightline.evaluate.normalise import n1, n1_lmms, n2, stripped
from sightline.evaluate.result_files import ID, Row, read_json, refuse
from sightline.evaluate.results import mean, percent
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_id, by_key

OFFICIAL = Rules("N1 on both sides unless the annotators agree, then literally")
LLAVA = "LLaVA's conversion (N2), then the official rules"
LMMS = Rules("N2 on both sides")


def leave_one_out(matching: int, of: int) -> float:
    """The accuracy of an answer that `matching` of `of` annotators gave: 0, 0.3, 0.6, 0.9, 1 with ten."""
    others = of - matching
    return (others * min(1.0, matching / 3) + matching * min(1.0, (matching - 1) / 3)) / of if of else 0.0


def official_accuracy(given: str, answers: Sequence[str]) -> float:
    """By the VQA evaluator. Where all annotators wrote the same, nothing is normalised: `Yes` is not `yes`."""
    answers, given = list(map(stripped, answers)), stripped(given)
    if len(set(answers)) > 1:
        answers, given = list(map(n1, answers)), n1(given)
    return leave_one_out(answers.count(given), len(answers))


def lmms_vqav2_accuracy(given: str, answers: Sequence[str]) -> float:
    """By lmms-eval for VQAv2: the given answer under N2 always, and N1 on both sides unless the annotators agree."""
    answers, given = list(map(stripped, answers)), n2(given)
    if len(set(answers)) > 1:
        answers, given = list(map(n1_lmms, answers)), n1_lmms(given)
    return leave_one_out(answers.count(given), len(answers))


def n2_accuracy(given: str, answers: Sequence[str]) -> float:
    """N2 on both sides, always: M4C's TextVQA, and lmms-eval's VizWiz and OK-VQA."""
    normalised = list(map(n2, answers))
    return leave_one_out(normalised.count(n2(given)), len(normalised))


Accuracy = Callable[[str, Sequence[str]], float]


def _converted(given: str, answers: Sequence[str]) -> float:
    return official_accuracy(n2(given), answers)


def score(
    accuracies: Mapping[str, Accuracy], questions: Sequence[Question], rows: Sequence[Row | None], protocol: str
) -> Scored:
    """Percent: overall, by question type and by answer type, where the annotations have them."""
    accuracy = accuracies[protocol]
    values: dict[str, float] = {}
    groups: dict[str, dict[str, list[float]]] = {"per_question_type": {}, "per_answer_type": {}}
    for question, row in zip(questions, rows, strict=True):
        value = accuracy(row.text if row else "", question.answers)
        values[question.id] = value
        for name, kind in zip(groups, (question.group, question.more["answer_type"]), strict=True):
            if kind:
                groups[name].setdefault(kind, []).append(value)
    figures: dict[str, Any] = {"overall": percent(mean(list(values.values())))}
    for name, kinds in groups.items():
        if kinds:
            figures[name] = {kind: percent(mean(kinds[kind])) for kind in sorted(kinds)}
    return Scored(figures, values)


def vqa_questions(paths: Sequence[Path]) -> list[Question]:
    """Reads `{annotations: [...]}`, `{questions: [...]}`, or both, as VQAv2 and OK-VQA are distributed."""
    truths: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    for path in paths:
        content = read_json(path)
        if not isinstance(content, dict) or not {"annotations", "questions"} & set(content):
            raise refuse(
                path, "expected a file of VQA with annotations or questions, such as v2_mscoco_val2014_annotations.json"
            )
        for name, found in (("annotations", truths), ("questions", asked)):
            for entry in content.get(name, ()):
                if not isinstance(entry, dict) or "question_id" not in entry:
                    raise refuse(path, f"{name}: an entry has no question_id")
                found[str(entry["question_id"])] = entry
    if truths and asked and not truths.keys() & asked.keys():
        raise refuse(paths[0], "questions and annotations have no id in common: they are of two splits")
    return [_vqa_question(key, truths.get(key, {}), asked.get(key, {})) for key in truths or asked]


def _vqa_question(key: str, truth: dict[str, Any], asked: dict[str, Any]) -> Question:
    return Question(
        id=key,
        image=str(asked.get("image_id", truth.get("image_id", ""))),
        text=str(asked.get("question", "")),
        answers=tuple(answer["answer"] for answer in truth.get("answers", ())),
        group=truth.get("question_type", ""),
        more={"answer_type": truth.get("answer_type", "")},
    )


def vizwiz_questions(paths: Sequence[Path]) -> list[Question]:
    """Reads VizWiz's val.json: a list of `{image, question, answers, answer_type, answerable}`."""
    found = []
    for path in paths:
        content = read_json(path)
        if not isinstance(content, list) or not all(isinstance(one, dict) and "image" in one for one in content):
            raise refuse(path, "expected a file of VizWiz-VQA: a list of objects with image, question, answers")
        found += [
            Question(
                id=entry["image"],
                image=entry["image"],
                text=str(entry.get("question", "")),
                answers=tuple(answer["answer"] for answer in entry.get("answers", ())),
                more={"answer_type": entry.get("answer_type", "")},
            )
            for entry in content
        ]
    return found


def _vizwiz_keys(row: Row) -> list[Hashable]:
    """A file name, or the number in it: LLaVA's question ids are that number."""
    return [_number(str(row.fields[name])) for name in ("image", "question_id", ID) if name in row.fields]


def _number(name: str) -> str:
    """`VizWiz_val_00000012.jpg` and `12` are one picture."""
    digits = re.fullmatch(r"(?:.*_)?0*(\d+)(?:\.\w+)?", name)
    return digits[1] if digits else name


VQAV2 = AnswerTask(
    name="vqav2",
    title="VQAv2",
    metric="overall",
    protocols={
        "official": OFFICIAL,
        "llava15": Rules(f"{LLAVA}; a missing answer is an empty one", missing="wrong"),
        "lmms": Rules("N2 on the answer; then N1 on both sides unless the annotators agree"),
    },
    questions=vqa_questions,
    pair=by_id("question_id"),
    score=partial(score, {"official": official_accuracy, "llava15": _converted, "lmms": lmms_vqav2_accuracy}),
)
OKVQA = AnswerTask(
    name="okvqa",
    title="OK-VQA",
    metric="overall",
    protocols={"official": OFFICIAL, "lmms": LMMS},
    questions=vqa_questions,
    pair=by_id("question_id"),
    score=partial(score, {"official": official_accuracy, "lmms": n2_accuracy}),
)
VIZWIZ = AnswerTask(
    name="vizwiz",
    title="VizWiz-VQA",
    metric="overall",
    protocols={"official": OFFICIAL, "llava15": Rules(LLAVA), "lmms": LMMS},
    questions=vizwiz_questions,
    pair=by_key(lambda question: _number(question.id), _vizwiz_keys),
    score=partial(score, {"official": official_accuracy, "llava15": _converted, "lmms": n2_accuracy}),
)
