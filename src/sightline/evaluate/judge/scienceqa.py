"""ScienceQA with the help of a text-only model: LLaVA's recipe for 92.53 (arXiv 2304.08485, table 7).

Comes in: problems.json, a model's answers, a text-only model. Goes out: three files of answers that `sightline score
scienceqa` reads: the text-only model's own; `complement`, which takes the model's answer where the text-only one gives
none; `judged`, where the text-only model, shown both answers wherever they differ, gives the final one. An answer that
the parser cannot read is a failure here; the original then drew an option by lot. The prompts are ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.ask.question import Message, Question
from sightline.evaluate.judge.asking import Desk, Prompt, anything
from sightline.evaluate.result_files import Row, refuse
from sightline.evaluate.tasks import task
from sightline.evaluate.tasks.scienceqa import FAILED, LETTERS, SCIENCEQA, llava_choice

MAX_TOKENS = 512


@dataclass(frozen=True)
class Combined:
    """Rows of the three files, and how it went.

    Attributes:
        asked_again: problems that the text-only model was shown both answers of.
        failed: of those, replies without one clear answer; the model's own answer stands.
        silent: problems that the text-only model gave no reply to at all.
    """

    text_only: list[dict[str, Any]]
    complement: list[dict[str, Any]]
    judged: list[dict[str, Any]]
    asked_again: int
    failed: int
    silent: int


def read_answers(annotations: Sequence[Path], answers: Path) -> tuple[list[task.Question], list[Row], list[str]]:
    """The problems of the test split that have an answer, their rows, and the ids of those that have none.

    Raises:
        DataError: a file is another one, or no answer is to a problem of it.
    """
    problems = SCIENCEQA.read_questions(annotations)
    paired = SCIENCEQA.pair(problems, SCIENCEQA.read([answers], answer_fields=SCIENCEQA.answer_fields))
    found = [(one, row) for one, row in zip(problems, paired.rows, strict=True) if row is not None]
    if not found:
        raise refuse(answers, "no answer is to a problem of the test split", reason="wrong_split")
    missing = [one.id for one, row in zip(problems, paired.rows, strict=True) if row is None]
    return [one for one, _ in found], [row for _, row in found], missing


def spelled(problem: task.Question) -> str:
    """A problem without its picture: context, question, options by letter."""
    context = f"Context: {problem.hint}\n" if problem.hint else ""
    options = "".join(f"\n({letter}) {text}" for letter, text in zip(LETTERS, problem.options, strict=False))
    return f"{context}Question: {problem.text}{options}"


def combine(
    problems: Sequence[task.Question], rows: Sequence[Row], prompt: Prompt, desk: Desk, *, max_tokens: int = MAX_TOKENS
) -> Combined:
    """Asks the text-only model for every problem, and again where it and the model differ.

    Raises:
        TeacherError, BudgetError, StorageError: see `Desk.ask`.
    """
    wording = read_wording(prompt)
    own = {problem.id: row.text for problem, row in zip(problems, rows, strict=True)}
    solve = {problem.id: wording["solve"].format(question=spelled(problem)) for problem in problems}
    said = _asked(problems, solve, "solve", prompt, desk, max_tokens)
    choices = {problem.id: len(problem.options) for problem in problems}
    text_choice = {key: llava_choice(said.get(key, ""), count) for key, count in choices.items()}
    own_choice = {key: llava_choice(own[key], count) for key, count in choices.items()}
    apart = [one for one in problems if text_choice[one.id] not in (FAILED, own_choice[one.id])]
    judge = {
        one.id: wording["judge"].format(question=spelled(one), first=own[one.id], second=said[one.id]) for one in apart
    }
    final = _asked(apart, judge, "judge", prompt, desk, max_tokens)
    settled = {key: text for key, text in final.items() if llava_choice(text, choices[key]) != FAILED}
    complement = {key: own[key] if text_choice[key] == FAILED else said[key] for key in own}
    by_id = {problem.id: row for problem, row in zip(problems, rows, strict=True)}

    def written(texts: Mapping[str, str]) -> list[dict[str, Any]]:
        return [_row(key, text, by_id[key], desk.model) for key, text in texts.items()]

    return Combined(
        text_only=written({key: said.get(key, "") for key in own}),
        complement=written(complement),
        judged=written(own | settled),
        asked_again=len(apart),
        failed=len(apart) - len(settled),
        silent=len(problems) - len(said),
    )


def read_wording(prompt: Prompt) -> dict[str, str]:
    """The two prompts: `solve` with {question}; `judge` with {question}, {first} and {second}.

    Raises:
        DataError: they are not there.
    """
    try:
        content = json.loads(prompt.text)
        content["solve"].format(question="")
        content["judge"].format(question="", first="", second="")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise refuse(
            prompt.source, "expected {solve: text with {question}, judge: text with {question}, {first}, {second}}"
        ) from error
    return {name: str(content[name]) for name in ("solve", "judge")}


def _asked(
    problems: Sequence[task.Question],
    texts: Mapping[str, str],
    kind: str,
    prompt: Prompt,
    desk: Desk,
    max_tokens: int,
) -> dict[str, str]:
    """The replies that came, by problem."""
    asked = {
        problem.id: Question.of(
            (Message("user", texts[problem.id]),),
            model=desk.model,
            kind=kind,
            max_tokens=max_tokens,
            subject=problem.id,
            version=prompt.version,
        )
        for problem in problems
    }
    heard = desk.ask(list(asked.values()), anything)
    said = {key: heard[question.key].text for key, question in asked.items()}
    return {key: text for key, text in said.items() if text is not None}


def _row(key: str, text: str, row: Row, model: str) -> dict[str, Any]:
    """A row of LLaVA's answer file; the recorded prompt goes on, because `llava15` finds IMG by it."""
    prompt = {"prompt": row.fields["prompt"]} if "prompt" in row.fields else {}
    return {"question_id": key, **prompt, "text": text, "model_id": model, "metadata": {}}
