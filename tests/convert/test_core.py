"""From dialogues to the file: what is checked, drawn, numbered, counted; written whole or not at all."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline import atomic
from sightline.convert.core import Tally, stream, write_samples
from sightline.convert.dialogue import Dialogue, Item, LeftOut
from sightline.convert.source import Source
from sightline.errors import DataError, StorageError
from tests.convert.official import converted, reasons, refused, write


def write_books(folder: Path, count: int, *, answer: str = "Ann") -> Path:
    books = {f"{n:04d}": {"questions": ["Who?", "What?"], "answers": [answer, "x"], "split": 1} for n in range(count)}
    return write(folder, "dataset.json", books)


def one(identity: str, *, image: str | None = "a.jpg", answer: str = "Yes.") -> Dialogue:
    return Dialogue(id=identity, image=image, turns=(("What?", answer),), units=1)


def test_pictures_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    write_books(tmp_path, 3)
    write(tmp_path / "images" / "ocr_vqa" / "images", "0001.jpg", "a picture")
    samples, tally = converted("ocrvqa", tmp_path, images=tmp_path / "images")
    assert [sample["id"] for sample in samples] == ["0001"]
    assert reasons(tally) == {"image_missing": 4}
    assert tally.first == {"image_missing": "ocr_vqa/images/0000.jpg"}


def test_a_dialogue_that_the_reader_refuses_is_left_out_with_its_reason(tmp_path: Path) -> None:
    write_books(tmp_path, 2)
    books = json.loads((tmp_path / "dataset.json").read_text())
    books["0000"]["questions"][0] = "What is <image> here?"
    write(tmp_path, "dataset.json", books)
    assert reasons(converted("ocrvqa", tmp_path)[1]) == {"image_count": 2}


def test_samples_are_drawn_by_the_seed_in_their_order(tmp_path: Path) -> None:
    write_books(tmp_path, 100)
    samples, tally = converted("ocrvqa", tmp_path, sample=10)
    drawn = [sample["id"] for sample in samples]
    assert len(drawn) == 10
    assert drawn == sorted(drawn)
    assert drawn != [f"{number:04d}" for number in range(10)]
    assert reasons(tally) == {"not_drawn": 180}
    assert (tally.units, tally.used) == (200, 20)
    assert converted("ocrvqa", tmp_path, sample=10)[0] == samples
    assert converted("ocrvqa", tmp_path, sample=10, seed=1)[0] != samples
    assert converted("ocrvqa", tmp_path, sample=1000)[1].samples == 100


def test_only_what_can_be_used_is_drawn(tmp_path: Path) -> None:
    write_books(tmp_path, 20)
    for number in range(5):
        write(tmp_path / "ocr_vqa" / "images", f"{number:04d}.jpg", "")
    assert converted("ocrvqa", tmp_path, sample=5, images=tmp_path)[1].samples == 5


def made(path: Path, items: list[Item]) -> Tally:
    tally = Tally()
    write_samples(path, [(tally, iter(items))], [])
    return tally


def test_jsonl_is_written_by_its_ending(tmp_path: Path) -> None:
    made(tmp_path / "a.json", [one("1"), one("2", image=None, answer="Ä\n")])
    made(tmp_path / "a.jsonl", [one("1"), one("2", image=None, answer="Ä\n")])
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == json.loads((tmp_path / "a.json").read_text())
    assert "Ä" in lines[1]
    assert len(lines) == 2


def test_the_counts_are_of_units_samples_exchanges_and_pictures(tmp_path: Path) -> None:
    two = Dialogue(id="3", image="b.jpg", turns=(("Q", "A"), ("R", "B")), units=2)
    copy = Dialogue(id="3", image="b.jpg", turns=two.turns, units=0)
    odd, bad = LeftOut(reason="odd", place="f:1", units=3), LeftOut(reason="bad", place="f:9")
    tally = made(tmp_path / "a.json", [one("1"), odd, two, copy, LeftOut(reason="odd", place="f:2"), bad])
    left_out = {"odd": {"count": 4, "first": "f:1"}, "bad": {"count": 1, "first": "f:9"}}
    counts = {"samples": 3, "pictures": 2, "exchanges": 5, "units": 8, "used": 3}
    assert tally.as_json() == {**counts, "left_out": left_out}
    assert tally.lines() == [
        "3 samples about 2 pictures, 5 exchanges; 3 of 8 units used",
        "left out: 4 odd, first f:1",
        "left out: 1 bad, first f:9",
    ]


def test_when_nothing_is_left_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(DataError, match=r"no sample is left: 3 odd, 1 bad, first f:1; nothing was written"):
        items = [LeftOut(reason="odd", place="f:1", units=3), LeftOut(reason="bad", place="f:2")]
        made(tmp_path / "a.json", list(items))
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_an_error_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Item]:
        yield one("1")
        raise DataError("f:3: cut short", reason="json_truncated")

    (tmp_path / "a.json").write_text("old")
    with pytest.raises(DataError, match="cut short"):
        write_samples(tmp_path / "a.json", [(Tally(), broken())], [])
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.json").write_text("old")
    monkeypatch.setattr(atomic, "fsync_file", full)
    with pytest.raises(StorageError, match=r"a\.json: cannot be written: No space left on device"):
        made(tmp_path / "a.json", [one("1")])
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(("target", "words"), [("", "is a folder"), ("none/a.json", "none, which is not there")])
def test_a_target_that_cannot_be_written_is_refused_at_once(target: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        made(tmp_path / target, [one("1")])


def test_an_official_file_is_never_overwritten(tmp_path: Path) -> None:
    path = write_books(tmp_path, 2)
    before = path.read_bytes()
    for source in (Source(path), Source(tmp_path)):
        with pytest.raises(DataError, match="is the official file"):
            write_samples(path, [(Tally(), stream("ocrvqa", source, {}))], [source])
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        pytest.param("vqa2", {}, 'did you mean "vqav2"', id="misspelt format"),
        pytest.param("ocrvqa", {"split": "training"}, "--split: ocrvqa has no 'training', only train", id="split"),
        pytest.param("ocrvqa", {"boxes": "llava"}, "--boxes: ocrvqa does not take it", id="option of another format"),
        pytest.param("vg", {"boxes": "lava"}, 'did you mean "llava"', id="misspelt convention"),
        pytest.param("vg", {"captions": "all"}, "it takes --boxes, --per-picture", id="says what it takes"),
        pytest.param("ocrvqa", {"pictures": "{name}.jpg"}, "{split}, {id}", id="unknown name in the pattern"),
        pytest.param("ocrvqa", {"pictures": "{id:012d}"}, "--pictures", id="number format for a text"),
        pytest.param("ocrvqa", {"pictures": "{id"}, "--pictures", id="open brace"),
        pytest.param("ocrvqa", {"pictures": "{id.x}"}, "--pictures", id="attribute"),
    ],
)
def test_options_are_checked(name: str, given: dict[str, str], words: str, tmp_path: Path) -> None:
    write_books(tmp_path, 1)
    assert words in refused(name, tmp_path, **given)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        list(stream("gqa", Source(tmp_path / "none"), {}))
