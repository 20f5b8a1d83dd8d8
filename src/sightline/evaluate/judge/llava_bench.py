"""LLaVA-Bench's judge: a model's answer and the reference answer, graded side by side.

Comes in: the official files of LLaVA-Bench (in the wild, or COCO) and answers. Goes out: rows of review files, as
LLaVA's eval_gpt_review_bench.py writes them, which `sightline score llava-bench` reads. The request is built as there
(haotian-liu/LLaVA c121f043): context, question, both answers, the rule of the category. The wording of the rules is
ours, unless LLaVA's own rule.json is given. Rows belong together by id; the original goes by line number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sightline.ask.question import Message, Question, Reply
from sightline.evaluate.judge.asking import Desk, Heard, Prompt, official_file
from sightline.evaluate.result_files import object_lines, refuse
from sightline.evaluate.tasks.judged import FAILED, review_scores

SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
"""The protocol's fixed system text."""
TEMPERATURE = 0.2
MAX_TOKENS = 1024
"""Both as the original has them."""
HIGHEST = 10.0
NO_SCORES = "no_scores"


class Names(NamedTuple):
    """The official files of one of the two, and what its categories begin with in the rules."""

    questions: str
    contexts: str
    reference: str
    prefix: str


WILD = Names("questions.jsonl", "context.jsonl", "answers_gpt4.jsonl", "llava_bench_")
COCO = Names("qa90_questions.jsonl", "caps_boxes_coco2014_val_80.jsonl", "qa90_gpt4_answer.jsonl", "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One question with both answers. `category` is the rule's name, the ids of answers are their files'."""

    id: Any
    category: str
    context: str
    question: str
    reference: str
    answer: str
    reference_id: Any
    answer_id: Any


def read_items(data: Path, answers: Path, names: Names) -> tuple[list[Item], list[str]]:
    """The questions that have an answer, and the ids of those that have none.

    Raises:
        DataError: a file is missing or another one, or no answer is to a question of it.
    """
    question_file, context_file = official_file(data, names.questions), official_file(data, names.contexts)
    contexts = {str(entry["image"]): _context(entry, context_file) for entry in object_lines(context_file, "image")}
    references = _answers(official_file(data, names.reference))
    given = _answers(answers)
    items, missing = [], []
    for entry in object_lines(question_file, "question_id", "image", "text", "category"):
        number, image = str(entry["question_id"]), str(entry["image"])
        if image not in contexts:
            raise refuse(context_file, f"no context of picture {image}, which question {number} is about")
        if number not in references:
            raise refuse(names.reference, f"no reference answer to question {number}")
        if number not in given:
            missing.append(number)
            continue
        reference, answer = references[number], given[number]
        items.append(
            Item(
                id=entry["question_id"],
                category=names.prefix + entry["category"],
                context=contexts[image],
                question=entry["text"],
                reference=reference["text"],
                answer=answer["text"],
                reference_id=reference.get("answer_id", entry["question_id"]),
                answer_id=answer.get("answer_id", entry["question_id"]),
            )
        )
    if not items:
        raise refuse(answers, f"no answer is to a question of {question_file}", reason="wrong_split")
    return items, missing


def _answers(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(object_lines(path, "question_id", "text"), start=1):
        if not isinstance(entry["text"], str):
            raise refuse(f"{path}: answer {number}", f"text: expected a text, found {entry['text']!r}")
        found[str(entry["question_id"])] = entry
    return found


def _context(entry: Mapping[str, Any], path: Path) -> str:
    """Captions, one to a line; of COCO's, then the boxes, `category: [x, y, w, h]` each on a line of its own."""
    captions = entry.get("caption", entry.get("captions"))
    if isinstance(captions, list):
        captions = "\n".join(captions)
    if not isinstance(captions, str):
        raise refuse(path, f"picture {entry['image']}: expected caption or captions")
    boxes = "\n".join(f"{one['category']}: {one['bbox']}" for one in entry.get("instances", ()))
    return f"{captions}\n\n{boxes}" if boxes else captions


def read_rules(prompt: Prompt) -> dict[str, dict[str, str]]:
    """Of rule.json: category -> {role, prompt}.

    Raises:
        DataError: it is no such file.
    """
    try:
        content = json.loads(prompt.text)
    except ValueError as error:
        raise refuse(prompt.source, f"not JSON ({error}); expected rules as LLaVA's rule.json has them") from error
    if not isinstance(content, dict) or not all(
        isinstance(rule, dict) and {"role", "prompt"} <= set(rule) for rule in content.values()
    ):
        raise refuse(prompt.source, "expected rules as LLaVA's rule.json has them: category -> {role, prompt}")
    return content


def request(item: Item, rule: Mapping[str, str], *, swapped: bool) -> str:
    """The text that is put to the judge. `swapped`: the model's answer stands first."""
    role = rule["role"]
    first, second = (item.answer, item.reference) if swapped else (item.reference, item.answer)
    return (
        f"[Context]\n{item.context}\n\n[Question]\n{item.question}\n\n"
        f"[{role} 1]\n{first}\n\n[End of {role} 1]\n\n[{role} 2]\n{second}\n\n[End of {role} 2]\n\n"
        f"[System]\n{rule['prompt']}\n\n"
    )


def scores_of(review: str) -> tuple[float, float]:
    """The two scores by LLaVA's rule; also failed where they are not within 0 and 10."""
    scores = review_scores(review)
    return scores if all(math.isfinite(one) and 0 <= one <= HIGHEST for one in scores) else FAILED


def usable(question: Question, reply: Reply) -> str | None:
    """Whether a reply has two scores on its first line."""
    return NO_SCORES if scores_of(reply.text) == FAILED else None


@dataclass(frozen=True)
class Reviews:
    """Of one run of the judge.

    Attributes:
        rows: of the review file.
        failed: reviews without two scores; their row has -1 and -1.
        silent: questions to which no reply came; they have no row.
        lean: points that standing first is worth, where both orders were asked: the mean of first less second.
    """

    rows: list[dict[str, Any]]
    failed: int
    silent: int
    lean: float | None


def review(
    items: Sequence[Item],
    prompt: Prompt,
    desk: Desk,
    *,
    run: int = 1,
    swap: bool = False,
    temperature: float = TEMPERATURE,
    max_tokens: int = MAX_TOKENS,
) -> Reviews:
    """Has every item reviewed, in both orders with `swap`: then its scores are the means of the two.

    Args:
        run: which of several independent reviews this is.

    Raises:
        DataError: the rules lack a category.
        TeacherError, BudgetError, StorageError: see `Desk.ask`.
    """
    rules = read_rules(prompt)
    absent = next((item.category for item in items if item.category not in rules), None)
    if absent is not None:
        raise refuse(prompt.source, f"no rule for category {absent}; it has {', '.join(rules)}")
    orders = (False, True) if swap else (False,)
    asked = {
        (place, swapped): Question.of(
            (Message("system", SYSTEM), Message("user", request(item, rules[item.category], swapped=swapped))),
            model=desk.model,
            kind=f"review-{run}{'-swapped' if swapped else ''}",
            max_tokens=max_tokens,
            temperature=temperature,
            subject=str(item.id),
            version=prompt.version,
        )
        for place, item in enumerate(items)
        for swapped in orders
    }
    heard = desk.ask(list(asked.values()), usable)
    rows, silent, leans = [], 0, []
    for place, item in enumerate(items):
        said = [heard[asked[place, swapped].key] for swapped in orders]
        if any(one.text is None for one in said):
            silent += 1
            continue
        pairs = [_pair(one, swapped) for one, swapped in zip(said, orders, strict=True)]
        rows.append(_row(place, item, said, pairs, desk.model))
        if swap and FAILED not in pairs:
            leans.append(((pairs[0][0] - pairs[0][1]) + (pairs[1][1] - pairs[1][0])) / 2)
    failed = sum(row["tuple"] == list(FAILED) for row in rows)
    return Reviews(rows, failed, silent, sum(leans) / len(leans) if leans else None)


def _pair(heard: Heard, swapped: bool) -> tuple[float, float]:
    """Scores of reference and model."""
    assert heard.text is not None
    first, second = scores_of(heard.text)
    return (second, first) if swapped else (first, second)


def _row(
    place: int, item: Item, said: Sequence[Heard], pairs: Sequence[tuple[float, float]], model: str
) -> dict[str, Any]:
    scores = list(FAILED) if FAILED in pairs else [sum(values) / len(pairs) for values in zip(*pairs, strict=True)]
    row = {
        "id": place + 1,
        "question_id": item.id,
        "answer1_id": item.reference_id,
        "answer2_id": item.answer_id,
        "category": item.category,
        "content": said[0].text,
        "tuple": scores,
        "judge": model,
    }
    return row if len(said) == 1 else row | {"content_swapped": said[1].text, "orders": [list(pair) for pair in pairs]}
