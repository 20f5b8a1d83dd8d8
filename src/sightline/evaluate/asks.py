"""How each benchmark is asked: its files, its prompts, its pictures, the rows of its answers.

One entry to a benchmark. Rows are in LLaVA's answer format, so that its scripts, ours and the benchmarks' servers can
go on from there. Knows no model.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sightline.evaluate import prompts
from sightline.evaluate.official_files import Wanted, category_names, picture_names
from sightline.evaluate.result_files import numbered_lines, read_json, read_table, read_text, refuse
from sightline.evaluate.tasks.mmmu_table import mmmu_pictures
from sightline.evaluate.tasks.pope import FIRST_IDS
from sightline.evaluate.tasks.task import Question

LONG = 1024
"""New tokens at most in LLaVA-1.5's model_vqa.py and its kin; the loader for short answers has `FEW`."""
FEW = 128

Prompt = Callable[[Question], str]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One benchmark.

    Attributes:
        wanted: its files.
        prompt: of a question.
        prompter: makes `prompt`, where that needs further files.
        recorded: the prompt as the row has it, where that is another.
        row: the row's id, and what else stands in it.
        names: under which names a question's picture may lie.
        pictures: finds the pictures of each id in the questions' files instead.
        marked: the words name the places of the pictures (`answering.Asked`).
        read: reads the questions, where no scorer does.
    """

    wanted: Wanted
    prompt: Prompt = prompts.short
    prompter: Callable[[Sequence[Path]], Prompt] | None = None
    recorded: Prompt | None = None
    row: Callable[[Question], Row] = lambda question: {"question_id": number(question.id)}
    names: Callable[[Question], list[str]] = lambda question: picture_names(question.image)
    pictures: Callable[[Sequence[Path]], Mapping[str, tuple[bytes, ...]]] | None = None
    marked: bool = False
    read: Callable[[Sequence[Path]], list[Question]] | None = None
    max_new_tokens: int = FEW


def number(text: str) -> int | str:
    """Ids that are numbers are numbers in the files, too: SEED-Bench's scorer insists on it."""
    return int(text) if text.isascii() and text.isdigit() and str(int(text)) == text else text


def _ocr_prompter(hints: Sequence[Path]) -> Prompt:
    """TextVQA's, with the tokens of Rosetta where its file is there."""
    if not hints:
        return partial(prompts.textvqa, tokens=None)
    tokens: dict[str, list[str]] = {}
    for path in hints:
        content = read_json(path)
        entries = content.get("data") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all({"image_id", "ocr_tokens"} <= set(entry) for entry in entries):
            raise refuse(path, "expected TextVQA's OCR tokens: {data: [{image_id, ocr_tokens}]}")
        tokens |= {str(entry["image_id"]): [str(token) for token in entry["ocr_tokens"]] for entry in entries}
    return lambda question: prompts.textvqa(question, tokens.get(question.image, ()))


def _mmbench_pictures(paths: Sequence[Path]) -> dict[str, tuple[bytes, ...]]:
    """The base64 of each row; a cell with a number in it means the picture of the row of that index."""
    cells = {row["index"]: row.get("image", "") for path in paths for row in read_table(path)}
    found = {}
    for index, cell in cells.items():
        content = cells.get(cell, cell) if cell.isdigit() else cell
        try:
            found[index] = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError) as error:
            raise refuse(paths[0], f"index {index}: its image is not base64 ({error})") from error
    return {index: (content,) for index, content in found.items() if content}


def _pope_row(question: Question) -> Row:
    """LLaVA's id where there is one; the sets of one's own keep theirs."""
    own, llava = question.more["number"], question.more["llava"]
    if llava is None and question.group in FIRST_IDS and str(own).isdigit():
        llava = FIRST_IDS[question.group] + int(own)
    return {"question_id": question.id if llava is None else llava}


def _science_row(question: Question) -> Row:
    return {"question_id": question.id}


def _science_recorded(question: Question) -> str:
    return ("<image>\n" if question.image else "") + prompts.scienceqa(question)


