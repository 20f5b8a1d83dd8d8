"""MM-Vet's grader: how correct an answer is, from 0 to 1.

Comes in: mm-vet.json and answers. Goes out: the grade file that `sightline score mmvet` reads, as MM-Vet's evaluator
(yuweihao/MM-Vet acde843e) writes it: id -> {model, content, score}, one entry of each list for one run. A reply whose
first word is no number from 0 to 1 is asked for again, warmer each time; after five more tries the grade is 0, as
there. A question without any reply has no entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sightline.ask.question import Message, Question, Reply
from sightline.evaluate.judge.asking import Desk, Prompt
from sightline.evaluate.result_files import read_json, read_rows, refuse

TEMPERATURES = (0.0, 0.4, 0.8, 1.2, 1.6, 2.0)
"""Of the first try and the five more; the original's steps are 0.5, and its last is warmer than servers take."""
MAX_TOKENS = 64
"""The original's 3 cut a number off from a judge that says a word first; what is read is the first word alone."""
NO_GRADE = "no_grade"


class Item(NamedTuple):
    """A question with what is right and what was predicted."""

    id: str
    question: str
    truth: str
    prediction: str


def read_items(annotations: Path, answers: Path) -> tuple[list[Item], list[str]]:
    """The questions of mm-vet.json that have an answer, and the ids of those that have none.

    Raises:
        DataError: a file is missing or another one, or no answer is to a question of it.
    """
    content = read_json(annotations)
    if not isinstance(content, dict) or not all(
        isinstance(entry, dict) and {"question", "answer"} <= set(entry) for entry in content.values()
    ):
        raise refuse(annotations, "expected mm-vet.json: id -> {question, answer, capability}")
    given: dict[str, str] = {}
    for row in read_rows([answers]):
        name = str(row.fields.get("question_id", row.fields.get("id")))
        given[name if name in content else f"v1_{name}"] = row.text  # LLaVA's own answer files number them
    items = [
        Item(key, entry["question"], _spaced(entry["answer"]), given[key])
        for key, entry in content.items()
        if key in given
    ]
    if not items:
        raise refuse(answers, f"no answer is to a question of {annotations}", reason="wrong_split")
    return items, [key for key in content if key not in given]


def _spaced(answer: str) -> str:
    return answer.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")


def request(item: Item, prompt: Prompt) -> str:
    """The table of the prompt, and the item as its last line, open at the end."""
    return f"{prompt.text.rstrip()}\n{' | '.join((item.question, item.truth, item.prediction, ''))}"


def grade_of(text: str) -> float | None:
    """The first word as a number from 0 to 1; None where it is none."""
    try:
        grade = float(text.split(" ")[0].strip())
    except ValueError:
        return None
    return grade if 0 <= grade <= 1 else None


def usable(question: Question, reply: Reply) -> str | None:
    """Whether a reply begins with a grade."""
    return NO_GRADE if grade_of(reply.text) is None else None


@dataclass(frozen=True)
class Grades:
    """`entries` of the grade file; `failed`: grades that are 0 because no reply had one; `silent`:
    no reply came at all, and the item is not among the entries."""

    entries: dict[str, dict[str, list[Any]]]
    failed: int
    silent: int


def grade(items: Sequence[Item], prompt: Prompt, desk: Desk, *, runs: int = 1, max_tokens: int = MAX_TOKENS) -> Grades:
    """Has every item graded, `runs` times.

    Raises:
        TeacherError, BudgetError, StorageError: see `Desk.ask`.
    """
    entries: dict[str, dict[str, list[Any]]] = {item.id: {"model": [], "content": [], "score": []} for item in items}
    failed = silent = 0
    for run in range(1, runs + 1):
        said = _one_run(items, prompt, desk, run, max_tokens)
        for item in items:
            text, entry = said.get(item.id), entries[item.id]
            if text is None:
                silent += 1
                continue
            score = grade_of(text)
            failed += score is None
            entry["model"].append(desk.model)
            entry["content"].append(text)
            entry["score"].append(0.0 if score is None else score)
    complete = {key: entry for key, entry in entries.items() if len(entry["score"]) == runs}
    return Grades(complete, failed, silent)


def _one_run(items: Sequence[Item], prompt: Prompt, desk: Desk, run: int, max_tokens: int) -> Mapping[str, str]:
    """The reply to each item, by its id; the last one where none had a grade."""
    said: dict[str, str] = {}
    left = list(items)
    for temperature in TEMPERATURES:
        asked = {
            item.id: Question.of(
                (Message("user", request(item, prompt)),),
                model=desk.model,
                kind=f"grade-{run}",
                max_tokens=max_tokens,
                temperature=temperature,
                subject=item.id,
                version=prompt.version,
            )
            for item in left
        }
        heard = desk.ask(list(asked.values()), usable)
        for item in left:
            text = heard[asked[item.id].key].text
            if text is not None:
                said[item.id] = text
        left = [item for item in left if grade_of(said.get(item.id, "")) is None]
        if not left:
            break
    return said
