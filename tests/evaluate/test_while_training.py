"""Benchmarks during training, from the recipe to the log: what is asked, of which pictures, and what it says."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.config import dump_recipe
from sightline.errors import ConfigError
from sightline.evaluate.evaluation import Options, evaluate_exam, headline
from sightline.evaluate.exam import open_exam
from sightline.evaluate.runner import Checkpoint, write_rows
from sightline.evaluate.while_training import open_benchmarks, scored, subset
from sightline.infer.load import load
from sightline.recipe import BenchmarksSpec, Recipe
from sightline.train.loop import train
from tests.command_line import Captured, assert_refused
from tests.evaluate.exams import make
from tests.tiny_checkpoint import tiny_assistant
from tests.train.small_run import STEPS, instruct_recipe, make_world, prepared, result_hashes, trained
from tests.train.test_benchmarks import figures
from tests.train.test_loop import LORA, losses

SOURCE = Path(__file__).parents[2] / "src"
QLORA = {"quantize": "nf4", **LORA}
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes (the extra qlora) is not installed"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """POPE (six questions about two pictures) and five questions of one's own."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for task in ("pope", "short-answers"):
        make(task, folder / task)
    return folder


@pytest.fixture(autouse=True)
def _no_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.train.loop.plot_run", lambda rows, path, *, title: path.write_bytes(b""))


def spec(data: Path, *tasks: str, **options: Any) -> dict[str, Any]:
    return {"data": str(data), "tasks": tasks or ("pope", "short-answers"), "every": 5, "batch": 4, **options}


def asked(recipe: Recipe) -> Path:
    """As the command line trains."""
    assert recipe.benchmarks is not None
    benchmarks = open_benchmarks(recipe.benchmarks)
    run = prepared(recipe)
    train(run, quiet=True, benchmarks=benchmarks)
    run.release()
    return run.directory


def texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def test_what_is_asked_at_the_end_is_what_evaluate_asks_of_the_checkpoint(
    world: Path, data: Path, tmp_path: Path
) -> None:
    recipe = instruct_recipe(world, tmp_path / "run", start=None, benchmarks=spec(data))
    run = asked(recipe)
    checkpoint = Checkpoint("small-instruct-12", {}, lambda: load(run), batch=3)
    answers = run / "benchmarks" / f"step-{STEPS:08d}"
    found = {}
    for task in ("pope", "short-answers"):
        outcome = evaluate_exam(open_exam(task, data), checkpoint, tmp_path / task, Options(), say=lambda line: None)
        assert outcome is not None
        assert outcome.result is not None
        found[f"{task}.{outcome.result.metric}"] = headline(outcome.result)[0]
        assert (answers / f"{task}.jsonl").read_text() == (tmp_path / task / "answers.jsonl").read_text()
    assert [step for step, _ in figures(run)] == [5, 10, STEPS]
    assert figures(run)[-1][1] == found
    earlier = texts(run / "benchmarks" / "step-00000005" / "pope.jsonl")
    assert earlier != texts(answers / "pope.jsonl")


@pytest.mark.parametrize("kind", ["full", "lora", pytest.param("nf4", marks=needs_bitsandbytes), "bf16"])
def test_training_is_the_same_bit_for_bit(kind: str, world: Path, data: Path, tmp_path: Path) -> None:
    settings: Mapping[str, Any] = {"full": {}, "lora": LORA, "nf4": QLORA, "bf16": {"precision": "bf16"}}[kind]
    plain = trained(instruct_recipe(world, tmp_path / "a", start=None, train=settings))
    found = asked(instruct_recipe(world, tmp_path / "b", start=None, train=settings, benchmarks=spec(data)))
    assert [step for step, _ in figures(found)] == [5, 10, STEPS]
    assert losses(found) == losses(plain)
    assert result_hashes(found) == result_hashes(plain)


@pytest.mark.parametrize("shard", [False, True])
def test_several_processes_have_the_figures_of_one(shard: bool, world: Path, data: Path, tmp_path: Path) -> None:
    expected = asked(instruct_recipe(world, tmp_path / "one", start=None, benchmarks=spec(data)))
    recipe = instruct_recipe(world, tmp_path / "two", start=None, train={"shard": shard}, benchmarks=spec(data))
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "sightline", "train", str(tmp_path / "recipe.yaml")],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert figures(tmp_path / "two") == figures(expected)
    assert [loss for _, loss in losses(tmp_path / "two")] == pytest.approx(
        [loss for _, loss in losses(expected)], abs=2e-5
    )
    assert done.stderr.count(f"step {STEPS}: pope.mean_f1 ") == 1


# ---- mistakes --------------------------------------------------------------------------------------------------------


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: next(folder.rglob(name)).unlink()