def _seed_names(question: Question) -> list[str]:
    """Of a video its middle frame, in SEED-Bench-video-image under the question's id or the video's name."""
    if question.more["data_type"] != "video":
        return picture_names(question.image)
    stem = Path(question.image).stem
    return [f"SEED-Bench-video-image/{name}" for one in (question.id, stem) for name in (f"{one}.png", f"{one}.jpg")]


def _bench_questions(paths: Sequence[Path]) -> list[Question]:
    """LLaVA-Bench's questions.jsonl: question_id, image, text, category."""
    found = []
    for path in paths:
        entries = [entry for _, entry in numbered_lines(read_text(path), path)]
        if not all(isinstance(entry, dict) and {"question_id", "image", "text"} <= set(entry) for entry in entries):
            raise refuse(path, "expected questions of LLaVA-Bench: lines with question_id, image, text, category")
        found += [
            Question(
                id=str(entry["question_id"]), image=entry["image"], text=entry["text"], group=entry.get("category", "")
            )
            for entry in entries
        ]
    return found


def _vet_questions(paths: Sequence[Path]) -> list[Question]:
    """MM-Vet's mm-vet.json: id -> imagename, question, answer, capability."""
    content = read_json(paths[0])
    if not isinstance(content, dict) or not all(
        isinstance(entry, dict) and {"imagename", "question"} <= set(entry) for entry in content.values()
    ):
        raise refuse(paths[0], "expected mm-vet.json: id -> imagename, question, answer, capability")
    return [
        Question(
            id=key,
            image=entry["imagename"],
            text=entry["question"],
            group=", ".join(sorted(entry.get("capability", ()))),
        )
        for key, entry in content.items()
    ]


def _own_row(question: Question) -> Row:
    """Ids of ours are texts."""
    return {"question_id": question.id}


_CATEGORIES = (
    "existence|count|position|color|posters|celebrity|scene|landmark|artwork|OCR|commonsense_reasoning|"
    "numerical_calculation|text_translation|code_reasoning"
)
_CAPTION = Ask(
    wanted=Wanted((r"captions_(\w+)\.json",), "captions_val2014.json"),
    prompt=prompts.caption,
    row=lambda question: {"question_id": number(question.id), "image_id": number(question.id)},
)
_MMBENCH = Ask(
    wanted=Wanted((r"mmbench_(?:dev|test)_(?:en_)?\d+\.tsv",), "mmbench_dev_20230712.tsv"),
    prompt=prompts.mmbench,
    recorded=prompts.mmbench_question,
    pictures=_mmbench_pictures,
    max_new_tokens=LONG,
)

