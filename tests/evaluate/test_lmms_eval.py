"""lmms-eval itself, from its command line to its files, with a checkpoint of ours and tasks of local data.

Runs where lmms-eval and this package are installed beside one another (0.7.3: docs/probes.md); `test_frameworks` has a
stand-in for it elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.evaluate.tasks.registry import task_named
from sightline.infer.chat import ChatSession
from sightline.infer.load import load
from sightline.infer.sampling import Sampling
from tests.tiny_checkpoint import save_assistant, tiny_assistant
from tests.train.small_run import instruct_recipe, make_world, talk, trained

pytestmark = [
    pytest.mark.skipif(find_spec("lmms_eval") is None, reason="lmms-eval is not installed (docs/probes.md says how)"),
    pytest.mark.skipif(
        not any(found.name == "sightline" for found in entry_points(group="lmms_eval.models")),
        reason="sightline is not installed, so lmms-eval cannot find it (pip install --no-deps -e .)",
    ),
]

COLORS = {"red": (220, 30, 20), "blue": (20, 40, 210), "green": (10, 200, 60), "grey": (120, 120, 120)}
POPE = """\
task: colors
dataset_path: parquet
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.pope_doc_to_visual
doc_to_text: !function utils.pope_doc_to_text
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 8, temperature: 0, do_sample: false, until: ["\\n\\n"]}}
process_results: !function utils.pope_process_results
metric_list:
  - {{metric: pope_accuracy, aggregation: !function utils.pope_aggregate_accuracy, higher_is_better: true}}
  - {{metric: pope_precision, aggregation: !function utils.pope_aggregate_precision, higher_is_better: true}}
  - {{metric: pope_recall, aggregation: !function utils.pope_aggregate_recall, higher_is_better: true}}
  - {{metric: pope_f1_score, aggregation: !function utils.pope_aggregate_f1_score, higher_is_better: true}}
lmms_eval_specific_kwargs:
  default: {{pre_prompt: "", post_prompt: "\\nAnswer the question using a single word or phrase."}}
"""
"""POPE as lmms-eval has it, but for the data and the length."""
OURS = """\
task: ours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.pictures
doc_to_text: question
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 6}}
process_results: !function utils.length
metric_list: [{{metric: length, aggregation: mean, higher_is_better: true}}]
"""
OUR_UTILS = """\
from PIL import Image

def pictures(doc):
    return [Image.open(path) for path in doc["pictures"]]

def length(doc, results):
    return {"length": float(len(results[0]))}
