"""The command line: answers on stdout, one line on stderr for a mistake, and help that answers at once."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from sightline.cli import run
from tests.command_line import Captured, assert_refused, sightline
from tests.tiny_checkpoint import save_assistant, tiny_assistant, write_tiny_recipe

COMMANDS = (
    "demo",
    "train",
    "chat",
    "evaluate",
    "compare",
    "score",
    "inspect",
    "loss",
    "import",
    "export",
    "describe",
    "plan",
    "convert",
    "parts",
)
QUESTION = {"question_id": "1", "image": "good.png", "text": "What?", "answer": "red", "category": "color"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a checkpoint, pictures good and bad, questions, samples, and a recipe for tiny parts."""
    folder = tmp_path_factory.mktemp("place")
    save_assistant(folder / "run", *tiny_assistant())
    Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "good.png")
    Image.new("RGB", (1, 30_000)).save(folder / "thin.png")
    (folder / "page.jpg").write_text("<html>not found</html>")
    for name, line in (("good", QUESTION), ("lost", {**QUESTION, "image": "gone.png"}), ("bad", {})):
        (folder / name).mkdir()
        (folder / name / "questions.jsonl").write_text(json.dumps(line) + "\n")
    shutil.copy(folder / "good.png", folder / "good" / "good.png")
    (folder / "empty").mkdir()
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Red."}]
    (folder / "samples.json").write_text(json.dumps([{"id": "1", "image": "good.png", "conversations": turns}]))
    recipe = write_tiny_recipe(folder, data="samples.json")
    (folder / "typo.yaml").write_text(yaml.safe_dump({**recipe, "trian": {}}))
    return folder


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param("cat run", "No such command 'cat'", id="unknown command"),
        pytest.param("chatt run", "chat", id="misspelt command"),
        pytest.param("chat run --imgae good.png", "--image", id="unknown option"),
        pytest.param("chat", "Missing argument", id="missing argument"),
        pytest.param("chat run --top-k many", "--top-k", id="text for a number"),
        pytest.param("demo --pictures 3", "--pictures", id="number out of range"),
        pytest.param("chat nowhere --prompt x", "nowhere: no such directory", id="missing checkpoint"),
        pytest.param("chat empty --prompt x", "not a Sightline checkpoint", id="directory without checkpoint"),
        pytest.param("chat good.png --prompt x", "directory", id="file as checkpoint"),
        pytest.param("chat run --image none.png --prompt x", "none.png': there is no such file", id="missing image"),
        pytest.param("chat run --image page.jpg --prompt x", "page.jpg': no picture", id="no picture"),
        pytest.param("chat run --image thin.png --prompt x", "thin.png': one side is", id="1x30000 picture"),
        pytest.param("chat run --image empty --prompt x", "not a regular file", id="directory as image"),
        pytest.param("chat run --json", "--json needs --prompt", id="json without prompt"),
        pytest.param("chat run --explain x.png --prompt x", "--explain needs --prompt and --image", id="no picture"),
        pytest.param("chat run --explain x.png --image good.png", "--explain needs --prompt", id="explain what"),
        pytest.param("chat run --explain x.jpg --image good.png --prompt x", "x.jpg is no PNG", id="explain as jpg"),
        pytest.param("chat run --explain no/x.png --image good.png --prompt x", "no folder no", id="explain nowhere"),
        pytest.param("chat run --prompt x --temperature -1", "temperature: found -1", id="negative temperature"),
        pytest.param("chat run --prompt x --temperature nan", "temperature: found nan", id="temperature nan"),
        pytest.param("chat run --prompt x --top-p 0", "top_p: found 0", id="top_p 0"),
        pytest.param("chat run --prompt x --top-p 1.5", "top_p: found 1.5", id="top_p above 1"),
        pytest.param("chat run --prompt x --top-k -1", "top_k: found -1", id="negative top_k"),
        pytest.param("chat run --prompt x --max-new-tokens 0", "max_new_tokens: found 0", id="no tokens"),
        pytest.param("chat run --prompt \udcff", "U+DCFF", id="prompt that is no text"),
        pytest.param("chat run --prompt x --system \udcff", "U+DCFF", id="system text that is none"),
        pytest.param("train none.yaml", "none.yaml: no such recipe", id="missing recipe"),
        pytest.param("train empty", "cannot be read", id="directory as recipe"),
        pytest.param("train typo.yaml", 'trian: unknown key; did you mean "train"', id="recipe typo"),
        pytest.param("train recipe.yaml train.batc=3", 'did you mean "batch"', id="override typo"),
        pytest.param("train recipe.yaml steps", "expected key.path=value", id="override without value"),
        pytest.param(
            "train recipe.yaml data.0.path=none.json",
            "data.0.path: none.json: there is no such data file",
            id="missing data",
        ),
        pytest.param(
            "train recipe.yaml data.0.path=empty", "data.0.path: empty: found none of", id="directory as data"
        ),
        pytest.param("train recipe.yaml data.0.images=none", "data.0.images: no folder none", id="missing images"),
        pytest.param("train recipe.yaml model.tokenizer=empty", "no tokenizer at", id="missing tokenizer"),
        pytest.param("train recipe.yaml template=plian", 'did you mean "plain"', id="template typo"),
        pytest.param("train recipe.yaml max_length=20", "max_length: found 20", id="no room for text"),
        pytest.param("train recipe.yaml output=good.png", "good.png is a file", id="file as output"),
        pytest.param("describe none.yaml", "none.yaml: no such recipe", id="describe without recipe"),
        pytest.param("plan none.yaml", "none.yaml: no such recipe", id="plan without recipe"),
        pytest.param("plan recipe.yaml --device h100", 'did you mean "h100-80g"', id="device typo"),
        pytest.param("plan recipe.yaml --devices 0", "--devices", id="no devices"),
        pytest.param("plan recipe.yaml --device h200-141g --measure", "is not here", id="measuring elsewhere"),
        pytest.param(
            "plan recipe.yaml model.vision=openai/none", "vision: no directory openai/none here", id="hub name to plan"
        ),
        pytest.param("plan recipe.yaml model.language=none/", "language: no directory none", id="no directory to plan"),
        pytest.param("evaluate run --data .", "no task named", id="no task"),
        pytest.param("evaluate run pope", "--data", id="no data"),
        pytest.param("evaluate run poep --data .", "no task 'poep'; did you mean \"pope\"", id="task typo"),
        pytest.param("evaluate run pope --data none", "--data none: no such folder", id="no folder"),
        pytest.param("evaluate run pope --data .", "no coco_pope_random.json in it or below", id="no official files"),
        pytest.param("evaluate run short-answers --data . --split test", "of a split named 'test'", id="other split"),
        pytest.param("evaluate run short-answers --data bad", "bad/questions.jsonl:1:", id="no questions"),
        pytest.param("evaluate run short-answers --data lost", "not in it or below, gone.png first", id="no pictures"),
        pytest.param("evaluate nowhere short-answers --data good", "nowhere", id="no checkpoint"),
        pytest.param("evaluate run short-answers --data good --batch 0", "--batch", id="batch of none"),
        pytest.param("evaluate run short-answers --data good --shard 3/2", "expected I/N", id="no such shard"),
        pytest.param("evaluate run short-answers --data good --protocol lmms", "has official", id="no such protocol"),
        pytest.param("evaluate run short-answers --data good --blind gray", 'did you mean "grey"', id="blind typo"),
        pytest.param(
            "evaluate run short-answers --data good --blind swap", "all questions are about", id="one picture"
        ),
        pytest.param(
            "evaluate short-answers --model http://x --data good", "expected openai:URL", id="no address of a server"
        ),
        pytest.param("evaluate run short-answers --data good --budget 5", "for a server", id="budget of a checkpoint"),
        pytest.param("compare empty", "no */score.json in it", id="no run to compare"),
        pytest.param("parts visoin --output new", 'did you mean "vision"', id="part typo"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: str, words: str
) -> None:
    monkeypatch.chdir(place)
    assert_refused(capsys, arguments, words)


