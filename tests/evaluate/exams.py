"""Benchmarks of two or three questions in their official files, with the answers that are right."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from tests.evaluate.files import Place

HEAD = "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\tsource\tl2-category\tcomment\tsplit\n"


def picture(path: Path, shade: int) -> Path:
    """Noise of its own for each shade, so that pictures differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = Image.effect_noise((30 + shade % 9, 40), 80)
    Image.merge("RGB", [noise, noise.rotate(90), Image.new("L", noise.size, shade)]).save(path)
    return path


def mmbench(folder: Path) -> str:
    """Two groups of two rotations; the second row's picture is that of the first."""
    first, second = (
        base64.b64encode(picture(folder / "hidden" / f"{shade}.png", shade).read_bytes()).decode() for shade in (1, 2)
    )
    for path in (folder / "hidden").iterdir():
        path.unlink()
    rows = [
        ("0", "What?", "Look.", "cat", "dog", "", "", "A", first),
        ("1", "Who?", "", "me", "you", "they", "we", "D", second),
        ("1000000", "What?", "Look.", "dog", "cat", "", "", "B", "0"),
        ("1000001", "Who?", "", "we", "me", "you", "they", "A", "1"),
    ]
    return HEAD + "".join(
        "\t".join([*row[:8], "naming", row[8], "ours", "perception", "", "dev"]) + "\n" for row in rows
    )


def vqa_answers(right: str) -> list[dict[str, str]]:
    return [{"answer": right if number < 9 else "else"} for number in range(10)]


def make(task: str, folder: Path) -> dict[str, str]:
    """Writes the official files and pictures of a benchmark; the right answer to each question, in their order."""
    return {
        "vqav2": _vqa,
        "okvqa": _vqa,
        "gqa": _gqa,
        "vizwiz": _vizwiz,
        "textvqa": _textvqa,
        "scienceqa": _science,
        "pope": _pope,
        "mme": _mme,
        "mmbench": _mmbench,
        "mmbench-cn": _mmbench,
        "seedbench": _seed,
        "coco-caption": _captions,
        "textcaps": _textcaps,
        "ocrvqa": _ocrvqa,
        "chartqa": _chartqa,
        "docvqa": _docvqa,
        "short-answers": _short,
        "mmmu": _mmmu,
    }[task](task, Place(folder))


def _vqa(task: str, place: Place) -> dict[str, str]:
    start = "v2_" if task == "vqav2" else ""
    names = [{"image_id": 7, "question_id": 70}, {"image_id": 8, "question_id": 80}]
    right = {"70": "yes", "80": "two"}
    for name in names:
        picture(place.folder / "val2014" / f"COCO_val2014_{name['image_id']:012d}.jpg", name["image_id"])
    place.write(
        f"{start}OpenEnded_mscoco_val2014_questions.json",
        {"questions": [name | {"question": f"Why {name['image_id']}?"} for name in names]},
    )
    truths = [name | {"answers": vqa_answers(right[str(name["question_id"])])} for name in names]
    place.write(f"{start}mscoco_val2014_annotations.json", {"annotations": truths})
    return right


def _gqa(task: str, place: Place) -> dict[str, str]:
    right = {"0701": "red", "0702": "dog"}
    for image in ("n1", "2"):
        picture(place.folder / "images" / f"{image}.jpg", len(image))
    questions = {
        key: {"question": f"What {key}?", "imageId": image, "answer": right[key], "isBalanced": True, "types": {}}
        for key, image in (("0701", "n1"), ("0702", "2"))
    }
    place.write("testdev_balanced_questions.json", questions)
    return right


def _vizwiz(task: str, place: Place) -> dict[str, str]:
    right = {f"VizWiz_val_0000000{number}.jpg": f"it {number}" for number in (1, 2)}
    for number, name in enumerate(right):
        picture(place.folder / "val" / name, number)
    entries = [{"image": name, "question": "What?", "answers": vqa_answers(answer)} for name, answer in right.items()]
    place.write("val.json", entries)
    return right


