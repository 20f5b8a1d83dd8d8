"""LLaVA-1.5's mixture: the published table, what is at hand beside it, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.convert.catalogue import FORMATS
from sightline.convert.mixture import PARTS, Line, report_json, report_lines, write_mixture
from sightline.data.parsing import read_samples
from sightline.errors import DataError
from tests.convert.official import write
from tests.convert.test_captions import write_textcaps
from tests.convert.test_choices import ASKED
from tests.convert.test_core import write_books
from tests.convert.test_questions import write_vqav2
from tests.convert.test_regions import region, write_refcoco, write_vg

CHAT = {"id": "1", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}


def test_the_table_is_the_published_one() -> None:
    assert sum(part.published for part in PARTS) == 665_298
    assert {name for part in PARTS for name in part.formats} <= set(FORMATS)


def write_parts(folder: Path) -> None:
    write_vqav2(folder / "vqav2")
    write_vqav2(folder, prefix="")  # OK-VQA's files lie in the folder itself
    write_books(folder / "ocrvqa", 3)
    write(folder / "aokvqa", "aokvqa_v1p0_train.json", [ASKED])
    write_textcaps(folder / "textcaps")
    write_refcoco(folder / "refcoco", [[1, 2, 300, 400]])
    write_refcoco(folder / "refcocog", [[1, 2, 300, 400]])
    write_vg(folder / "vg", [region(1, 1)])
    write(folder / "sharegpt", "sg_90k_part1.json", [CHAT])


def test_parts_at_hand_make_one_file_in_the_tables_order(tmp_path: Path) -> None:
    write_parts(tmp_path)
    lines = write_mixture(tmp_path, tmp_path / "mix.json", seed=0, images=None)
    samples = read_samples(tmp_path / "mix.json")
    assert [line.tally.samples for line in lines] == [0, 1, 2, 0, 2, 3, 4, 2, 2, 1]
    assert sum(line.tally.samples for line in lines) == len(samples) == 17
    assert samples[0].images == ()
    assert samples[-1].images == ("vg/VG_100K_2/1.jpg",)
    report = report_json(lines)
    assert (report["samples"], report["published"]) == (17, 665_298)
    parts = {part["part"]: part for part in json.loads(json.dumps(report["parts"]))}
    assert parts["VQAv2"]["published"] == 82_783
    assert parts["VQAv2"]["difference"] == 2 - 82_783
    assert list(parts["GQA"]["missing"]) == ["gqa"]
    assert "train_balanced_questions.json" in parts["GQA"]["missing"]["gqa"]
    assert list(parts["RefCOCO"]["missing"]) == ["refcoco+"]
    assert parts["TextCaps"]["left_out"]["other_caption"]["count"] == 1


def test_the_report_says_what_is_missing_and_what_differs(tmp_path: Path) -> None:
    write_parts(tmp_path)
    told = report_lines(write_mixture(tmp_path, tmp_path / "mix.json", seed=0, images=None))
    assert "GQA                    0 of    72,140  missing" in told
    assert "VQAv2                  2 of    82,783  -82,781 against the published count" in told
    assert "RefCOCO                2 of    48,447  without refcoco+" in told
    assert told[-1] == "together              17 of   665,298"
    assert any(line.startswith("  left out: 1 caption_empty") for line in told)


def test_a_count_as_published_is_said_so() -> None:
    line = Line(part=PARTS[4])
    line.tally.samples = 8_998
    assert line.line() == "OK-VQA             8,998 of     8,998  as published"
    line.tally.samples += 1
    assert line.line().endswith("+1 against the published count")


def test_the_same_parts_make_the_same_bytes(tmp_path: Path) -> None:
    write_parts(tmp_path)
    for name in ("a.json", "b.json"):
        write_mixture(tmp_path, tmp_path / name, seed=3, images=None)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_damaged_part_is_not_a_missing_one(tmp_path: Path) -> None:
    write_parts(tmp_path)
    write(tmp_path / "gqa", "train_balanced_questions.json", '{"1": {')
    with pytest.raises(DataError, match=r"train_balanced_questions\.json:1: the file ends"):
        write_mixture(tmp_path, tmp_path / "mix.json", seed=0, images=None)
    assert not (tmp_path / "mix.json").exists()


def test_a_folder_without_any_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sample is left"):
        write_mixture(tmp_path, tmp_path / "mix.json", seed=0, images=None)
    with pytest.raises(DataError, match="there is no such folder"):
        write_mixture(tmp_path / "none", tmp_path / "mix.json", seed=0, images=None)
