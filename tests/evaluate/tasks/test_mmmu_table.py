"""MMMU from its Parquet files: prompts, pictures in their places, answers, upload."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from sightline.data.image import open_image
from sightline.data.processor import Processor
from sightline.data.sample import ImageRef, Turn
from sightline.errors import ConfigError, DataError
from sightline.evaluate.answering import Asked, answers, prompt_ids
from sightline.evaluate.blind import blinded
from sightline.evaluate.evaluation import Options, evaluate_exam, headline
from sightline.evaluate.exam import Exam, open_exam
from sightline.infer.chat import stop_rule
from sightline.infer.generate import Prompt, generate
from sightline.infer.sampling import Sampling
from tests.evaluate.exams import Parrot, make
from tests.tiny_checkpoint import tiny_assistant

pytest.importorskip("pyarrow", reason="pyarrow (the extra parquet) is not installed")

PROMPTS = [
    "Who painted <image 1>?\n(A) Ann\n(B) Bo\n\nAnswer with the option's letter from the given choices directly.",
    (
        "From <image 2> to?\n(A) <image 3>\n(B) none\n(C) <image 9>\n\n"
        "Answer with the option's letter from the given choices directly."
    ),
    "<image 1> How many?\nAnswer the question using a single word or phrase.",
]
"""As MMMU's script for LLaVA-1.5 makes them."""


@pytest.fixture
def exam(tmp_path: Path) -> Exam:
    make("mmmu", tmp_path / "mmmu")
    return open_exam("mmmu", tmp_path)


def test_the_validation_split_is_asked_with_every_picture_in_its_place(exam: Exam) -> None:
    assert {path.name for path in exam.files} == {"validation-00000-of-00001.parquet"}
    assert [one.prompt for one in exam.asked] == [row["prompt"] for row in exam.rows] == PROMPTS
    assert [len(one.pictures) for one in exam.asked] == [1, 3, 1]
    assert exam.asked[1].pieces == [
        0, "\n", "From ", 1, " to?\n(A) ", 2, "\n(B) none\n(C) ", "<image 9>",
        "\n\nAnswer with the option's letter from the given choices directly.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "pictures", "marked", "pieces"),
    [
        ("a <image 1>", 1, False, [0, "a <image 1>"]),
        ("a <image 1>", 0, False, ["a <image 1>"]),
        ("a <image 1> b", 1, True, ["a ", 0, " b"]),
        ("<image 1><image 1>", 1, True, ["", 0, "", 0, ""]),
        ("<image 2> <image 0>", 2, True, [0, "\n", "", 1, " ", "<image 0>", ""]),
        ("<image  1> <image x>", 1, True, [0, "\n", "<image  1> <image x>"]),
        ("a", 2, True, [0, "\n", 1, "\n", "a"]),
    ],
)
def test_where_pictures_stand(words: str, pictures: int, marked: bool, pieces: list[str | int]) -> None:
    assert Asked(0, words, tuple(Path(str(at)) for at in range(pictures)), marked).pieces == pieces


def by_hand(processor: Processor, one: Asked, content: tuple[str | ImageRef, ...], order: list[int]) -> Prompt:
    seen: list[Image.Image] = [open_image(one.pictures[at]) for at in order]
    return Prompt(ids=processor.prompt([Turn(role="user", content=content)]), pixels=processor.pixels(seen))


def test_a_model_sees_them_there(exam: Exam) -> None:
    """A single picture stands in front of its words, as in all of LLaVA's data."""
    model, processor = tiny_assistant()
    found: dict[int, str] = {}
    for group in answers(model, processor, exam.asked, max_new_tokens=5, batch=3):
        found |= group
    suffix = "\n\nAnswer with the option's letter from the given choices directly."
    first, second, _ = exam.asked
    contents = [
        by_hand(processor, first, (ImageRef(index=0), f"\nWho painted ?\n(A) Ann\n(B) Bo{suffix}"), [0]),
        by_hand(
            processor, second,
            (
                ImageRef(index=0), "\nFrom ", ImageRef(index=1), " to?\n(A) ", ImageRef(index=2),
                f"\n(B) none\n(C) <image 9>{suffix}",
            ),
            [0, 1, 2],
        ),
    ]  # fmt: skip
    stop = stop_rule(processor)
    for at, prompt in enumerate(contents):
        assert prompt_ids(processor, exam.asked[at]) == prompt.ids
        (ids,) = generate(model, [prompt], sampling=Sampling(max_new_tokens=5), stop=stop)
        assert found[at] == stop.text(ids).strip()


