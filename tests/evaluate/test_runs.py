"""Runs side by side, and with what was published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import DataError
from sightline.evaluate.runs import Row, columns_of, known_columns, published_rows, read_run, table, to_json
from sightline.evaluate.runs_page import write_page
from sightline.evaluate.tasks.registry import TASKS


def score(folder: Path, task: str, figures: dict[str, Any], *, protocol: str = "official", whole: bool = True) -> None:
    empty = dict.fromkeys(figures)
    results = {
        name: {
            "figures": figures if whole else empty,
            "answered_only": None if whole else figures,
            "metric": next(iter(figures)),
        }
        for name in {protocol, "official"}
    }
    path = folder / task / "score.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"task": task, "model": "ours", "protocol": "official", "results": results}))


def test_every_known_column_is_a_benchmark_and_has_a_published_figure() -> None:
    rows = published_rows()
    for column in known_columns():
        assert column.task in TASKS
        assert column.protocol is None or column.protocol in TASKS[column.task].protocols
        assert any(column.task in row.figures for row in rows)
        assert all(0 < row.figures.get(column.task, 1) <= column.top for row in rows)
    assert all(row.source and row.figures.keys() <= {column.task for column in known_columns()} for row in rows)


def test_figures_are_on_the_scale_that_papers_print(tmp_path: Path) -> None:
    score(tmp_path, "pope", {"mean_f1": 0.8595, "other": 1})
    score(tmp_path, "scienceqa", {"accuracy": 74.39, "IMG": 71.64})
    score(tmp_path, "gqa", {"accuracy": 63.3}, protocol="llava15")
    score(tmp_path, "short-answers", {"accuracy": 50.0}, whole=False)
    row = read_run(tmp_path)
    assert row.figures == pytest.approx({"pope": 85.95, "scienceqa": 71.64, "gqa": 63.3, "short-answers": 50.0})
    assert (row.name, row.partial) == ("ours", {"short-answers"})
    lines = table([row, *published_rows()]).split("\n")
    assert lines[0].split() == ["GQA", "SQA-I", "POPE", "short-answers"]
    assert lines[1].split() == ["ours", "63.3", "71.6", "86.0" if "86.0" in lines[1] else "85.9", "50.00*"]
    assert any(line.split() == ["LLaVA-1.5-7B", "62.0", "66.8", "85.9"] for line in lines)
    assert not any("LLaVA-1.0" in line for line in lines), "it has no figure in these columns"
    assert lines[-1].startswith("*")


def test_without_a_run_all_published_columns_are_shown() -> None:
    assert [column.title for column in columns_of(published_rows())] == [column.title for column in known_columns()]


def test_json_has_figures_sources_and_notes(tmp_path: Path) -> None:
    score(tmp_path, "pope", {"mean_f1": 0.5})
    found = to_json([read_run(tmp_path)])
    assert found["rows"][0]["figures"] == {"pope": 50.0}
    assert found["rows"][0]["source"] == str(tmp_path)
    assert found["notes"]


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*/score\.json in it"):
        read_run(tmp_path)
    (tmp_path / "pope").mkdir()
    (tmp_path / "pope" / "score.json").write_text("{}")
    with pytest.raises(DataError, match="not a score of ours"):
        read_run(tmp_path)


@pytest.mark.parametrize(("count", "radar"), [(2, False), (3, True)])
def test_the_page_holds_its_charts(count: int, radar: bool, tmp_path: Path) -> None:
    tasks = ("vqav2", "gqa", "pope")[:count]
    rows = [Row(name="<ours>", figures=dict.fromkeys(tasks, 60.0), source="here"), *published_rows()]
    page = write_page(rows, tmp_path).read_text()
    assert "&lt;ours&gt;" in page
    assert "<ours>" not in page
    assert page.count("data:image/png;base64,") == 1 + radar
    assert (tmp_path / "radar.png").exists() == radar
    assert "http" not in page
