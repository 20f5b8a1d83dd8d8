"""MME: two yes/no questions to each picture of 14 categories (BradyFU, eval_tool/calculation.py).

A category's score is 100 times (share of right answers + share of pictures with both right). Questions are paired by
picture; the original takes consecutive lines for pairs, and positions for labels.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sightline.evaluate.leanings import yes_no
from sightline.evaluate.result_files import ID, Row, read_rows, read_text, refuse
from sightline.evaluate.results import ratio
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_key

PERCEPTION = (
    *("existence", "count", "position", "color", "posters"),
    *("celebrity", "scene", "landmark", "artwork", "OCR"),
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_ENDINGS = re.compile(r"(?:\s*(?:Please answer yes or no\.|Answer the question using a single word or phrase\.))+\s*$")

Key = tuple[str, str, str]


def official_answer(text: str) -> str:
    """yes, no or other: of the lower-cased answer, or else of its first four characters; `know` is a no."""
    text = text.lower()
    if text in ("yes", "no"):
        return text
    return "yes" if "yes" in text[:4] else "no" if "no" in text[:4] else "other"


def lmms_answer(text: str) -> str:
    """As lmms-eval: without blanks around and without periods; `y` and `n` count."""
    text = text.lower().strip().replace(".", "")
    return {"y": "yes", "n": "no"}.get(text, official_answer(text))


def key_of(category: str, image: str, question: str) -> Key:
    """What tells questions apart: category, the picture's name without its ending, the question without its suffix."""
    return category, PurePosixPath(image.replace("\\", "/")).stem, _ENDINGS.sub("", question).strip()


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads eval_tool's <category>.txt, lines of picture, question and Yes or No; or the benchmark's own folders,

    in which each picture has a text file of two lines, question and Yes or No.
    """
    found = [_question(*entry) for path in paths for entry in _entries(path)]
    if not found:
        raise refuse(
            ", ".join(map(str, paths)), "no questions of MME in it; expected <category>.txt of eval_tool/Your_Results"
        )
    pairs: dict[tuple[str, str], int] = {}
    for question in found:
        pairs[question.group, question.image] = pairs.get((question.group, question.image), 0) + 1
    odd = next((place for place, count in pairs.items() if count != 2), None)
    if odd is not None:
        raise refuse(
            ", ".join(map(str, paths)), f"{odd[0]}: picture {odd[1]} has {pairs[odd]} questions; MME asks two of each"
        )
    return found


def _entries(path: Path) -> Iterable[tuple[str, str, str, str]]:
    """Category, picture, question, answer of each line of a file."""
    category = path.stem
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        parts = line.rstrip("\r").split("\t")
        if len(parts) == 2:  # <category>/<picture>.txt or <category>/questions_answers_YN/<picture>.txt
            folder = path.parent.parent if path.parent.name == "questions_answers_YN" else path.parent
            category, parts = folder.name, [path.stem, *parts]
        if len(parts) not in (3, 4) or parts[2].strip().lower() not in ("yes", "no"):
            raise refuse(f"{path}:{number}", "expected picture, question and Yes or No, parted by tabs")
        yield category, parts[0], parts[1], parts[2].strip()


def _question(category: str, image: str, text: str, answer: str) -> Question:
    key = key_of(category, image, text)
    return Question(
        id="/".join(key), image=f"{category}/{image}", text=text, answers=(answer,), group=category, more={"key": key}
    )


def read(paths: Sequence[Path], *, answer_fields: Sequence[str]) -> list[Row]:
    """LLaVA's answer file, `{id: answer}`, or the official folder of <category>.txt with a fourth column."""
    tables = [path for path in paths if path.suffix == ".txt"]
    rows = [row for path in tables for row in _table(path)]
    others = [path for path in paths if path.suffix != ".txt"]
    if others:
        rows += read_rows(others, answer_fields=answer_fields)
    if not rows:
        raise refuse(", ".join(map(str, paths)), "no answers in it", reason="no_answers")
    return rows


def _table(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        parts = line.rstrip("\r").split("\t")
        if len(parts) != 4:
            raise refuse(
                f"{path}:{number}",
                f"expected picture, question, label and answer parted by tabs, found {len(parts)} parts; an answer "
                "with a tab or a newline breaks this format: score the JSON lines instead",
            )
        fields = {"category": path.stem, "image": parts[0], "question": parts[1], "label": parts[2]}
        rows.append(Row(parts[3], fields, f"{path}:{number}"))
    return rows


def _row_keys(row: Row) -> list[Hashable]:
    """LLaVA's `question_id` is `category/picture`; what was asked stands in `prompt`."""
    fields = row.fields
    if ID in fields and len(fields) == 1:
        return [fields[ID]]
    where, asked = str(fields.get("question_id", "")), str(fields.get("question", fields.get("prompt", "")))
    category, _, image = where.partition("/")
    return ["/".join(key_of(str(fields.get("category", category)), str(fields.get("image", image)), asked))]


def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """Perception and cognition, and of each category what the official tool computes."""
    parse = lmms_answer if protocol == "lmms" else official_answer
    said: dict[str, list[tuple[str, str, str]]] = {}
    values: dict[str, float] = {}
    for question, row in zip(asked, rows, strict=True):
        assert row is not None
        answer, label = parse(row.text), question.answers[0].lower()
        said.setdefault(question.group, []).append((question.image, answer, label))
        values[question.id] = float(answer == label)
    categories = {name: category_figures(said[name]) for name in sorted(said, key=_rank)}
    sums = {}
    for name, group in (("perception", PERCEPTION), ("cognition", COGNITION)):
        scores = [categories[category]["score"] for category in group if category in categories]
        sums[name] = sum(scores) if scores else None
    absent = [name for name in PERCEPTION + COGNITION if name not in categories]
    notes = (f"the sums are without {', '.join(absent)}",) if absent else ()
    other = sum(figures["other"] for figures in categories.values())
    leanings = yes_no((answer, label) for pairs in said.values() for _, answer, label in pairs)
    return Scored({**sums, "categories": categories}, values, other, notes, leanings)


def _rank(category: str) -> tuple[int, str]:
    order = PERCEPTION + COGNITION
    return (order.index(category) if category in order else len(order), category)


def category_figures(said: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Of picture, answer and label. Precision and recall are over answers that are yes or no, and 0 of nothing."""
    both: dict[str, bool] = {}
    for image, answer, label in said:
        both[image] = both.get(image, True) and answer == label
    accuracy = sum(answer == label for _, answer, label in said) / len(said)
    plus = sum(both.values()) / len(both)
    clean = [(answer, label) for _, answer, label in said if answer != "other"]
    tp, fn = clean.count(("yes", "yes")), clean.count(("no", "yes"))
    tn, fp = clean.count(("no", "no")), clean.count(("yes", "no"))
    return {
        "score": 100 * (accuracy + plus),
        "accuracy": accuracy,
        "accuracy_plus": plus,
        "images": len(both),
        "questions": len(said),
        "precision": ratio(tp, tp + fp) or 0.0,
        "recall": ratio(tp, tp + fn) or 0.0,
        "tp": tp,
        "fn": fn,
        "tn": tn,
        "fp": fp,
        "other": len(said) - len(clean),
    }


MME = AnswerTask(
    name="mme",
    title="MME",
    metric="perception",
    protocols={
        "official": Rules("yes or no in the first four characters of the answer"),
        "llava15": Rules("as official"),
        "lmms": Rules("as official, but blanks and periods go first, and y and n count"),
    },
    questions=questions,
    pair=by_key(lambda question: question.id, _row_keys),
    score=score,
    read=read,
    decimals=4,
)
