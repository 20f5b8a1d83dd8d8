"""`sightline score`: whole files in, figures out, and one line for files that do not belong together."""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.evaluate.result_files import read_rows
from sightline.evaluate.score import files_of, score_files
from sightline.evaluate.tasks.registry import TASKS
from tests.command_line import Captured, assert_refused, sightline
from tests.evaluate.files import Place


def annotations(*ids: int) -> dict[str, Any]:
    return {"annotations": [{"question_id": n, "image_id": n, "answers": [{"answer": "yes"}] * 10} for n in ids]}


def answers(**texts: str) -> list[dict[str, Any]]:
    return [{"question_id": int(key[1:]), "answer": text} for key, text in texts.items()]


TRUTH = {"truth.json": annotations(1, 2, 3)}
WHOLE = answers(q1="yes", q2="no", q3="yes")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    place = Place(tmp_path)
    place.write("truth.json", TRUTH["truth.json"])
    place.write("whole.json", WHOLE)
    return place


@pytest.mark.parametrize(
    ("given", "counts", "words"),
    [
        (WHOLE[:2], (1, 0, 0), "1 of 3 questions have no answer (3 first): the original refuses such a file"),
        ([*WHOLE, {"question_id": 9, "answer": "x"}], (0, 1, 0), "1 answers are to no question of the annotations"),
        ([*WHOLE, WHOLE[0]], (0, 0, 1), "1 answers are to a question answered before (answers.json: element 3 first)"),
    ],
)
def test_faulty_files_are_counted_told_of_and_refused_if_strict(
    place: Place, given: Any, counts: tuple[int, int, int], words: str
) -> None:
    found = place.score("vqav2", given, TRUTH)
    assert (found.missing, found.extra, found.doubled) == counts
    assert words in found.notes[0].replace(f"{place.folder}/", "")
    assert (found.figures["overall"] is None) == bool(found.missing)
    with pytest.raises(DataError, match="--strict takes none of these"):
        place.score("vqav2", given, TRUTH, strict=True)


def test_of_two_answers_to_a_question_the_last_counts(place: Place) -> None:
    found = place.score("vqav2", [*WHOLE, {"question_id": 2, "answer": "yes"}], TRUTH)
    assert found.figures["overall"] == 100


def test_a_whole_file_passes_strict(place: Place) -> None:
    found = place.score("vqav2", WHOLE, TRUTH, strict=True)
    assert (found.n, found.answered, found.notes) == (3, 3, ())
    assert found.figures["overall"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("arguments", "content", "words"),
    [
        ("vqa2 --predictions whole.json", "", "no task 'vqa2'; did you mean \"vqav2\""),
        ("vqav2 --predictions none.json --annotations truth.json", "", "none.json: no such file"),
        ("vqav2 --predictions whole.json --annotations none.json", "", "none.json: no such file"),
        ("vqav2 --predictions whole.json --annotations whole.json", "", "whole.json: expected a file of VQA"),
        ("vqav2 --predictions x --annotations truth.json", "", "x: no answers in it"),
        ("vqav2 --predictions x --annotations truth.json", "\udcff", "x:1: not UTF-8: byte 0xff at offset 0"),
        ("vqav2 --predictions x --annotations truth.json", '{"9": "yes"}', "is it another split?"),
        ("vqav2 --predictions whole.json --annotations x", '{"questions": [{"question_id": 1}]}', "benchmark's server"),
        ("vqav2 --predictions whole.json --annotations truth.json --protocol lmm", "", 'did you mean "lmms"'),
        ("okvqa --predictions whole.json --annotations truth.json --protocol llava15", "", "okvqa has official, lmms"),
        ("vqav2 --predictions whole.json", "", "vqav2: needs --annotations"),
        ("vqav2 --predictions empty --annotations truth.json", "", "empty: no files in this folder"),
        ("mmvet --predictions x", '{"v1_0": {"score": [1]}}', "needs --annotations mm-vet.json"),
        ("gqa --predictions whole.json --annotations truth.json", "", "expected GQA's"),
        ("scienceqa --predictions whole.json --annotations truth.json", "", "expected ScienceQA's"),
        ("pope --predictions whole.json --annotations truth.json", "", "expected a file of POPE"),
        ("mmbench --predictions whole.json --annotations truth.json", "", "expected a table of MMBench"),
        ("seedbench --predictions whole.json --annotations truth.json", "", "expected SEED-Bench.json"),
        ("textvqa --predictions whole.json --annotations truth.json", "", "expected TextVQA"),
        ("vizwiz --predictions whole.json --annotations truth.json", "", "expected a file of VizWiz"),
        ("mme --predictions whole.json --annotations truth.json", "", "truth.json:1: expected picture, question"),
        ("textcaps --predictions whole.json --annotations whole.json", "", "expected captions"),
        ("chartqa --predictions whole.json --annotations truth.json", "", "expected ChartQA's"),
        ("docvqa --predictions whole.json --annotations truth.json", "", "expected DocVQA's"),
        ("ocrvqa --predictions whole.json --annotations truth.json", "", "expected OCR-VQA's"),
        (
            "mmmu --predictions whole.json --annotations truth.json",
            "",
            "truth.json: an entry is not as MMMU has them (TypeError",
        ),
        ("seedbench --predictions whole.json --annotations x", '{"questions": [1]}', "an entry is not as SEED-Bench"),
        ("textvqa --predictions whole.json --annotations x", '{"data": [1]}', "an entry is not as TextVQA has them"),
        ("vqav2 --predictions whole.json --annotations x", '{"annotations": []}', "x: no questions in it"),
    ],
)
def test_mistakes_are_one_line(place: Place, capsys: Captured, arguments: str, content: str, words: str) -> None:
    (place.folder / "x").write_text(content, errors="surrogateescape")
    (place.folder / "empty").mkdir()
    assert_refused(capsys, f"score {arguments}", words)


