"""The page about converting says what there is: formats, splits, files, options, reasons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sightline.convert.catalogue import FORMATS
from sightline.convert.formats import CHOICES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "convert.md").read_text()


@pytest.mark.parametrize("name", FORMATS)
def test_the_page_has_a_row_for_the_format_with_its_splits_and_options(name: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith("| `") and f"`{name}`" in line.split("|")[1])
    _, _, files, splits, options, *_ = row.split("|")
    dataset = FORMATS[name]
    assert re.findall(r"\w+", splits) == list(dataset.splits)
    flags = {"--no-ocr" if key == "ocr" else "--" + key.replace("_", "-") for key in dataset.defaults}
    assert set(re.findall(r"--[\w-]+", options)) == flags
    named = re.sub(r"\{[^}]*\}", "train", dataset.files)
    assert all(file in named or file.startswith("Validation") for file in re.findall(r"`([^`]+)`", files))


@pytest.mark.parametrize("option", CHOICES)
def test_the_page_names_every_value_of_an_option(option: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `--{option} "))
    assert all(f"`{value}`" in row for value in CHOICES[option])


def test_the_page_names_every_reason() -> None:
    code = "".join(path.read_text() for path in (ROOT / "src" / "sightline" / "convert").glob("*.py"))
    made = (r'LeftOut\(reason="(\w+)"', r'reason="\w+" if \w+ else "(\w+)"', r'reason = "(\w+)"', r'return "(\w+_\w+)"')
    reasons = {reason for pattern in made for reason in re.findall(pattern, code)}
    assert {"other_split", "answer_empty", "question_empty", "choice_empty", "picture_unknown"} <= reasons
    assert {reason for reason in reasons if f"`{reason}`" not in PAGE} == set()
