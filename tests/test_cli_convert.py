"""`sightline convert`: counts on stderr and as JSON, one line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.convert.catalogue import FORMATS
from tests.command_line import Captured, assert_refused, sightline
from tests.convert.official import write
from tests.convert.test_core import write_books


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three books of OCR-VQA, one answer empty, and a file that is cut short."""
    books = json.loads(write_books(tmp_path / "books", 3).read_text())
    books["0001"]["answers"][1] = ""
    write(tmp_path / "books", "dataset.json", books)
    write(tmp_path, "cut.json", '{"1": {"questions": ["Wh')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_is_named_on_stdout_and_the_counts_on_stderr(place: Path, capsys: Captured) -> None:
    assert sightline("convert", "ocrvqa", "books", "made.json") == 0
    out, err = capsys.readouterr()
    assert out == "made.json\n"
    assert "3 samples about 3 pictures, 5 exchanges; 5 of 6 units used\n" in err
    assert "left out: 1 answer_empty, first books/dataset.json:1: entry 0001\n" in err
    assert len(json.loads((place / "made.json").read_text())) == 3


def test_the_counts_as_json(place: Path, capsys: Captured) -> None:
    assert sightline("convert", "ocrvqa", "books/dataset.json", "made.jsonl", "--sample", 2, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["format"], report["file"], report["samples"]) == ("ocrvqa", "made.jsonl", 2)
    assert report["units"] == report["used"] + sum(reason["count"] for reason in report["left_out"].values())


def test_the_mixture_is_reported_beside_the_published_counts(place: Path, capsys: Captured) -> None:
    assert sightline("convert", "llava-665k", "books", "mix.json", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["parts"][5]["samples"] == 3
    assert "OCR-VQA                3 of    80,000  -79,997 against the published count\n" in err


def test_the_list_names_every_format(capsys: Captured) -> None:
    assert sightline("convert", "--list") == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{listed}" for name in (*FORMATS, "llava-665k"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param("convert", "--list shows the formats", id="nothing"),
        pytest.param("convert ocrvqa books", "FORMAT SRC DST", id="no target"),
        pytest.param("convert ocvqa books made.json", 'did you mean "ocrvqa"', id="misspelt format"),
        pytest.param("convert ocrvqa cut.json made.json", "cut.json:1: the file ends", id="cut short"),
        pytest.param("convert ocrvqa books made.json --split dev", "--split: ocrvqa has no 'dev'", id="unknown split"),
        pytest.param("convert ocrvqa books made.json --no-ocr", "--ocr: ocrvqa does not take it", id="option"),
        pytest.param("convert ocrvqa books made.json --images none", "--images: there is no folder none", id="images"),
        pytest.param("convert ocrvqa books made.json --sample 0", "--sample", id="sample of none"),
        pytest.param("convert ocrvqa books books", "books: is a folder", id="folder as target"),
        pytest.param("convert ocrvqa books books/dataset.json", "is the official file", id="source as target"),
        pytest.param("convert llava-665k books made.json --boxes unit", "--boxes: llava-665k is made as", id="mixture"),
        pytest.param("convert gqa books made.json", "found no train_balanced_questions.json", id="another dataset"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments: str, words: str, place: Path, capsys: Captured) -> None:
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert_refused(capsys, arguments, words)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