def test_a_refused_run_leaves_no_output_behind(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert sightline("train", "recipe.yaml", "output=refused", "data.0.path=none.json") == 2
    assert not (place / "refused").exists()


def test_the_process_exits_with_the_code(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from sightline.cli import main; main()", "train", "none.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sightline: none.yaml: no such recipe")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_is_no_traceback(capsys: Captured) -> None:
    def interrupted(**options: Any) -> None:
        raise KeyboardInterrupt

    assert run(interrupted) == 130
    assert capsys.readouterr().err == "sightline: interrupted\n"


def test_a_fault_of_ours_is_not_hidden() -> None:
    def broken(**options: Any) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run(broken)


# ---- help ------------------------------------------------------------------------------------------------------------


def test_help_of_every_command_imports_neither_torch_nor_transformers() -> None:
    code = """
import json, sys
from functools import partial
from sightline.cli import app, run
codes = [run(partial(app, args=args)) for args in json.loads(sys.argv[1])]
heavy = sorted({"torch", "transformers", "numpy", "PIL", "pydantic", "matplotlib", "rich"} & set(sys.modules))
print(json.dumps([codes, heavy]))
"""
    calls = [["--help"], *([name, "--help"] for name in COMMANDS)]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls)], capture_output=True, text=True, check=True, timeout=60
    )
    *text, last = done.stdout.splitlines()
    codes, heavy = json.loads(last)
    assert codes == [0] * len(calls)
    assert not {"torch", "transformers", "numpy"} & set(heavy)
    assert all(any(line.strip().startswith(name) for line in text) for name in COMMANDS)
    assert done.stderr == ""


def test_without_a_command_the_help_is_shown(capsys: Captured) -> None:
    assert sightline() == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage:")


# ---- answers ---------------------------------------------------------------------------------------------------------


