"""Captions: COCO and TextCaps, by coco-caption's metrics on PTB words.

Figures are as coco-caption prints them: CIDEr-D is not a percentage. METEOR is None: its program is in Java and its
tables are not ours to carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.evaluate.caption_metrics import bleu, cider_d, rouge_l
from sightline.evaluate.ptb import tokenise
from sightline.evaluate.result_files import Row, read_json, refuse
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_id

NOTE = "METEOR is not computed: the official figure needs a Java program and its tables"


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads COCO's captions_*.json, `{annotations: [{image_id, caption}]}`, or TextCaps_0.1_*.json, `{data: [...]}`.

    TextCaps has all captions of a picture as `reference_strs`, and repeats the picture for each of them.
    """
    found: dict[str, list[str]] = {}
    whole: set[str] = set()
    for path in paths:
        content = read_json(path)
        entries = content.get("annotations", content.get("data")) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) and "image_id" in e for e in entries):
            raise refuse(
                path, "expected captions: {annotations: [{image_id, caption}]} of COCO, or {data: [...]} of TextCaps"
            )
        for entry in entries:
            image = str(entry["image_id"])
            if entry.get("reference_strs"):
                found[image] = list(entry["reference_strs"])
                whole.add(image)
            elif image not in whole:
                caption = entry.get("caption", entry.get("caption_str"))
                found.setdefault(image, []).extend([caption] if isinstance(caption, str) else [])
    return [Question(id=image, image=image, answers=tuple(captions)) for image, captions in found.items()]


def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """CIDEr, BLEU and ROUGE-L, the frequencies being those of the references of the pictures that are scored."""
    assert all(row is not None for row in rows)
    captions = tokenise([row.text for row in rows if row is not None])
    parted = iter(tokenise([reference for question in asked for reference in question.answers]))
    references = [[next(parted) for _ in question.answers] for question in asked]
    cider, rouge = cider_d(captions, references), rouge_l(captions, references)
    figures: dict[str, Any] = {"CIDEr": cider.overall}
    figures |= {f"Bleu_{n}": metric.overall for n, metric in enumerate(bleu(captions, references), start=1)}
    figures |= {"ROUGE_L": rouge.overall, "METEOR": None}
    values = {question.id: value for question, value in zip(asked, cider.each, strict=True)}
    return Scored(figures, values, notes=(NOTE,))


def _task(name: str, title: str) -> AnswerTask:
    return AnswerTask(
        name=name,
        title=title,
        metric="CIDEr",
        protocols={
            "official": Rules("coco-caption's CIDEr-D, BLEU and ROUGE-L on PTB words"),
            "lmms": Rules("as official"),
        },
        questions=questions,
        pair=by_id("image_id", "question_id"),
        score=score,
        answer_fields=("caption", "text", "prediction", "answer"),
        decimals=4,
    )


COCO_CAPTION = _task("coco-caption", "COCO Captions")
TEXTCAPS = _task("textcaps", "TextCaps")