ASKS: dict[str, Ask] = {
    "vqav2": Ask(
        wanted=Wanted(
            (r"v2_OpenEnded_mscoco_(\w+(?:-\w+)?)_questions\.json",),
            "v2_OpenEnded_mscoco_val2014_questions.json",
            truths=(r"v2_mscoco_\1_annotations.json",),
        )
    ),
    "okvqa": Ask(
        wanted=Wanted(
            (r"OpenEnded_mscoco_(\w+)_questions\.json",),
            "OpenEnded_mscoco_val2014_questions.json",
            truths=(r"mscoco_\1_annotations.json",),
        )
    ),
    "gqa": Ask(
        wanted=Wanted(
            (r"((\w+?)(?:_balanced|_all)?)_questions\.json",),
            "testdev_balanced_questions.json",
            truths=(r"\2_choices.json",),
        ),
        row=lambda question: {"question_id": question.id},
    ),
    "vizwiz": Ask(
        wanted=Wanted((r"(?:train|val|test)\.json",), "val.json"),
        prompt=prompts.vizwiz,
        row=lambda question: {"question_id": question.id},
    ),
    "textvqa": Ask(
        wanted=Wanted(
            (r"TextVQA_0\.5\.1_(\w+)\.json",),
            "TextVQA_0.5.1_val.json",
            hints=(r"TextVQA_Rosetta_OCR_v0.2_\1.json",),
        ),
        prompter=_ocr_prompter,
        row=lambda question: {"question_id": question.image},
    ),
    "scienceqa": Ask(
        wanted=Wanted((r"problems\.json",), "problems.json", truths=("pid_splits.json",)),
        prompt=prompts.scienceqa,
        recorded=_science_recorded,
        row=_science_row,
        max_new_tokens=LONG,
    ),
    "pope": Ask(
        wanted=Wanted(
            (r"\w*pope_\w+\.json",), "coco_pope_random.json", truths=("llava_pope_test.jsonl",), several=True
        ),
        row=_pope_row,
    ),
    "mme": Ask(
        wanted=Wanted(
            (rf"(?:{_CATEGORIES})\.txt", rf"(?:{_CATEGORIES})/(?:questions_answers_YN/)?[^/]+\.txt"),
            "existence.txt of eval_tool/Your_Results, or existence/*.txt,",
            several=True,
        ),
        prompt=prompts.mme,
        row=lambda question: {"question_id": question.image, "category": question.group},
        names=lambda question: category_names(question.image),
    ),
    "mmbench": _MMBENCH,
    "mmbench-cn": replace(
        _MMBENCH,
        wanted=Wanted((r"mmbench_(?:dev|test)_cn_\d+\.tsv",), "mmbench_dev_cn_20231003.tsv"),
        prompt=prompts.mmbench_cn,
    ),
    "seedbench": Ask(
        wanted=Wanted((r"SEED-Bench\.json",), "SEED-Bench.json"), prompt=prompts.seedbench, names=_seed_names
    ),
    "llava-bench": Ask(
        wanted=Wanted((r"questions\.jsonl",), "questions.jsonl"),
        prompt=prompts.plain,
        read=_bench_questions,
        max_new_tokens=LONG,
    ),
    "llava-bench-coco": Ask(
        wanted=Wanted((r"qa90_questions\.jsonl",), "qa90_questions.jsonl"),
        prompt=prompts.plain,
        read=_bench_questions,
        max_new_tokens=LONG,
    ),
    "mmvet": Ask(
        wanted=Wanted((r"mm-vet\.json",), "mm-vet.json"),
        prompt=prompts.plain,
        read=_vet_questions,
        max_new_tokens=LONG,
    ),
    "coco-caption": _CAPTION,
    "textcaps": replace(_CAPTION, wanted=Wanted((r"TextCaps_0\.1_(\w+)\.json",), "TextCaps_0.1_val.json")),
    "mmmu": Ask(
        wanted=Wanted(
            tuple(rf"{split}-\d{{5}}-of-\d{{5}}\.parquet" for split in ("validation", "dev", "test")),
            "validation-00000-of-00001.parquet, in a folder of its subject,",
            several=True,
        ),
        prompt=prompts.mmmu,
        row=lambda question: {"question_id": question.id},
        pictures=mmmu_pictures,
        marked=True,
    ),
    "ocrvqa": Ask(wanted=Wanted((r"dataset\.json",), "dataset.json")),
    "chartqa": Ask(wanted=Wanted((r"test_(?:human|augmented)\.json",), "test_human.json", several=True)),
    "docvqa": Ask(
        wanted=Wanted((r"(?:train|val|test)_v1\.0(?:_withQT)?\.json",), "val_v1.0.json"),
        names=lambda question: picture_names(Path(question.image).name),
    ),
    "chair": replace(
        _CAPTION, wanted=Wanted((r"instances_(\w+)\.json",), "instances_val2014.json", truths=(r"captions_\1.json",))
    ),
    "probes": Ask(wanted=Wanted((r"probes\.jsonl",), "probes.jsonl"), prompt=prompts.plain, row=_own_row),
    "typographic": Ask(
        wanted=Wanted((r"typographic\.jsonl",), "typographic.jsonl"), prompt=prompts.plain, row=_own_row
    ),
    "short-answers": Ask(
        wanted=Wanted((r"questions\.jsonl",), "questions.jsonl"),
        prompt=prompts.plain,
        row=lambda question: {"question_id": question.id},
        max_new_tokens=16,
    ),
}