def test_a_prompt_without_room_is_answered_by_nothing_and_told(exam: Exam) -> None:
    model, processor = tiny_assistant()
    lengths = sorted(len(prompt_ids(processor, one)) for one in exam.asked)
    model, processor = tiny_assistant(context=lengths[-1])
    said: list[str] = []
    found: dict[int, str] = {}
    for group in answers(model, processor, exam.asked, max_new_tokens=5, batch=3, say=said.append):
        found |= group
    assert sorted(found) == [0, 1, 2]
    assert found[1] == ""
    assert said == [
        f"1 of 3 prompts take more than the model's {lengths[-1]:,} positions: answered by nothing"
    ]  # fmt: skip


def test_answers_are_scored_reported_and_written_for_the_server(exam: Exam, tmp_path: Path) -> None:
    told = {0: "(B)", 1: "B", 2: "The answer is 12."}
    outcome = evaluate_exam(exam, Parrot(told), tmp_path / "out", Options(blind="swap"), say=lambda line: None)
    assert outcome is not None
    assert outcome.result is not None
    assert headline(outcome.result) == (pytest.approx(200 / 3), True)
    assert outcome.result.figures["subject"] == {"Art": 50.0, "Math": 100.0}
    upload = json.loads((tmp_path / "out" / "mmmu_upload.json").read_text())
    assert upload == {"validation_Art_1": "B", "validation_Art_2": "B", "validation_Math_7": "The answer is 12."}
    page = (tmp_path / "out" / "report.html").read_text()
    assert '"pictures": [1, 2, 3]' in page


def test_a_blind_run_shows_as_many_other_pictures(exam: Exam) -> None:
    for how in ("swap", "grey"):
        found = blinded(exam.asked, how)
        assert [len(one.pictures) for one in found] == [1, 3, 1]
        assert all(
            a != b
            for old, new in zip(exam.asked, found, strict=True)
            for a, b in zip(old.pictures, new.pictures, strict=True)
        )


def test_another_split_is_chosen_by_name(exam: Exam, tmp_path: Path) -> None:
    files = open_exam("mmmu", tmp_path, split="test-").files
    assert {path.name for path in files} == {"test-00000-of-00001.parquet"}
    assert [path.parent.name for path in open_exam("mmmu", tmp_path, split="Math/valid").files] == ["Math"]


def test_damaged_files_and_a_missing_library_are_one_line(
    exam: Exam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import Table, parquet

    path = exam.files[0]
    whole = parquet.read_table(path)
    parquet.write_table(whole.drop_columns(["image_7"]), path)
    with pytest.raises(DataError, match="Art/validation-.*: no column image_7"):
        open_exam("mmmu", tmp_path)
    rows = whole.to_pylist()
    rows[0]["image_2"], rows[0]["image_1"] = rows[0]["image_1"], None
    parquet.write_table(Table.from_pylist(rows, schema=whole.schema), path)
    with pytest.raises(DataError, match="validation_Art_1: its pictures are not image_1 to image_1"):
        open_exam("mmmu", tmp_path)
    rows[0]["image_2"] = None
    parquet.write_table(Table.from_pylist(rows, schema=whole.schema), path)
    with pytest.raises(DataError, match="validation_Art_1: no picture"):
        open_exam("mmmu", tmp_path)
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match="Art/validation-.*: no Parquet file, or a damaged one"):
        open_exam("mmmu", tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"reading Parquet needs pyarrow: pip install 'sightline\[parquet\]'"):
        open_exam("mmmu", tmp_path)
