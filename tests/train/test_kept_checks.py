"""What was found about samples and pictures is kept, and asked for again when anything it depends on has changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken

from sightline.data import crew, image, index, picture_checks
from sightline.data.processor import Processor, load_tokenizer
from sightline.errors import DataError
from sightline.recipe import BadSamples, DataSource
from sightline.train.assemble import assemble_processor
from sightline.train.samples import SampleSet, read_sources
from tests.train.small_run import instruct_recipe, instruct_samples, talk

ALL = BadSamples(policy="skip", max_fraction=1.0)


class Counted:
    """What was done: samples that were tokenised, pictures whose headers were read."""

    def __init__(self) -> None:
        self.samples: list[str] = []
        self.pictures: list[str] = []

    def taken(self) -> tuple[int, int]:
        found = len(self.samples), len(self.pictures)
        self.samples.clear()
        self.pictures.clear()
        return found


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """A cache of its own, in which everything is worth keeping."""
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "WORTH_KEEPING", 1)
    monkeypatch.setattr(picture_checks, "WORTH_KEEPING", 1)
    found = Counted()
    encode, check = Processor.encode, image.check_image

    def noted_encode(self: Processor, sample: Any) -> Any:
        found.samples.append(sample.id)
        return encode(self, sample)

    def noted_check(name: str, *, root: Path) -> Any:
        found.pictures.append(name)
        return check(name, root=root)

    monkeypatch.setattr(Processor, "encode", noted_encode)
    monkeypatch.setattr(picture_checks, "check_image", noted_check)
    return found


@pytest.fixture
def place(world: Path, tmp_path: Path) -> Path:
    """A folder with data and pictures, some of each bad: 15 samples, 14 of which are samples; 7 pictures."""
    shutil.copytree(world / "pictures", tmp_path / "pictures")
    for number, picture in enumerate(sorted((tmp_path / "pictures").iterdir())):
        picture.rename(tmp_path / "pictures" / f"{number}.png")
    samples = instruct_samples()
    samples[2]["image"] = "none.png"
    samples += [
        {"id": "i1", "conversations": talk(("Again?", "Yes."))},
        {"id": "empty", "conversations": talk(("What?", " "))},
        {"id": "long", "conversations": talk((400 * " no", "x"))},
        {"id": "last", "image": "7.png", "conversations": talk(("<image>", "End."))},
    ]
    (tmp_path / "data.json").write_text(json.dumps(samples))
    return tmp_path


@pytest.fixture
def processor(world: Path) -> Processor:
    return assemble_processor(instruct_recipe(world, world / "none", start=None))


def read(place: Path, processor: Processor, **options: Any) -> SampleSet:
    source = DataSource(path=str(place / "data.json"), images=str(place / "pictures"), **options)
    return read_sources([source], processor, bad=ALL, say=lambda message: None, processes=1)


def told(found: SampleSet) -> tuple[Any, ...]:
    samples = [repr(sample) for sample in found.samples]
    refused = [asdict(each) for each in found.refused]
    return samples, refused, found.fingerprint, found.lengths.tolist(), found.shows_pictures, found.roots


def test_a_second_start_finds_the_same_and_looks_at_what_was_bad_alone(
    counted: Counted, place: Path, processor: Processor
) -> None:
    first = read(place, processor)
    assert counted.taken() == (14, 7)
    second = read(place, processor)
    assert counted.taken() == (0, 1)  # none.png, as it might have come
    assert told(first) == told(second)
    assert [each.reason for each in first.refused] == [
        "id_duplicate", "answer_empty", "image_missing", "no_supervised_tokens"
    ]  # fmt: skip
    assert [len(second.example(number).input_ids) for number in range(len(second))] == second.lengths.tolist()
    assert second.shows_pictures == bytes(bool(sample.images) for sample in second.samples)


def test_small_sets_leave_nothing_behind(
    counted: Counted, place: Path, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "WORTH_KEEPING", 4096)
    monkeypatch.setattr(picture_checks, "WORTH_KEEPING", 4096)
    read(place, processor)
    assert not (place / "cache").exists()


def test_a_file_with_too_many_rejections_is_not_kept(
    counted: Counted, place: Path, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "MOST_REJECTIONS", 2)
    read(place, processor)
    counted.taken()
    read(place, processor)
    assert counted.taken() == (14, 1)


def _rewritten(place: Path, processor: Processor) -> tuple[Processor, dict[str, Any]]:
    path = place / "data.json"
    path.write_text(path.read_text().replace("End.", "Ends"))
    return processor, {}


def _moved(place: Path, processor: Processor) -> tuple[Processor, dict[str, Any]]:
    (place / "data.json").rename(place / "other.json")
    (place / "data.json").symlink_to(place / "other.json")  # the same name: not this is what counts
    return processor, {}


def _setting(**change: Any) -> Callable[[Path, Processor], tuple[Processor, dict[str, Any]]]:
    def changed(place: Path, processor: Processor) -> tuple[Processor, dict[str, Any]]:
        return Processor(processor.tokenizer, replace(processor.settings, **change)), {}

    return changed


def _token(place: Path, processor: Processor) -> tuple[Processor, dict[str, Any]]:
    processor.tokenizer.add_tokens([AddedToken("<new>", special=True)])
    return Processor(processor.tokenizer, processor.settings), {}


def _chat_template(place: Path, processor: Processor) -> tuple[Processor, dict[str, Any]]:
    processor.tokenizer.chat_template += " "
    return processor, {}


def _numbered(place: Path, processor: Processor) -> tuple[Processor, dict[str, Any]]:
    return processor, {"repeated_ids": "number"}


@pytest.mark.parametrize(
    ("change", "samples"),
    [
        (_rewritten, 14),
        (_moved, 0),
        (_setting(max_length=255), 14),
        (_setting(template="vicuna_v1"), 14),
        (_setting(image_tokens=17), 14),
        (_token, 14),
        (_chat_template, 14),
        (_numbered, 14),
    ],
)
def test_texts_are_judged_anew_when_the_file_or_the_processor_is_another(
    change: Any, samples: int, counted: Counted, place: Path, processor: Processor
) -> None:
    read(place, processor)
    counted.taken()
    other, options = change(place, processor)
    found = read(place, other, **options)
    assert counted.taken()[0] == samples
    shutil.rmtree(place / "cache")
    assert told(found) == told(read(place, other, **options))


def test_texts_are_judged_anew_by_other_code(
    counted: Counted, place: Path, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(place, processor)
    counted.taken()
    monkeypatch.setattr(index, "code_mark", lambda: "another version")
    monkeypatch.setattr(picture_checks, "code_mark", lambda: "another version")
    read(place, processor)
    assert counted.taken() == (14, 7)


def test_a_tokenizer_read_again_is_the_same_one(
    counted: Counted, place: Path, processor: Processor, world: Path
) -> None:
    read(place, processor)
    counted.taken()
    read(place, Processor(load_tokenizer(str(world / "language")), processor.settings))
    assert counted.taken()[0] == 0


def _vanish(path: Path) -> None:
    path.unlink()


def _damage(path: Path) -> None:
    path.write_text("not a picture")


def _damage_behind_the_same_size_and_time(path: Path) -> None:
    state = path.stat()
    path.write_bytes(bytes(state.st_size))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def _lead_out(path: Path) -> None:
    path.rename(path.parents[1] / "out.png")
    path.symlink_to(path.parents[1] / "out.png")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_vanish, "image_missing"),
        (_damage, "image_unreadable"),
        (_damage_behind_the_same_size_and_time, "image_unreadable"),
        (_lead_out, "image_path_outside_root"),
    ],
)
def test_a_picture_that_is_no_longer_good_is_found_though_it_was_good_before(
    spoil: Callable[[Path], None], reason: str, counted: Counted, place: Path, processor: Processor
) -> None:
    read(place, processor)
    counted.taken()
    spoil(place / "pictures" / "7.png")
    found = read(place, processor)
    assert counted.taken() == (0, 2)
    assert [each.reason for each in found.refused if each.id == "last"] == [reason]
    assert "last" not in [sample.id for sample in found.samples]


def test_a_picture_that_came_is_used(counted: Counted, place: Path, processor: Processor) -> None:
    before = read(place, processor)
    shutil.copy(place / "pictures" / "1.png", place / "pictures" / "none.png")
    after = read(place, processor)
    assert len(after) == len(before) + 1
    counted.taken()
    read(place, processor)
    assert counted.taken() == (0, 0)


def test_pictures_elsewhere_are_other_pictures(counted: Counted, place: Path, processor: Processor) -> None:
    read(place, processor)
    counted.taken()
    (place / "pictures").rename(place / "moved")
    (place / "pictures").mkdir()
    assert {each.reason for each in read(place, processor).refused} >= {"image_missing"}
    assert counted.taken() == (0, 7)


@pytest.mark.parametrize("kind", ["index", "pictures"])
def test_damaged_files_are_made_anew(kind: str, counted: Counted, place: Path, processor: Processor) -> None:
    first = read(place, processor)
    (path,) = (place / "cache" / "checks").glob(f"{kind}-*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    counted.taken()
    assert told(read(place, processor)) == told(first)
    assert counted.taken() == ((14, 1) if kind == "index" else (0, 7))
    assert path.read_bytes() == whole


def test_the_number_of_processes_changes_nothing(
    place: Path, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (index, picture_checks):
        monkeypatch.setattr(module, "CHUNK", 2)
    monkeypatch.setattr(crew, "ALONE", 1)
    source = DataSource(path=str(place / "data.json"), images=str(place / "pictures"))
    found = [
        told(read_sources([source, source], processor, bad=ALL, say=lambda message: None, processes=processes))
        for processes in (1, 2)
    ]
    assert found[0] == found[1]
    assert len(found[0][0]) == 22


def test_a_file_that_is_being_written_is_refused(
    counted: Counted, place: Path, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = index.Ids.claim

    def claim_and_append(self: Any, wanted: str, *, place: str) -> int:
        with Path(place.rpartition(":")[0]).open("a") as file:
            file.write("\n")
        return claim(self, wanted, place=place)

    monkeypatch.setattr(index.Ids, "claim", claim_and_append)
    with pytest.raises(DataError) as caught:
        read(place, processor)
    assert caught.value.reason == "data_changed"
    assert not (place / "cache").exists()
