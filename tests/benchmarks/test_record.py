"""Figures as tables and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.record import MOST_COLUMNS, Record, Table, cell, commit, machine, markdown, upright
from rich.console import Console


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0.000"),
        (0.12345, "0.123"),
        (1.23456, "1.23"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (3e-7, "3.0e-07"),
        (12345, "12,345"),
        (True, "yes"),
        (None, "-"),
        ("words", "words"),
    ],
)
def test_a_figure_has_the_digits_that_count(value: object, written: str) -> None:
    assert cell(value) == written


def test_wide_rows_become_columns() -> None:
    rows = [{"against": name, **{f"figure {number}": number for number in range(MOST_COLUMNS)}} for name in "ab"]
    turned = upright(rows)
    assert turned[0] == {"against": "figure 0", "a": 0, "b": 0}
    assert len(turned) == MOST_COLUMNS
    narrow = [{"what": "x", "seconds": 1.0}]
    assert upright(narrow) == narrow


def test_a_file_tells_the_machine_beside_the_figures_and_grows_table_by_table(tmp_path: Path) -> None:
    record = Record("all", tmp_path / "bench", Console(quiet=True))
    for number in (1, 2):
        record.add("train", Table(title="t", rows=[{"what": "x", "seconds": float(number)}], details=[{"step": 1}]))
        written = json.loads(record.path.read_text())
        rows = [table["rows"] for table in written["results"]["train"]]
        assert rows == [[{"what": "x", "seconds": float(each)}] for each in range(1, number + 1)]
    assert {"date", "commit", "cpu", "cores", "threads", "memory_gib", "load", "versions"} <= set(written["machine"])
    page = record.path.with_suffix(".md").read_text()
    assert "| x | 1.00 |" in page
    assert "| x | 2.00 |" in page


def test_markdown_has_a_header_a_rule_and_the_rows() -> None:
    assert markdown(Table(title="t", rows=[{"a": 1}, {"b": 2}])).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | - |",
        "| - | 2 |",
    ]


def test_the_machine_names_its_versions() -> None:
    assert {"torch", "transformers"} <= set(machine()["versions"])
    assert commit()