"""


def lmms_eval(checkpoint: Path, task: str, root: Path, *, batch: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Runs lmms-eval; its figures and its samples, in the order of the data."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(root / "hub"), "OMP_NUM_THREADS": "1"}
    command = [
        *(sys.executable, "-m", "lmms_eval", "--model", "sightline", "--model_args", f"pretrained={checkpoint}"),
        *("--device", "cpu", "--batch_size", str(batch), "--tasks", task, "--include_path", str(root / "tasks")),
        *("--log_samples", "--output_path", str(root / "out")),
    ]
    done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (root / "out").rglob("*_results.json")
    (samples,) = (root / "out").rglob(f"*_samples_{task}.jsonl")
    found = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(results.read_text())["results"][task], sorted(found, key=lambda sample: sample["doc_id"])


def write_task(root: Path, content: str, utils: str) -> None:
    (root / "tasks").mkdir()
    (root / "tasks" / "task.yaml").write_text(content)
    (root / "tasks" / "utils.py").write_text(utils)


def test_lmms_eval_gets_the_answers_of_a_conversation(tmp_path: Path) -> None:
    """With one picture, with none, with two; questions of unequal length, two at a time."""
    checkpoint = save_assistant(tmp_path / "run", *tiny_assistant())
    for name, color in COLORS.items():
        Image.new("RGB", (20, 12), color).save(tmp_path / f"{name}.png")
    docs = [
        {"question": "What is it?", "answer": "a", "pictures": [str(tmp_path / "red.png")]},
        {"question": "Say something that is longer than the others are.", "answer": "b", "pictures": []},
        {
            "question": "Which of them is red?",
            "answer": "c",
            "pictures": [str(tmp_path / "blue.png"), str(tmp_path / "green.png")],
        },
    ]
    (tmp_path / "docs.json").write_text("\n".join(map(json.dumps, docs)))
    write_task(tmp_path, OURS.format(data=tmp_path / "docs.json"), OUR_UTILS)
    figures, samples = lmms_eval(checkpoint, "ours", tmp_path, batch=2)
    said = [sample["filtered_resps"] for sample in samples]
    for doc, answer in zip(docs, said, strict=True):
        session = ChatSession(*load(checkpoint), sampling=Sampling(max_new_tokens=6))
        pictures = [Image.open(path) for path in doc["pictures"]]
        assert answer == session.ask(doc["question"], pictures).strip()
    assert figures["length,none"] == pytest.approx(sum(map(len, said)) / 3)


def test_popes_figures_by_lmms_eval_are_those_of_our_protocol_of_its_name(tmp_path: Path) -> None:
    """Of a model that has learnt to say yes to the warm colors and no to the others, whatever it is shown."""
    import datasets

    world = make_world(tmp_path / "world")
    (tmp_path / "pictures").mkdir()
    questions = []
    for number, (shown, color) in enumerate(COLORS.items()):
        Image.new("RGB", (24, 24), color).save(tmp_path / "pictures" / f"{shown}.png")
        questions += [(4 * number + at, shown, f"Is it {asked}?", asked == shown) for at, asked in enumerate(COLORS)]
    suffix = "\nAnswer the question using a single word or phrase."
    lines = [
        {
            "id": str(number),
            "image": f"{shown}.png",
            "conversations": talk((f"<image>\n{text}{suffix}", "Yes" if "e" in text[6:8] else "No")),
        }
        for number, shown, text, _ in questions
    ]
    (tmp_path / "train.json").write_text(json.dumps(lines))
    recipe = instruct_recipe(
        world, tmp_path / "run", start=None,
        train={"steps": 60, "batch": 8, "lr": {"connector": 1e-2, "language": 1e-2}},
        data=[{"path": str(tmp_path / "train.json"), "images": str(tmp_path / "pictures")}],
    )  # fmt: skip
    checkpoint = trained(recipe)

    def png(name: str) -> dict[str, Any]:
        content = BytesIO()
        Image.open(tmp_path / "pictures" / f"{name}.png").save(content, format="PNG")
        return {"bytes": content.getvalue(), "path": None}

    docs = [
        {"question_id": str(number), "question": text, "answer": "yes" if right else "no", "image": png(shown)}
        for number, shown, text, right in questions
    ]
    features = {name: datasets.Value("string") for name in ("question_id", "question", "answer")}
    table = datasets.Dataset.from_list(docs, features=datasets.Features({**features, "image": datasets.Image()}))
    table.to_parquet(tmp_path / "docs.parquet")
    write_task(
        tmp_path, POPE.format(data=tmp_path / "docs.parquet"), "from lmms_eval.tasks.pope.utils import *  # noqa\n"
    )
    figures, samples = lmms_eval(checkpoint, "colors", tmp_path, batch=4)
    assert len({(sample["filtered_resps"].lower(), sample["target"]) for sample in samples}) == 4

    rows = [
        {"question_id": doc["question_id"], "question": doc["question"], "text": sample["filtered_resps"]}
        for doc, sample in zip(docs, samples, strict=True)
    ]
    labels = [
        {"question_id": doc["question_id"], "image": "x.jpg", "text": doc["question"], "label": doc["answer"]}
        for doc in docs
    ]
    for name, content in (("answers.jsonl", rows), ("coco_pope_random.json", labels)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in content))
    result = task_named("pope").evaluate([tmp_path / "answers.jsonl"], [tmp_path / "coco_pope_random.json"], "lmms")
    ours = result.figures["all"]
    assert {name: figures[f"pope_{key},none"] for name, key in (
        ("accuracy", "accuracy"), ("precision", "precision"), ("recall", "recall"), ("f1", "f1_score")
    )} == pytest.approx({name: ours[name] for name in ("accuracy", "precision", "recall", "f1")})  # fmt: skip