def _textvqa(task: str, place: Place) -> dict[str, str]:
    picture(place.folder / "train_images" / "ab1.jpg", 3)
    right = {"1": "stop", "2": "go"}
    entries = [
        {"question_id": 1, "image_id": "ab1", "question": "what says it?", "answers": ["stop"] * 10},
        {"question_id": 2, "image_id": "ab1", "question": "what else?", "answers": ["go"] * 10},
    ]
    place.write("TextVQA_0.5.1_val.json", {"data": entries})
    place.write("TextVQA_Rosetta_OCR_v0.2_val.json", {"data": [{"image_id": "ab1", "ocr_tokens": ["STOP", "GO"]}]})
    return right


def _science(task: str, place: Place) -> dict[str, str]:
    picture(place.folder / "images" / "test" / "3" / "image.png", 4)
    common = {"choices": ["one", "two"], "answer": 1, "grade": "grade2", "subject": "natural science", "split": "test"}
    place.write(
        "problems.json",
        {
            "3": {**common, "question": "Which?", "hint": "Look.", "image": "image.png"},
            "5": {**common, "question": "What?", "hint": "", "image": None},
        },
    )
    place.write("pid_splits.json", {"test": ["3", "5"]})
    return {"3": "B", "5": "B"}


def _pope(task: str, place: Place) -> dict[str, str]:
    right = {}
    for name in ("adversarial", "popular", "random"):
        lines = []
        for number, label in ((1, "yes"), (2, "no")):
            image = f"COCO_val2014_00000000000{number}.jpg"
            if name == "random":
                picture(place.folder / "val2014" / image, number)
            lines.append({"question_id": number, "image": image, "text": f"Is there a {number}?", "label": label})
            right[f"{name}/{number}"] = label
        place.write(f"coco/coco_pope_{name}.json", "".join(json.dumps(line) + "\n" for line in lines))
    return right


def _mme(task: str, place: Place) -> dict[str, str]:
    right = {}
    for category in ("count", "OCR"):
        for number in (1, 2):
            picture(place.folder / category / f"{number}.jpg", number)
            lines = [f"Is it {word}? Please answer yes or no.\t{label}" for word, label in (("a", "Yes"), ("b", "No"))]
            place.write(f"{category}/{number}.txt", "\n".join(lines))
            right |= {f"{category}/{number}/a": "Yes", f"{category}/{number}/b": "No"}
    return dict(sorted(right.items(), key=lambda item: item[0]))


def _mmbench(task: str, place: Place) -> dict[str, str]:
    name = "mmbench_dev_cn_20231003.tsv" if task == "mmbench-cn" else "mmbench_dev_20230712.tsv"
    place.write(name, mmbench(place.folder))
    return {"0": "A", "1": "D", "1000000": "B", "1000001": "A"}


def _seed(task: str, place: Place) -> dict[str, str]:
    picture(place.folder / "SEED-Bench-image" / "1_2.jpg", 5)
    picture(place.folder / "SEED-Bench-video-image" / "9.png", 6)
    common = {"question": "Which?", "choice_a": "a", "choice_b": "b", "choice_c": "c", "choice_d": "d"}
    questions = [
        {**common, "question_id": "4", "answer": "C", "question_type_id": 1, "data_type": "image", "data_id": "1_2"},
        {
            **common,
            "question_id": "9",
            "answer": "D",
            "question_type_id": 10,
            "data_type": "video",
            "data_id": "v/x.mp4",
        },
    ]
    place.write("SEED-Bench.json", {"questions": questions, "question_type": {"Scene": 1, "Action": 10}})
    return {"4": "C", "9": "D"}


def _captions(task: str, place: Place) -> dict[str, str]:
    right = {"11": "a red dog on grass", "12": "two cats by a blue wall"}
    for key in right:
        picture(place.folder / "val2014" / f"COCO_val2014_{int(key):012d}.jpg", int(key))
    entries = [{"image_id": int(key), "caption": text} for key, text in right.items()]
    place.write("captions_val2014.json", {"annotations": entries})
    return right


