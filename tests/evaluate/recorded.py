"""Recorded answers and official scores (../shared/scorers), written out as the files that a user would have."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

SCORERS = Path(__file__).parents[2].parent / "shared" / "scorers"
needs_recordings = pytest.mark.skipif(not SCORERS.exists(), reason="no recorded answers: ../shared/scorers is absent")


def lines(name: str) -> list[Any]:
    return [json.loads(line) for line in (SCORERS / name).read_text().splitlines()]


def content(name: str) -> Any:
    return json.loads((SCORERS / name).read_text())


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False))
    return path


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


# ---- one function for each benchmark: answers, annotations -----------------------------------------------------------


def scienceqa(folder: Path, column: int) -> tuple[Path, Path]:
    """Answers of one of three runs as LLaVA writes them, with the prompt's mark of a picture; problems.json."""
    rows = lines("scienceqa/real_test_4241.jsonl")
    problems = {
        row["id"]: {
            "question": "?",
            "choices": [f"choice {number}" for number in range(row["n"])],
            "answer": row["y"],
            "hint": "a hint" if row["hint"] else "",
            "image": "image.png" if row["img"] else None,
            "subject": "natural science",
            "grade": "grade3",
            "split": "test",
        }
        for row in rows
    }
    answers = [
        {"question_id": row["id"], "prompt": "<image>\n?" if row["img"] else "?", "text": row["text"][column]}
        for row in rows
    ]
    return write_lines(folder / f"sqa{column}.jsonl", answers), write_json(folder / "problems.json", problems)


def scienceqa_results(folder: Path, column: int) -> Path:
    """The recorded index map of a run, in the official result format."""
    rows = lines("scienceqa/real_test_4241.jsonl")
    return write_json(folder / f"results{column}.json", {"results": {row["id"]: row["rec"][column] for row in rows}})


def pope(folder: Path) -> tuple[Path, list[Path]]:
    """LLaVA's answer file over all three sets, and POPE's three label files."""
    answers, files = [], []
    for name, suite in content("pope/real_llava15_13b.json").items():
        labels = [
            {"question_id": number, "image": "a.jpg", "text": f"Is there a {name} thing {number}?", "label": label}
            for number, label in enumerate(suite["labels"], start=1)
        ]
        files.append(write_lines(folder / suite["label_file"], labels))
        for label, text in zip(labels, suite["texts"], strict=True):
            number = suite["first_question_id"] + label["question_id"] - 1
            prompt = f"{label['text']}\nAnswer the question using a single word or phrase."
            answers.append({"question_id": number, "prompt": prompt, "text": text})
    return write_lines(folder / "pope.jsonl", answers), files


def mme(folder: Path, name: str) -> tuple[Path, Path]:
    """Answers as LLaVA writes them, and eval_tool's folder of <category>.txt."""
    tables: dict[str, list[str]] = {}
    answers = []
    for row in lines(f"mme/{name}.jsonl"):
        category = row["category"]
        image = row.get("image") or row["question_id"].rpartition("/")[2]
        bare = (row.get("question") or row["prompt"]).removesuffix("Please answer yes or no.").strip()
        tables.setdefault(category, []).append(f"{image}\t{bare} Please answer yes or no.\t{row['answer']}\n")
        prompt = f"{bare}\nAnswer the question using a single word or phrase."
        answers.append({"question_id": f"{category}/{image}", "prompt": prompt, "text": row["text"]})
    truth = folder / f"{name}_truth"
    truth.mkdir(parents=True)
    for category, table in tables.items():
        (truth / f"{category}.txt").write_text("".join(table))
    return write_lines(folder / f"{name}.jsonl", answers), truth


def mmbench(folder: Path) -> tuple[Path, Path]:
    """Answers as LLaVA writes them, and the benchmark's table; the options' texts are not recorded."""
    table = ["index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\tl2-category\tsplit\timage"]
    answers = []
    for group in lines("mmbench/real_llava15_13b_dev_20230712.jsonl"):
        for index, count, answer, given in zip(
            group["indices"], group["n_options"], group["answers"], group["predictions"], strict=True
        ):
            options = [f"option {letter} {index}" if place < count else "" for place, letter in enumerate("wxyz")]
            table.append("\t".join([str(index), "?", "", *options, answer, "kind", "coarse", "dev", "aGk="]))
            answers.append({"question_id": index, "round_id": 0, "prompt": "?", "text": given})
    (folder / "mmbench_dev.tsv").write_text("\n".join(table) + "\n")
    return write_lines(folder / "mmbench.jsonl", answers), folder / "mmbench_dev.tsv"