def spoil(folder: Path) -> None:
    next(folder.rglob("1.png")).write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("changes", "mistake", "said"),
    [
        ({"tasks": ["pop"]}, None, 'did you mean "pope"'),
        ({"tasks": ["pope"]}, remove("COCO_val2014_000000000001.jpg"), "1 of the pictures are not in it or below"),
        ({"tasks": ["short-answers"]}, remove("questions.jsonl"), "no questions.jsonl in it or below"),
        ({"tasks": ["short-answers"]}, spoil, "1.png"),
        ({"data": "nowhere"}, None, "benchmarks.data: nowhere: no such folder"),
        ({"tasks": ["llava-bench"]}, None, "benchmarks.tasks: llava-bench has no figure: its server or a judge"),
        ({"tasks": ["pope", "pope"]}, None, "benchmarks: pope is named twice"),
        ({"tasks": []}, None, "benchmarks.tasks: found []"),
        ({"evry": 5}, None, 'benchmarks.evry: unknown key; did you mean "every"'),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_before_anything_is_written(
    changes: dict[str, Any],
    mistake: Callable[[Path], None] | None,
    said: str,
    world: Path,
    tmp_path: Path,
    capsys: Captured,
) -> None:
    for task in ("pope", "short-answers"):
        make(task, tmp_path / "data" / task)
    if mistake is not None:
        mistake(tmp_path / "data")
    recipe = instruct_recipe(world, tmp_path / "run", start=None)
    tree = json.loads(recipe.model_dump_json(exclude_unset=True))
    tree["benchmarks"] = {**spec(tmp_path / "data"), **changes}
    (tmp_path / "recipe.yaml").write_text(json.dumps(tree))
    assert_refused(capsys, f"train {tmp_path / 'recipe.yaml'}", said)
    assert not (tmp_path / "run").exists()


def test_a_prompt_beyond_the_context_is_found_before_the_first_step(data: Path) -> None:
    benchmarks = open_benchmarks(BenchmarksSpec(**spec(data)))
    benchmarks.check(*tiny_assistant())
    with pytest.raises(
        ConfigError, match=r"benchmarks\.tasks: pope: the prompt of question .* the language model has 24"
    ):
        benchmarks.check(*tiny_assistant(context=24))


def test_a_picture_that_breaks_costs_the_figure_and_not_the_run(world: Path, tmp_path: Path, capsys: Captured) -> None:
    for task in ("pope", "short-answers"):
        make(task, tmp_path / "data" / task)
    recipe = instruct_recipe(world, tmp_path / "run", start=None, benchmarks=spec(tmp_path / "data"))
    assert recipe.benchmarks is not None
    benchmarks = open_benchmarks(recipe.benchmarks)
    next((tmp_path / "data" / "pope").rglob("*1.jpg")).unlink()
    run = prepared(recipe)
    train(run, quiet=True, benchmarks=benchmarks)
    run.release()
    assert [row["pope.mean_f1"] for _, row in figures(run.directory)] == [None] * 3
    assert all(row["short-answers.accuracy"] == 0 for _, row in figures(run.directory))
    assert "pope.mean_f1: no figure at this step, the run goes on: " in capsys.readouterr().err


# ---- a part of the questions -----------------------------------------------------------------------------------------

SCORED = [
    "vqav2", "okvqa", "gqa", "vizwiz", "textvqa", "scienceqa", "pope", "mme", "mmbench", "mmbench-cn", "seedbench",
    "coco-caption", "textcaps", "ocrvqa", "chartqa", "docvqa", "mmmu", "short-answers",
]  # fmt: skip


@pytest.mark.parametrize("task", SCORED)
def test_only_what_was_asked_counts(task: str, tmp_path: Path) -> None:
    """Right answers to one picture's questions have the figure that all right answers have."""
    right = make(task, tmp_path / "data")
    exam = open_exam(task, tmp_path / "data")
    best = []
    for limit in (None, 1):
        part = subset(exam, limit)
        said = {at: right.get(question.id, question.answers[0]) for at, question in enumerate(part.questions)}
        write_rows(tmp_path / "answers.jsonl", part, said, name="m")
        result = scored(part, tmp_path / "answers.jsonl")
        assert (result.n, result.missing, result.extra) == (len(part.questions), 0, 0)
        best.append(headline(result)[0])
    assert len(part.questions) < len(exam.questions) or task in ("textvqa", "ocrvqa", "chartqa", "docvqa")
    if task not in ("mme", "coco-caption", "textcaps"):  # a sum over categories; an idf over captions
        assert best[0] is not None
        assert best[1] == pytest.approx(best[0])


def test_a_part_is_drawn_by_picture_and_grows_with_the_limit(tmp_path: Path) -> None:
    lines = [
        {"question_id": f"{picture}-{number}", "image": f"{picture}.png", "text": "?", "answer": "a", "category": "c"}
        for number in range(3)
        for picture in range(20)
    ]
    for picture in range(20):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{picture}.png")
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    exam = open_exam("short-answers", tmp_path)
    before: set[str] = set()
    for limit, expected in ((1, 3), (3, 3), (4, 6), (30, 30), (59, 60), (60, 60), (100, 60)):
        part = subset(exam, limit)
        ids = [question.id for question in part.questions]
        assert len(ids) == expected
        assert before <= set(ids)
        assert ids == [question.id for question in exam.questions if question.id in ids]
        assert [one.number for one in part.asked] == list(range(expected))
        assert [row["question_id"] for row in part.rows] == ids
        pictures = [seen.name for one in part.asked for seen in one.pictures if isinstance(seen, Path)]
        assert [f"{name.split('-')[0]}.png" for name in ids] == pictures
        before = set(ids)
    first, second = sorted(range(20), key=lambda picture: hashlib.sha256(f"{picture}-0".encode()).digest())[:2]
    assert {question.id.partition("-")[0] for question in subset(exam, 6).questions} == {str(first), str(second)}