def _textcaps(task: str, place: Place) -> dict[str, str]:
    right = {"a1": "a red dog on grass", "b2": "two cats by a blue wall"}
    for number, key in enumerate(right):
        picture(place.folder / "train_images" / f"{key}.jpg", number)
    entries = [{"image_id": key, "reference_strs": [text]} for key, text in right.items()]
    place.write("TextCaps_0.1_val.json", {"data": entries})
    return right


def _ocrvqa(task: str, place: Place) -> dict[str, str]:
    picture(place.folder / "images" / "0140.jpg", 9)
    book = {"questions": ["Who?", "When?"], "answers": ["I", "now"], "split": 3}
    place.write("dataset.json", {"0140": book, "0141": {**book, "split": 1}})
    return {"0140_0": "I", "0140_1": "now"}


def _chartqa(task: str, place: Place) -> dict[str, str]:
    picture(place.folder / "png" / "two.png", 9)
    for name in ("human", "augmented"):
        place.write(f"test_{name}.json", [{"imgname": "two.png", "query": f"{name}?", "label": "4"}])
    return {"augmented/0": "4", "human/0": "4"}


def _docvqa(task: str, place: Place) -> dict[str, str]:
    picture(place.folder / "documents" / "page_1.png", 9)
    entry = {"questionId": 5, "question": "Who?", "image": "documents/page_1.png", "answers": ["me"]}
    place.write("val_v1.0.json", {"data": [entry]})
    return {"5": "me"}


def _mmmu(task: str, place: Place) -> dict[str, str]:
    """Two subjects: a choice about one picture, one about three of which an option is one, and an open question."""
    from pyarrow import Table, parquet

    contents = []
    for shade in (1, 2, 3, 4, 5):
        path = picture(place.folder / "hidden.png", shade)
        contents.append({"bytes": path.read_bytes(), "path": f"{shade}.png"})
        path.unlink()
    one, two, three, four, five = contents
    subjects = {
        "Art": [
            ("validation_Art_1", "Who painted <image 1>?", "['Ann', 'Bo']", "B", "multiple-choice", [one]),
            (
                "validation_Art_2", "From <image 2> to?", "['<image 3>', 'none', '<image 9>']", "A", "multiple-choice",
                [two, three, four],
            ),
        ],
        "Math": [("validation_Math_7", "<image 1> How many?", "[]", "12", "open", [five])],
    }  # fmt: skip
    right = {}
    for subject, rows in subjects.items():
        columns: dict[str, list[Any]] = {}
        for key, question, options, answer, kind, shown in rows:
            cells = {"id": key, "question": question, "options": options, "answer": answer, "question_type": kind}
            pictures = {f"image_{at + 1}": shown[at] if at < len(shown) else None for at in range(7)}
            for name, value in (cells | pictures | {"subfield": "x"}).items():
                columns.setdefault(name, []).append(value)
            right[key] = answer
        (place.folder / subject).mkdir(parents=True, exist_ok=True)
        for split in ("validation", "test"):
            parquet.write_table(Table.from_pydict(columns), place.folder / subject / f"{split}-00000-of-00001.parquet")
    return right


def _short(task: str, place: Place) -> dict[str, str]:
    lines = []
    for number in range(5):
        picture(place.folder / "pictures" / f"{number}.png", number)
        lines.append(
            {
                "question_id": number,
                "image": f"pictures/{number}.png",
                "text": "What? " * (1 + number % 3),
                "answer": "red",
                "category": "ab"[number % 2],
            }
        )
    place.write("questions.jsonl", lines)
    return {str(number): "red" for number in range(5)}


class Parrot:
    """Answers what it was told to, by the question's place; counts how often it was asked."""

    name = "parrot"

    def __init__(self, answers: Mapping[int, str], *, group: int = 2, **identity: Any) -> None:
        self.told, self.group = answers, group
        self.identity: Mapping[str, Any] = {"checkpoint": "0", **identity}
        self.asked: list[int] = []

    def answers(self, asked: Any, *, task: str, folder: Path, max_new_tokens: int) -> Any:
        for start in range(0, len(asked), self.group):
            part = asked[start : start + self.group]
            self.asked += [one.number for one in part]
            yield {one.number: self.told[one.number] for one in part}
