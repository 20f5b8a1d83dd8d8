"""Questions with short answers: VQAv2, OK-VQA, GQA, TextVQA, OCR-VQA.

Comes in: their official files. Goes out: dialogues that ask everything about one picture, with LLaVA-1.5's prompt for
short answers. Where LLaVA's own choice of an answer is known, the functions say so; the rest is ours, and said too.
"""

from __future__ import annotations

from collections.abc import Iterator

from sightline.convert.dialogue import (
    OCR_TOKENS,
    SHORT,
    Exchange,
    Item,
    LeftOut,
    capitalised,
    dialogue,
    majority,
    merged,
    one_line,
)
from sightline.convert.formats import Options
from sightline.convert.source import Row, Source, rows

NO_ANSWERS = frozenset({"unanswerable", "answering does not require reading text in the image"})
"""What TextVQA's annotators wrote where they had nothing to answer (its ten answers, release 0.5.1)."""

OCRVQA_SPLITS = {"train": 1, "val": 2, "test": 3}
"""OCR-VQA's `split` (its README)."""


def vqav2(source: Source, options: Options) -> Iterator[Item]:
    """VQA v2. The answer is `multiple_choice_answer`: the dataset's own majority of ten."""
    return merged(_about_coco(source, options, "v2_"), suffix=SHORT)


def okvqa(source: Source, options: Options) -> Iterator[Item]:
    """OK-VQA: the same files but for that answer, so it is the majority of the ten that its evaluation compares with.

    Which one LLaVA took is not published.
    """
    return merged(_about_coco(source, options, ""), suffix=SHORT)


def gqa(source: Source, options: Options) -> Iterator[Item]:
    """GQA's balanced questions with their short `answer`."""
    path = source.main(f"{options.split}_balanced_questions.json")
    found = (_asked(row, row.name("imageId"), options, row.text("question"), row.text("answer")) for row in rows(path))
    return merged(found, suffix=SHORT)


def textvqa(source: Source, options: Options) -> Iterator[Item]:
    """TextVQA, not in LLaVA-1.5's mixture: majority of ten, words in the picture as in LLaVA's evaluation file."""
    path = source.main(f"TextVQA_0.5.1_{options.split}.json")
    words = ocr_lines(source, options) if options.ocr else {}
    return merged(_about_text(rows(path, ["data"]), options), suffix=SHORT, notes=words)


def ocrvqa(source: Source, options: Options) -> Iterator[Item]:
    """OCR-VQA: one dialogue for each book cover."""
    for row in rows(source.main("dataset.json")):
        questions, answers = row.texts("questions"), row.texts("answers")
        if row.integer("split") != OCRVQA_SPLITS[options.split]:
            yield LeftOut(reason="other_split", place=row.place, units=len(questions))
        elif len(questions) != len(answers):
            yield LeftOut(reason="answer_count", place=row.place, units=len(questions))
        else:
            asked = [_asked(row, row.key, options, *pair) for pair in zip(questions, answers, strict=True)]
            yield from (one for one in asked if isinstance(one, LeftOut))
            exchanges = [one for one in asked if isinstance(one, Exchange)]
            if exchanges:
                yield dialogue(exchanges, suffix=SHORT)


def ocr_lines(source: Source, options: Options) -> dict[str, str]:
    """By picture: the words that Rosetta read in it, as a line of the prompt; pictures without words are not there.

    LLaVA-1.5 shows them in TextCaps' training and TextVQA's evaluation. A token is made one line: TextVQA's evaluation
    finds questions again by their line ends.
    """
    lines = {}
    for row in rows(source.file(f"TextVQA_Rosetta_OCR_v0.2_{options.split}.json"), ["data"]):
        tokens = [one_line(token) for token in row.texts("ocr_tokens")]
        if any(tokens):
            lines[row.name("image_id")] = OCR_TOKENS + ", ".join(filter(None, tokens))
    return lines


def _about_coco(source: Source, options: Options, prefix: str) -> Iterator[Exchange | LeftOut]:
    """The files of the VQA evaluation: questions, and annotations under the same ids."""
    questions = source.main(f"{prefix}OpenEnded_mscoco_{options.split}2014_questions.json")
    annotations = source.file(f"{prefix}mscoco_{options.split}2014_annotations.json")
    answers: dict[int, str | None] = {}
    for row in rows(annotations, ["annotations"]):
        answers[row.integer("question_id")] = _chosen(row)
    for row in rows(questions, ["questions"]):
        number = row.integer("question_id")
        if number not in answers:
            yield LeftOut(reason="annotation_missing", place=row.place)
            continue
        answer, answers[number] = answers[number], None
        if answer is None:
            yield LeftOut(reason="question_duplicate", place=row.place)
        else:
            yield _asked(row, row.integer("image_id"), options, row.text("question"), answer)
    unasked = [number for number, answer in answers.items() if answer is not None]
    if unasked:
        yield LeftOut(reason="question_missing", place=f"{annotations}: question {unasked[0]}", units=len(unasked))


def _chosen(annotation: Row) -> str:
    declared = one_line(annotation.optional_text("multiple_choice_answer"))
    return declared or majority([one_line(answer.text("answer")) for answer in annotation.rows("answers")])


def _about_text(found: Iterator[Row], options: Options) -> Iterator[Exchange | LeftOut]:
    for row in found:
        answer = majority([one_line(answer) for answer in row.texts("answers")])
        if answer.lower() in NO_ANSWERS:
            yield LeftOut(reason="answer_says_nothing", place=row.place)
        else:
            yield _asked(row, row.name("image_id"), options, capitalised(one_line(row.text("question"))), answer)


def _asked(row: Row, picture: str | int, options: Options, question: str, answer: str) -> Exchange | LeftOut:
    """One question about one picture; answers begin with a large letter, as in LLaVA-1.5's mixture."""
    question, answer = one_line(question), one_line(answer)
    if not question or not answer:
        return LeftOut(reason="answer_empty" if question else "question_empty", place=row.place)
    identity = f"{picture:012d}" if isinstance(picture, int) else picture
    image = options.picture(id=picture)
    return Exchange(id=identity, image=image, question=question, answer=capitalised(answer))
