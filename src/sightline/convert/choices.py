"""Questions with options to choose from: A-OKVQA and ScienceQA.

Comes in: their official files. Goes out: dialogues with LLaVA's prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from string import ascii_uppercase

from sightline.convert.dialogue import (
    LETTER,
    SHORT,
    Dialogue,
    Exchange,
    Item,
    LeftOut,
    capitalised,
    majority,
    merged,
    one_line,
)
from sightline.convert.formats import Options
from sightline.convert.source import Row, Source, rows
from sightline.data.members import read_members
from sightline.errors import DataError


def aokvqa(source: Source, options: Options) -> Iterator[Item]:
    """A-OKVQA: options to choose from, as in LLaVA-1.5's mixture, direct answers, or both.

    LLaVA asks each question as often as it has options (arXiv 2310.03744, A.2). Here each copy turns the options by one
    place, so that every letter is right once; how LLaVA orders them is not published. Its 66,160 samples are four for
    each of 16,540 pictures: copies are dialogues of their own, not further questions of one.
    With both, each question counts twice.
    """
    found = list(rows(source.main(f"aokvqa_v1p0_{options.split}.json")))
    if options.answers in ("choice", "both"):
        copies = max((len(row.texts("choices")) for row in found), default=0)
        for turn in range(copies):
            for item in merged((_choice(row, options, turn) for row in found), suffix=LETTER):
                if turn == 0:
                    yield item
                elif isinstance(item, Dialogue):
                    yield replace(item, units=0)
    if options.answers in ("direct", "both"):
        yield from merged((_direct(row, options) for row in found), suffix=SHORT)


def scienceqa(source: Source, options: Options) -> Iterator[Item]:
    """ScienceQA in the order of `pid_splits.json`, one problem a dialogue, with or without a picture.

    - `QCM-A`, `QCM-LEA`: LLaVA's scripts/convert_sqa_to_llava.py: question, context ("N/A" without a hint), options in
      brackets; the answer is a sentence, after lecture and explanation with LEA.
    - `CQM-A`: LLaVA-1.5's evaluation file: the hint if there is one, the question, an option a line; the answer is its
      letter.
    """
    path = source.file("pid_splits.json")
    wanted = next((value for _, key, _, value in read_members(path) if key == options.split), None)
    if not isinstance(wanted, list):
        raise DataError(f"{path}: found no list under {options.split!r}; check the file", reason="json_key_missing")
    problems = {row.key: row for row in rows(source.main("problems.json"))}
    for number in map(str, wanted):
        row = problems.get(number)
        yield _problem(row, options) if row else LeftOut(reason="problem_missing", place=f"{path}: {number}")


def _choice(row: Row, options: Options, turn: int) -> Exchange | LeftOut:
    choices = [one_line(choice) for choice in row.texts("choices")]
    question, right = one_line(row.text("question")), row.integer("correct_choice_idx")
    reason = _unusable(question, choices, right)
    if reason:
        return LeftOut(reason=reason, place=row.place)
    # A question with fewer options than others starts again: its copies must not be fewer in the merged dialogue.
    places = [(number + turn) % len(choices) for number in range(len(choices))]
    asked = "\n".join([question, *_lettered([choices[place] for place in places])])
    return _exchange(row, options, asked, ascii_uppercase[places.index(right)])


def _direct(row: Row, options: Options) -> Exchange | LeftOut:
    """The majority of the ten direct answers."""
    question, answers = one_line(row.text("question")), [one_line(answer) for answer in row.texts("direct_answers")]
    answer = majority(answers)
    if not question or not answer:
        return LeftOut(reason="answer_empty" if question else "question_empty", place=row.place)
    return _exchange(row, options, question, capitalised(answer))


def _exchange(row: Row, options: Options, question: str, answer: str) -> Exchange:
    number = row.integer("image_id")
    return Exchange(id=f"{number:012d}", image=options.picture(id=number), question=question, answer=answer)


def _problem(row: Row, options: Options) -> Item:
    question, choices = row.text("question").strip(), [one_line(choice) for choice in row.texts("choices")]
    right, image = row.integer("answer"), row.optional_text("image")
    reason = _unusable(question, choices, right)
    if reason:
        return LeftOut(reason=reason, place=row.place)
    hint = row.optional_text("hint").strip()
    if options.prompt == "CQM-A":
        context = [f"Context: {hint}"] if hint else []
        asked, answer = "\n".join([*context, question, *_lettered(choices)]) + LETTER, ascii_uppercase[right]
    else:
        bracketed = " ".join(f"({ascii_uppercase[number]}) {choice}" for number, choice in enumerate(choices))
        asked = _single_blanks(f"{question}\nContext: {hint or 'N/A'}\nOptions: {bracketed}")
        reasons = [row.optional_text("lecture"), row.optional_text("solution")] if options.prompt == "QCM-LEA" else []
        answer = _single_blanks(" ".join([*reasons, f"The answer is {ascii_uppercase[right]}."]))
    picture = options.picture(id=row.key, name=image) if image else None
    return Dialogue(id=row.key, image=picture, turns=((asked, answer),), units=1)


def _unusable(question: str, choices: Sequence[str], right: int) -> str | None:
    """The reason why a question cannot be asked, or None."""
    if not question:
        return "question_empty"
    if len(choices) < 2 or not all(choices):
        return "choice_empty"
    return None if 0 <= right < len(choices) else "answer_not_a_choice"


def _lettered(choices: Sequence[str]) -> list[str]:
    return [f"{ascii_uppercase[number]}. {choice}" for number, choice in enumerate(choices)]


def _single_blanks(text: str) -> str:
    """Two blanks become one, once over, as LLaVA's script has it; a literal backslash and n becomes a line end."""
    return text.replace("\\n", "\n").replace("  ", " ").strip()
