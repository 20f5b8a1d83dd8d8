"""Answers in whatever shape they come, and the one line for each that cannot be read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.evaluate.result_files import ID, read_rows, read_table

ROWS = [{"question_id": 1, "text": "yes"}, {"question_id": 2, "text": "no"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"question_id": 1, "text": "yes"}\n\n{"question_id": 2, "text": "no"}\n', [(1, "yes"), (2, "no")]),
        ('{"question_id": 1, "text": "yes"}', [(1, "yes")]),
        ('[{"question_id": 1, "answer": "yes"}]', [(1, "yes")]),
        ('\ufeff[{"question_id": 1, "caption": "yes"}]', [(1, "yes")]),
        ('[{"question_id": 1, "answer": ["yes"]}]', [(1, "yes")]),
        ('{"1": "yes", "2": 2}', [("1", "yes"), ("2", "2")]),
        ("question_id\tprediction\n1\tyes\n", [("1", "yes")]),
        ('question_id,prediction\n1,"yes, it\nis"\n', [("1", "yes, it\nis")]),
        ('{"question_id": 1, "text": "a\\u2028b"}\n{"question_id": 2, "text": "no"}', [(1, "a\u2028b"), (2, "no")]),
    ],
)
def test_shapes(tmp_path: Path, content: str, expected: list[tuple[object, str]]) -> None:
    (tmp_path / "x").write_text(content)
    rows = read_rows([tmp_path / "x"])
    assert [(row.fields.get("question_id", row.fields.get(ID)), row.text) for row in rows] == expected


def test_several_files_are_one(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps(row))
    assert [row.text for row in read_rows([tmp_path / "0.jsonl", tmp_path / "1.jsonl"])] == ["yes", "no"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no answers in it"),
        (b"[]", "no answers in it"),
        (b"{}", "no answers in it"),
        (b'{"question_id": 1, "text": "caf\xe9"}', "x:1: not UTF-8: byte 0xe9 at offset 31"),
        (b'{"question_id": 1, "text": "yes"}\n{"question', "x:2: not JSON"),
        (b'{"question_id": 1, "text": "yes"}\n[1]\n', "x:2: expected an answer with its id, found [1]"),
        (b'{"question_id": 1, "text": 4}\n', "x:1: text: expected a text, found 4"),
        (b'[{"question_id": 1, "reply": "yes"}]', "x: element 0: no answer: none of text, prediction, answer, caption"),
        (b'{"1": {"a": 1}}', "expected answers as {id: text}, found {'a': 1} under '1'"),
        (b'"yes"', "expected answers, found 'yes'"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{", "x:1: not JSON"),
    ],
)
def test_refusals(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_rows([tmp_path / "x"])
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: no such file"):
        read_rows([tmp_path / "none"])


MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
SHEET = f"""<worksheet {MAIN}><sheetData>
<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>prediction</t></is></c>
<c r="C1" t="s"><v>1</v></c></row>
<row r="2"><c r="A2"><v>241</v></c><c r="B2" t="s"><v>2</v></c></row>
<row r="3"><c r="A3"><v>1000241.0</v></c><c r="C3" t="str"><v>x</v></c></row>
<row r="4"/>
</sheetData></worksheet>"""
SHARED = f"""<sst {MAIN}><si><t>index</t></si><si><t>note</t></si>
<si><r><t>A. </t></r><r><t>red</t></r><rPh><t>z</t></rPh></si></sst>"""


def xlsx(path: Path, **parts: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/") + ".xml", content)
    return path


def test_the_sheet_of_an_xlsx_file(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "a.xlsx", xl__worksheets__sheet1=SHEET, xl__sharedStrings=SHARED)
    assert read_table(path) == [
        {"index": "241", "prediction": "A. red", "note": ""},
        {"index": "1000241", "prediction": "", "note": "x"},
    ]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"word__document": "<a/>"}, "no sheet in it"),
        ({"xl__worksheets__sheet1": "<a"}, "not a whole xlsx file"),
        ({"xl__worksheets__sheet1": f"<worksheet {MAIN}/>"}, "its first sheet is empty"),
        ({"xl__worksheets__sheet1": SHEET, "xl__sharedStrings": f"<sst {MAIN}/>"}, "not a whole xlsx file"),
    ],
)
def test_other_zip_files(tmp_path: Path, parts: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_table(xlsx(tmp_path / "a.xlsx", **parts))