def chat(place: Path, capsys: Captured, *arguments: object) -> str:
    assert sightline("chat", place / "run", *arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_json_is_exactly_one_object(place: Path, capsys: Captured) -> None:
    picture = place / "good.png"
    out = chat(
        place, capsys, "--image", picture, "--image", picture, "--prompt", "<image>?", "--max-new-tokens", 5, "--json"
    )
    assert out.count("\n") == 1
    found = json.loads(out)
    assert list(found) == ["answer", "answer_ids", "prompt_ids", "seconds"]
    assert isinstance(found["answer"], str)
    assert 1 <= len(found["answer_ids"]) <= 5
    assert found["prompt_ids"].count(-200) == 2
    assert all(isinstance(token, int) for token in found["prompt_ids"] + found["answer_ids"])
    assert found["seconds"] > 0
    assert chat(place, capsys, "--image", picture, "--prompt", "?", "--json").count("{") == 1


def test_the_printed_answer_is_that_of_json(place: Path, capsys: Captured) -> None:
    question = ("--image", place / "good.png", "--prompt", "What color?", "--max-new-tokens", 8)
    assert chat(place, capsys, *question).strip() == json.loads(chat(place, capsys, *question, "--json"))["answer"]


def test_chat_draws_where_it_looked(place: Path, capsys: Captured, tmp_path: Path) -> None:
    target = tmp_path / "where.png"
    question = ("--image", place / "good.png", "--prompt", "What?", "--max-new-tokens", 4)
    plain = chat(place, capsys, *question)
    assert sightline("chat", place / "run", *question, "--explain", target) == 0
    captured = capsys.readouterr()
    assert captured.out == plain
    assert captured.err == f"where it looked: {target}\n"
    with Image.open(target) as image:
        assert image.format == "PNG"


def test_a_system_text_and_a_text_without_picture_reach_the_prompt(place: Path, capsys: Captured) -> None:
    def prompt_ids(*more: object) -> list[int]:
        out = chat(place, capsys, "--prompt", "Why?", "--json", "--max-new-tokens", 1, *more)
        return list(json.loads(out)["prompt_ids"])

    assert -200 not in prompt_ids()
    assert prompt_ids("--system", "Be brief.") != prompt_ids()


def test_drawn_answers_repeat_with_a_seed(place: Path, capsys: Captured) -> None:
    def answer(seed: int) -> str:
        drawing = ("--temperature", 1.5, "--top-p", 0.9, "--top-k", 200, "--seed", seed)
        return chat(place, capsys, "--prompt", "Tell me.", "--max-new-tokens", 12, *drawing)

    assert answer(1) == answer(1) != answer(2)


def test_without_a_prompt_it_is_a_conversation(place: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("What?\n/history\n/exit\nnever asked\n"))
    out = chat(place, capsys, "--image", place / "good.png", "--max-new-tokens", 3)
    assert "user: [picture]\nWhat?" in out
    assert "never asked" not in out


def test_evaluate_prints_a_table_or_one_object_and_compare_puts_runs_together(place: Path, capsys: Captured) -> None:
    arguments = ("evaluate", place / "run", "short-answers", "--data", place / "good", "--out", place / "new")
    assert sightline(*arguments, "--blind", "grey") == 0
    captured = capsys.readouterr()
    assert "accuracy" in captured.out
    assert "blind: short-answers" in captured.out
    assert "answered 1 of 1 questions" in captured.err
    assert {path.name for path in (place / "new" / "short-answers").iterdir()} >= {"answers.jsonl", "report.html"}
    assert sightline(*arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)["short-answers"]
    assert (found["model"], found["asked"], found["results"]["official"]["n"]) == ("run", 1, 1)
    assert sightline("compare", place / "new", place / "new", "--output", place / "page") == 0
    assert capsys.readouterr().out.count("\nrun ") == 2
    assert (place / "page" / "compare.html").is_file()
    assert sightline(*arguments, "--max-new-tokens", 3) == 2
    assert "give another --out" in capsys.readouterr().err


def test_describe_counts_without_weights(place: Path, capsys: Captured) -> None:
    assert sightline("describe", place / "recipe.yaml", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tokens_per_image"] == 16
    assert found["parts"]["vision"]["trained"] == 0 < found["parts"]["connector"]["trained"]
    assert sightline("describe", place / "recipe.yaml") == 0
    assert "connector" in capsys.readouterr().out


def test_train_prints_the_directory_which_then_answers(place: Path, capsys: Captured) -> None:
    assert sightline("train", place / "recipe.yaml") == 0
    assert capsys.readouterr().out == f"{place / 'trained'}\n"
    assert sightline("chat", place / "trained", "--image", place / "good.png", "--prompt", "What?", "--json") == 0
    assert json.loads(capsys.readouterr().out)["prompt_ids"].count(-200) == 1
    assert sightline("train", place / "recipe.yaml") == 0, "a finished run is left as it is"
    assert capsys.readouterr().out == f"{place / 'trained'}\n"
    assert sightline("train", place / "recipe.yaml", "seed=1") == 2
    assert "another recipe" in capsys.readouterr().err