def seed(folder: Path, column: str) -> tuple[Path, Path]:
    """Answers in one of the two recorded columns, and SEED-Bench.json; one id is in it twice, as in the original."""
    recorded = content("seed-bench/real_llava15_13b.json")
    place = recorded["columns"].index(column)
    questions, answers = [], []
    for row in recorded["rows_as_strings"]:
        parts = row.split(" ")
        video = parts[0].startswith("v")
        number: int | str = parts[0] if video else int(parts[0])
        questions.append(
            {
                "question_id": parts[0],
                "question": "?",
                "answer": parts[1],
                "question_type_id": 10 if video else 1,
                "data_type": "video" if video else "image",
            }
        )
        answers.append({"question_id": number, "text": parts[place]})
    names = {"Scene Understanding": 1, "Action Recognition": 10}
    truth = write_json(folder / "SEED-Bench.json", {"questions": questions, "question_type": names})
    return write_lines(folder / f"{column}.jsonl", answers), truth


def reviews(folder: Path, name: str) -> dict[str, Path]:
    """Each recorded file of reviews, by its name."""
    files: dict[str, list[Any]] = {}
    for row in lines(f"llava_bench/{name}.jsonl"):
        files.setdefault(row["file"], []).append({key: value for key, value in row.items() if key != "file"})
    return {file: write_lines(folder / f"{file}.jsonl", rows) for file, rows in files.items()}


def mmvet(folder: Path, run: str) -> tuple[Path, Path]:
    """A grade file and mm-vet.json."""
    grades = {key: {"score": scores} for key, scores in content("mm-vet/real_grades.json")[run].items()}
    items = {key: {"capability": names} for key, names in content("mm-vet/capabilities.json").items()}
    return write_json(folder / f"{run}.json", grades), write_json(folder / "mm-vet.json", items)


def gqa(folder: Path) -> tuple[Path, list[Path]]:
    """Answers as LLaVA writes them, the questions, the choices."""
    questions, choices, answers = {}, {}, []
    for case in lines("gqa/cases.jsonl"):
        key = case["questionId"]
        questions[key] = {
            "question": case["question"],
            "imageId": case["imageId"],
            "answer": case["answer"],
            "isBalanced": case["isBalanced"],
            "entailed": case["entailed"],
            "groups": {"global": case["group_global"]},
            "types": {
                "structural": case["structural"],
                "semantic": case["semantic"],
                "detailed": case["detailed"],
            },
            "semantic": case["steps"],
        }
        choices[key] = case["choices"]
        answers.append({"question_id": key, "prompt": "?", "text": case["text"]})
    files = [write_json(folder / "questions.json", questions), write_json(folder / "choices.json", choices)]
    return write_lines(folder / "gqa.jsonl", answers), files


def textvqa(folder: Path) -> tuple[Path, Path]:
    """Answers as LLaVA writes them, with the picture's id and the prompt; TextVQA's annotations."""
    cases = lines("textvqa/cases.jsonl")
    names = ("question_id", "image_id", "question", "answers")
    truth = write_json(folder / "textvqa.json", {"data": [{name: case[name] for name in names} for case in cases]})
    rows = [{"question_id": c["image_id"], "prompt": c["prompt"], "text": c["prediction"]} for c in cases]
    return write_lines(folder / "textvqa.jsonl", rows), truth


def captions(folder: Path, name: str) -> tuple[Path, Path]:
    """Captions as COCO's server takes them, and the references as COCO has them."""
    cases = [case for case in lines("textcaps/cases.jsonl") if case["set"] == name]
    truth = [{"image_id": case["id"], "caption": text} for case in cases for text in case["references"]]
    given = [{"image_id": case["id"], "caption": case["prediction"]} for case in cases]
    return write_json(folder / f"{name}.json", given), write_json(folder / "truth.json", {"annotations": truth})