def test_the_command_prints_a_table_and_notes(place: Place, capsys: Captured) -> None:
    place.write("part.json", WHOLE[:2])
    assert sightline("score", "vqav2", "--predictions", "part.json", "--annotations", "truth.json") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:3] == [
        "vqav2, protocol official: N1 on both sides unless the annotators agree, then literally",
        "3 questions, 2 answered, 1 missing, 0 unparsable",
        "overall        null",
    ]
    assert "overall       50.00" in said.out
    assert said.err.startswith("sightline: 1 of 3 questions have no answer")


def test_the_command_compares_two_files_and_writes_every_score(place: Place, capsys: Captured) -> None:
    place.write("other.json", answers(q1="no", q2="yes", q3="no"))
    options = ["--annotations", "truth.json", "--against", "other.json", "--output", "scores.jsonl", "--json"]
    assert sightline("score", "vqav2", "--predictions", "whole.json", *options) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == pytest.approx(200 / 3)
    assert (found["against"]["wins"], found["against"]["losses"], found["against"]["p_value"]) == (2, 1, 1)
    lines = [json.loads(line) for line in (place.folder / "scores.jsonl").read_text().splitlines()]
    assert lines == [{"id": "1", "score": 1}, {"id": "2", "score": 0}, {"id": "3", "score": 1}]


def test_a_folder_stands_for_its_files(place: Place) -> None:
    for number, row in enumerate(WHOLE):
        place.write(f"chunks/{number}.jsonl", [row])
    found = score_files("vqav2", [place.folder / "chunks"], [place.folder / "truth.json"])
    assert found.answered == 3
    assert [path.name for path in files_of([place.folder / "chunks"])] == ["0.jsonl", "1.jsonl", "2.jsonl"]


def test_every_task_has_official_rules_and_says_what_they_are() -> None:
    for name, task in TASKS.items():
        assert task.name == name
        assert "official" in task.protocols
        assert all(rules.says for rules in task.protocols.values())


def test_scoring_imports_no_model() -> None:
    program = "import sys, sightline.evaluate.score, sightline.cli; print({'torch', 'transformers'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_reading_many_answers_keeps_their_places(tmp_path: Path) -> None:
    path = Place(tmp_path).write("a.jsonl", [{"question_id": n, "text": "x"} for n in range(3)])
    assert [row.place for row in read_rows([path])] == [f"{path}:{n}" for n in (1, 2, 3)]


def test_the_collector_is_on_again_after_a_mistake(place: Place) -> None:
    assert gc.isenabled()
    with pytest.raises(DataError):
        score_files("vqav2", [place.folder / "none.json"], [place.folder / "truth.json"])
    assert gc.isenabled()


def test_vqav2_is_scored_at_10_000_answers_a_second(tmp_path: Path) -> None:
    """200,000 within 20 seconds on one core, in processor time, reading included."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(("red", "a", "t-shirt", "two", "1,000", "man's", "sign"), k=2)) for _ in range(3000)]
    truths = [
        {
            "question_id": n,
            "question_type": "what",
            "answer_type": "other",
            "answers": [{"answer": one} for one in given],
        }
        for n, given in enumerate(rng.choices(texts, k=10) for _ in range(20_000))
    ]
    place = Place(tmp_path)
    truth = place.write("truth.json", {"annotations": truths})
    answers = place.write("a.jsonl", [{"question_id": n, "text": rng.choice(texts)} for n in range(20_000)])
    start = time.process_time()
    found = score_files("vqav2", [answers], [truth])
    assert time.process_time() - start < 2
    assert found.answered == 20_000
