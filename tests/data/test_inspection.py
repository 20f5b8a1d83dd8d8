"""What is shown of a sample is what training makes of it; what training refuses is shown with the reason."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import LlamaTokenizer

from sightline.data.inspection import Inspection, in_rows, inspect_file, inspect_sample
from sightline.data.inspection_page import write_page
from sightline.data.inspection_terminal import print_json, print_samples
from sightline.data.processor import Processor
from sightline.data.sample import ImageRef, Sample, refusal
from sightline.data.tokens import COLLAPSED_IMAGE, IGNORE, collapse_images
from sightline.errors import DataError
from tests.data.conversations import sample_of
from tests.fakes import IMAGE_SIZE, PATCHES
from tests.tiny_checkpoint import SETTINGS, tiny_processor

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
TEMPLATES = {"v0": "v0", "v1": "vicuna_v1", "llama_2": "llava_llama_2", "plain": "plain"}
"""Names in the recordings -> ours."""

TURNS = ((ImageRef(index=0), "\nWhat is shown?"), "A car.", ("And ", ImageRef(index=1), "?"), "A bus.")


def recorded() -> list[Any]:
    if not PARITY.is_dir():
        return [pytest.param({}, marks=pytest.mark.skip(reason="no recorded tokens: ../shared/parity is absent"))]
    rows = [json.loads(line) for line in (PARITY / "tokens.jsonl").read_text().splitlines()]
    return [
        pytest.param(row, id=f"{row['template']}-{row['legacy']}-{row['sample']['id']}")
        for row in rows
        if row["template"] in TEMPLATES
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Image.new("RGB", (60, 40), (200, 30, 30)).save(tmp_path / "car.png")
    Image.new("L", (10, 30)).save(tmp_path / "bus.png")
    turned = Image.new("RGB", (60, 40))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    return tmp_path


def shown(*images: str, turns: Sequence[Any] = TURNS) -> Sample:
    return replace(sample_of(*turns), id="7", images=images, source="data.json:7")


def look(processor: Processor, sample: Sample, root: Path) -> Inspection:
    return inspect_sample(sample, processor, root=root)


def write(folder: Path, *records: Any) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def record(name: str, question: str = "Why?", answer: str = "So.", **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": turns, **more}


# ---- ids and labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", recorded())
def test_ids_labels_and_text_are_those_of_the_original(row: dict[str, Any], tmp_path: Path) -> None:
    original = PARITY / "llava-tiny-original"
    for name in ("tokenizer.model", "special_tokens_map.json"):
        shutil.copy(original / name, tmp_path / name)
    settings = json.loads((original / "tokenizer_config.json").read_text()) | {"legacy": row["legacy"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = LlamaTokenizer.from_pretrained(tmp_path)
    processor = Processor(tokenizer, replace(SETTINGS, template=TEMPLATES[row["template"]], max_length=2048))
    (seen,) = inspect_file(write(tmp_path, row["sample"]), processor, root=PARITY / "images")
    found = seen.to_json()
    assert found["id"] == row["sample"]["id"]
    assert found["input_ids"] == row["input_ids"]
    assert found["labels"] == row["labels"]
    assert found["supervised_text"] == row["supervised_text"]


@pytest.mark.parametrize(("family", "template"), [("qwen2.5", "own"), ("llama-2", "vicuna_v1"), ("mistral", "own")])
def test_ids_and_labels_are_those_of_training_with_each_picture_as_one(family: str, template: str, root: Path) -> None:
    processor = tiny_processor(family, template=template)
    sample = shown("car.png", "bus.png")
    encoded = processor.encode(sample)
    seen = look(processor, sample, root)
    collapsed = collapse_images(encoded.ids, image_token_id=processor.image_token_id, image_tokens=PATCHES)
    assert seen.input_ids == collapsed
    assert seen.input_ids.count(COLLAPSED_IMAGE) == 2
    assert [label for label in seen.labels if label != IGNORE] == [kept for kept in encoded.labels if kept != IGNORE]
    assert all(label in (IGNORE, id_) for id_, label in zip(seen.input_ids, seen.labels, strict=True))
    assert [id_ for segment in seen.segments for id_ in segment.ids] == encoded.ids
    assert seen.positions == len(encoded.ids)
    assert seen.share == seen.trained / len(encoded.ids)
    assert "A car." in seen.supervised_text
    assert "What" not in seen.supervised_text


def test_segments_lie_side_by_side_and_say_what_they_are(root: Path) -> None:
    seen = look(tiny_processor("llama-2", template="vicuna_v1"), shown("car.png", "bus.png"), root)
    assert [segment.kind for segment in seen.segments[:3]] == ["bos", "text", "picture"]
    assert seen.segments[2].text == "car.png"
    assert [segment.start for segment in seen.segments[1:]] == [segment.end for segment in seen.segments[:-1]]
    trained = [segment.text for segment in seen.segments if segment.trained]
    assert trained == [" A car.", "</s>", " A bus.", "</s>"]


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_pictures_come_with_their_sizes_and_what_the_model_sees(root: Path) -> None:
    first, second = look(tiny_processor(), shown("turned.jpg", "bus.png"), root).pictures
    assert (first.size, first.mode) == ((40, 60), "RGB"), "as a viewer shows it"
    assert (second.path, second.size, second.mode) == ("bus.png", (10, 30), "L")
    assert (second.policy, second.tiles, second.tile_size, second.tokens) == ("pad", 1, IMAGE_SIZE, PATCHES)
    assert second.fault is None


def test_a_missing_picture_is_named_and_the_ids_are_there_all_the_same(root: Path) -> None:
    processor = tiny_processor()
    seen = look(processor, shown("car.png", "none.png"), root)
    assert seen.refused is None
    assert seen.pictures[1].size is None
    (note,) = seen.notes
    assert "none.png" in note
    assert "image_missing" in note
    assert seen.input_ids == look(processor, shown("car.png", "bus.png"), root).input_ids


# ---- what cannot be used ---------------------------------------------------------------------------------------------


def test_an_answer_beyond_max_length_is_shown_as_refused(root: Path) -> None:
    sample = shown("car.png", turns=TURNS[:2])
    header = len(tiny_processor().prompt(sample.turns[:1]))
    seen = look(tiny_processor(max_length=header), sample, root)
    assert seen.refused is not None
    assert seen.refused.reason == "no_supervised_tokens"
    assert set(seen.labels) == {IGNORE}
    assert (seen.trained, seen.share, seen.supervised_text) == (0, 0.0, "")
    assert (seen.positions, seen.cut) == (header, seen.segments[-1].end - header)
    assert len(seen.input_ids) == header - PATCHES + 1


def test_an_answer_cut_in_the_middle_is_shown_cut(root: Path) -> None:
    sample = shown("car.png", turns=TURNS[:2])
    whole = len(tiny_processor().encode(sample).ids)
    seen = look(tiny_processor(max_length=whole - 2), sample, root)
    assert seen.refused is None
    assert (seen.cut, seen.positions) == (2, whole - 2)
    assert seen.labels == look(tiny_processor(), sample, root).labels[:-2]


def test_a_picture_that_does_not_fit_is_left_out_whole(root: Path) -> None:
    sample = shown("car.png", "bus.png")
    second = [segment for segment in look(tiny_processor(), sample, root).segments if segment.kind == "picture"][1]
    seen = look(tiny_processor(max_length=second.end - 1), sample, root)
    assert seen.refused is not None
    assert seen.refused.reason == "image_tokens_truncated"
    assert seen.input_ids.count(COLLAPSED_IMAGE) == 1
    assert len(seen.input_ids) == len(seen.labels)


def test_what_the_template_has_no_form_for_is_shown_with_the_reason(root: Path) -> None:
    seen = look(tiny_processor(template="plain"), shown("car.png", "bus.png"), root)
    assert seen.refused is not None
    assert seen.refused.reason == "plain_needs_one_exchange"
    assert (seen.input_ids, seen.positions, seen.trained) == ([], 0, 0)


def test_records_that_are_no_samples_stand_in_their_place(tmp_path: Path) -> None:
    bad = record("2") | {"conversations": []}
    data = write(tmp_path, record("1"), bad, ["none"], record("3"))
    seen = list(inspect_file(data, tiny_processor(), root=tmp_path))
    assert [one.id for one in seen] == ["1", "2", None, "3"]
    reasons = [one.refused.reason if one.refused else None for one in seen]
    assert reasons == [None, "conversation_invalid", "sample_not_object", None]
    assert seen[1].source == f"{data}:2"
    assert seen[1].to_json()["input_ids"] == []
    assert seen[1].to_json()["reason"] == "conversation_invalid"


# ---- which samples ---------------------------------------------------------------------------------------------------


def test_one_sample_by_its_id(tmp_path: Path) -> None:
    data = write(tmp_path, record("1"), record("2"), record("2", answer="Again."))
    processor = tiny_processor()
    assert [one.id for one in inspect_file(data, processor, root=tmp_path, only="2")] == ["2"]
    (again,) = inspect_file(data, processor, root=tmp_path, only="2#2")
    assert "Again." in again.supervised_text
    with pytest.raises(DataError, match='no sample with the id "9"'):
        list(inspect_file(data, processor, root=tmp_path, only="9"))


def test_the_file_is_read_no_further_than_asked(tmp_path: Path) -> None:
    data = tmp_path / "long.jsonl"
    with data.open("w") as file:
        file.writelines(json.dumps(record(str(number), answer="word " * 200)) + "\n" for number in range(3000))
        file.write("{broken")  # beyond the window of the reader, or it would say so
    seen = inspect_file(data, tiny_processor(), root=tmp_path, limit=5)
    assert [one.id for one in seen] == ["0", "1", "2", "3", "4"]


# ---- on paper --------------------------------------------------------------------------------------------------------


def printed(sample: Sample, processor: Processor, root: Path) -> str:
    out = io.StringIO()
    list(print_samples([look(processor, sample, root)], processor.tokenizer, out=out))
    return out.getvalue()


def test_the_terminal_tells_what_is_trained_without_colors(root: Path) -> None:
    lines = printed(shown("car.png", "none.png"), tiny_processor("llama-2", template="vicuna_v1"), root).splitlines()
    assert any("┃ ·A car." in line for line in lines), "the space is trained, and can be seen"
    assert not any("┃" in line and "What is shown?" in line for line in lines)
    assert any("[picture 1: car.png]" in line for line in lines)
    assert any("60 x 40 RGB, pad to 1 tile" in line for line in lines)
    assert any("image_missing" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_samples_are_shown_where_they_would_lie_in_packed_rows(root: Path) -> None:
    """Rows of a step are planned as training plans them; a refused sample lies nowhere."""
    processor = tiny_processor()
    short, long = shown(turns=("Why?", "So.")), shown("car.png", "bus.png")
    seen = [look(processor, sample, root) for sample in (short, long, short, short, long)]
    seen[2] = replace(seen[2], refused=refusal(short, DataError("no", reason="nothing_trained")))
    small, large = seen[0].positions, seen[1].positions
    found = list(in_rows(iter(seen), row_length=large + small, step=4))
    spans = [one.span and (one.span.row, one.span.start, one.span.end) for one in found]
    assert spans == [(0, 0, small), (0, small, small + large), None, (1, 0, small), (2, 0, large)]
    assert [replace(one, span=None) for one in found] == seen
    out = io.StringIO()
    list(print_samples(found, processor.tokenizer, out=out))
    assert f"{small} to {small + large} of packed row 0" in out.getvalue()


def test_words_cannot_command_the_terminal(root: Path) -> None:
    sample = replace(shown(turns=("[red]x[/red] :car: \u202e?", "Ok\x1b[2J.")), id="a\x1b]0;b\x07")
    out = printed(sample, tiny_processor(), root)
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[red]x[/red] :car:" in out
    assert "⟨U+202E⟩" in out


def test_json_is_one_array_of_one_line_each(root: Path) -> None:
    processor = tiny_processor()
    seen = [look(processor, shown("car.png", name), root) for name in ("bus.png", "none.png")]
    out, said = io.StringIO(), []
    assert list(print_json(iter(seen), out=out, say=said.append)) == seen
    found = json.loads(out.getvalue())
    assert [list(one)[:1] for one in found] == [["id"], ["id"]]
    assert found[0]["images"][1]["size"] == [10, 30]
    assert found[0]["pack"] is None
    assert len(out.getvalue().splitlines()) == 4
    assert len(said) == 1
    assert "none.png" in said[0]


def test_json_names_many_faults_briefly(root: Path) -> None:
    seen = look(tiny_processor(), shown("none.png", "gone.png"), root)
    said: list[str] = []
    list(print_json([seen] * 30, out=io.StringIO(), say=said.append))
    assert len(said) == 21
    assert said[-1] == "... and 40 more such lines"


def page(root: Path, seen: Iterator[Inspection] | Sequence[Inspection], processor: Processor, most: int = 9) -> str:
    path = root / "new" / "page.html"
    list(write_page(path, seen, processor, data=root / "data.jsonl", most=most, say=lambda line: None))
    return path.read_text()


def test_the_page_needs_nothing_beside_it_and_runs_nothing(root: Path) -> None:
    processor = tiny_processor()
    hostile = replace(
        shown("car.png", turns=((ImageRef(index=0), "\n<script>alert(1)</script>"), "<b>no</b>")), id="<i>"
    )
    html = page(root, [look(processor, hostile, root)], processor)
    assert html.count("data:image/jpeg;base64,") == 2, "the picture, and what the model sees of it"
    for forbidden in ("<script", "<b>no", "<i></bdi>", "http://", 'src="c'):
        assert forbidden not in html
    assert "default-src 'none'" in html
    assert "60 × 40 RGB" in html


def test_the_page_shows_refused_samples_and_broken_pictures(root: Path) -> None:
    (root / "torn.png").write_bytes((root / "car.png").read_bytes()[:-30])
    processor = tiny_processor()
    (unread,) = inspect_file(write(root, ["none"]), processor, root=root)
    html = page(root, [look(processor, shown("torn.png", "none.png"), root), unread], processor)
    assert "image_unreadable" in html
    assert "image_missing" in html
    assert "sample_not_object" in html


def test_the_page_holds_the_first_so_many_and_the_others_are_passed_on(root: Path) -> None:
    processor = tiny_processor()
    samples = [replace(shown(turns=("Why?", "So.")), id=f"sample-{number}") for number in range(3)]
    seen = [look(processor, sample, root) for sample in samples]
    html = page(root, iter(seen), processor, most=2)
    assert "sample-1" in html
    assert "sample-2" not in html
