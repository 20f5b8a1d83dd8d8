"""Card, report and page say what was counted, and what somebody wrote stays text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from sightline.ask.budget import Cost
from sightline.ask.ledger import Count
from sightline.synth.card import Licences, Report, write_card
from sightline.synth.context import Context
from sightline.synth.export import DATA, write_data
from sightline.synth.grammar import Pair, write_pairs
from sightline.synth.page import write_page
from tests.synth.samples import YARD
from tests.synth.test_export import answer

NASTY = "<script>alert(1)</script> & | more"


def report_of(folder: Path, context: Context, text: str = "A dog sleeps | here.", **changes: object) -> Report:
    pairs = write_pairs([Pair("What is there?", text), Pair(NASTY, "Two dogs are sleeping.")])
    export = write_data([answer(context, "conversation", pairs)], folder / DATA)
    report = Report(
        source={"format": "coco", "path": "a|b.json", "contexts": 3, "left_out": {"box_degenerate": 2}},
        settings={"seed": 0},
        counts=[
            Count("conversation", "accepted", "", 1),
            Count("conversation", "rejected", "grammar", 2),
            Count("conversation", "dead", "timeout", 1),
            Count("conversation", "pending", "", 9),
        ],
        rejections={"grammar": 5},
        spending=Cost(1000, 200, 1_230_000_000_000),
        export=export,
        licences=Licences(data="cc-by-4.0"),
    )
    return replace(report, **changes)  # type: ignore[arg-type]


def test_the_card_tells_what_was_asked_accepted_and_thrown_away(tmp_path: Path) -> None:
    card = write_card(report_of(tmp_path, YARD), "yard")
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "cc-by-4.0"
    assert head["configs"][0]["data_files"] == DATA
    assert "| conversation | 4 | 1 | 1 | 2 | 25.0% | 4.0 |" in card
    assert "| `grammar` | 5 | not in the form that was asked for |" in card
    assert "| `timeout` | 1 | no reply |" in card
    assert "| left out: box_degenerate | 2 |" in card
    assert "| conversation | `painter-1` | `v1` | 1 |" in card
    assert "1,000 tokens of prompts, 200 of replies, 1.23" in card
    assert "| pictures | not stated |" in card
    assert "a\\|b.json" in card


def test_the_report_is_for_programs(tmp_path: Path) -> None:
    found = report_of(tmp_path, YARD).to_json()
    assert found["samples"] == {"conversation": 1}
    assert found["cost"] == pytest.approx(1.23)
    assert found["editions"] == {"conversation": [{"model": "painter-1", "prompts": "v1", "samples": 1}]}
    assert found["questions"][1] == {"kind": "conversation", "state": "rejected", "reason": "grammar", "count": 2}


def test_on_the_page_everything_is_text(tmp_path: Path) -> None:
    hostile = replace(YARD, captions=(NASTY,), id=NASTY)
    page = write_page(report_of(tmp_path, hostile, NASTY), name=NASTY, images=None)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert "dog: [0.100, 0.600, 0.300, 0.800]" in page
    assert "left: 10.00%; top: 60.00%; width: 20.00%; height: 20.00%" in page


def test_the_page_shows_the_picture_where_there_is_one(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "dogs.png")
    report = report_of(tmp_path, replace(YARD, image="dogs.png"))
    assert "data:image/jpeg;base64," in write_page(report, name="yard", images=tmp_path)
    assert 'class="empty"' in write_page(report, name="yard", images=None)
    outside = report_of(tmp_path, replace(YARD, image="../dogs.png"))
    (tmp_path / "in").mkdir()
    assert "data:image" not in write_page(outside, name="yard", images=tmp_path / "in")
