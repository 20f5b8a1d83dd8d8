"""The samples of a run: everything is checked first, and nothing is left out silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.data.processor import Processor
from sightline.errors import ConfigError, DataError
from sightline.recipe import BadSamples, DataSource
from sightline.train.assemble import assemble_processor
from sightline.train.samples import SampleSet, read_sources
from tests.data.shards import write_parquet, write_tar
from tests.train.small_run import align_samples, instruct_recipe, instruct_samples, talk

FAIL = BadSamples()


@pytest.fixture(scope="module")
def processor(world: Path) -> Processor:
    return assemble_processor(instruct_recipe(world, world / "none", start=None))


def source(world: Path, samples: list[dict[str, Any]], directory: Path, **options: Any) -> DataSource:
    path = directory / "data.json"
    path.write_text(json.dumps(samples))
    return DataSource(path=str(path), images=str(world / "pictures"), **options)


def skip(fraction: float) -> BadSamples:
    return BadSamples(policy="skip", max_fraction=fraction)


def read(sources: list[DataSource], processor: Processor, *, bad: BadSamples = FAIL) -> tuple[SampleSet, list[str]]:
    said: list[str] = []
    return read_sources(sources, processor, bad=bad, say=said.append), said


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "image_missing": ({"image": "none.png"}, "none.png"),
    "image_path_outside_root": ({"image": "../vision/config.json"}, "root"),
    "image_unreadable": ({"image": "text.png"}, "text.png"),
    "image_count": ({"conversations": talk(("no mark", "answer"))}, "image"),
    "answer_empty": ({"conversations": talk(("<image>\nWhat?", " "))}, "conversations"),
    "role_unknown": ({"conversations": [{"from": "robot", "value": "x"}]}, "robot"),
    "unknown_key": ({"imagee": "0.png"}, "imagee"),
    "image_tokens_truncated": (
        {"image": ["0.png", "1.png"], "conversations": talk((f"<image>{400 * ' no'}<image>", "x"))},
        "256",
    ),
    "no_supervised_tokens": ({"conversations": talk(("<image>" + 400 * " no", "x"))}, "256"),
}


@pytest.fixture
def bad_picture(world: Path) -> None:
    (world / "pictures" / "text.png").write_text("not a picture")


def spoiled(change: dict[str, Any]) -> list[dict[str, Any]]:
    samples = align_samples()
    samples[4] |= change
    return samples


@pytest.mark.parametrize("reason", BAD)
@pytest.mark.usefixtures("bad_picture")
def test_a_bad_sample_stops_the_run_with_place_reason_and_remedy(
    reason: str, world: Path, processor: Processor, tmp_path: Path
) -> None:
    change, word = BAD[reason]
    with pytest.raises(DataError) as caught:
        read([source(world, spoiled(change), tmp_path)], processor)
    message = str(caught.value)
    assert caught.value.reason == reason
    assert "data.json:1[4]" in message
    assert word in message
    assert "bad_samples.policy: skip" in message
    assert "\n" not in message


@pytest.mark.parametrize("reason", BAD)
@pytest.mark.usefixtures("bad_picture")
def test_a_bad_sample_is_left_out_and_counted_when_the_recipe_allows_it(
    reason: str, world: Path, processor: Processor, tmp_path: Path
) -> None:
    found, said = read([source(world, spoiled(BAD[reason][0]), tmp_path)], processor, bad=skip(0.1))
    assert [sample.id for sample in found.samples] == [f"a{number}" for number in range(13) if number != 4]
    assert said == [f"left out 1 of 13 samples: {reason} 1"]
    (refused,) = found.refused
    assert (refused.reason, refused.line) == (reason, 1)
    assert refused.file == str(tmp_path / "data.json")


def test_what_is_left_out_is_known_by_file_and_line(world: Path, processor: Processor, tmp_path: Path) -> None:
    path = tmp_path / "12:30" / "data.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(sample) + "\n" for sample in spoiled({"image": "none.png"})))
    found, _ = read([DataSource(path=str(path), images=str(world / "pictures"))], processor, bad=skip(0.1))
    assert [(refused.file, refused.line) for refused in found.refused] == [(str(path), 5)]


@pytest.mark.parametrize(
    ("bad", "fraction", "stops"), [(1, 1 / 13, False), (1, 0.076, True), (2, 0.1, True), (0, 0, False)]
)
def test_more_bad_samples_than_allowed_stop_the_run(
    bad: int, fraction: float, stops: bool, world: Path, processor: Processor, tmp_path: Path
) -> None:
    samples = align_samples()
    for number in range(bad):
        samples[number]["image"] = "none.png"
    given = [source(world, samples, tmp_path)]
    if not stops:
        assert len(read(given, processor, bad=skip(fraction))[0]) == 13 - bad
        return
    with pytest.raises(
        DataError, match=rf"{bad} of 13 samples are bad \(image_missing {bad}\), more than .*max_fraction"
    ):
        read(given, processor, bad=skip(fraction))


def test_all_reasons_are_counted_at_once(world: Path, processor: Processor, tmp_path: Path) -> None:
    samples = align_samples()
    samples[2]["image"] = samples[3]["image"] = "none.png"
    samples[9]["conversations"] = []
    with pytest.raises(DataError, match=r"3 bad samples in all: image_missing 2, conversation_\w+ 1"):
        read([source(world, samples, tmp_path)], processor)


@pytest.mark.parametrize("bad", [FAIL, skip(1.0)])
def test_nothing_left_is_an_error(bad: BadSamples, world: Path, processor: Processor, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read([source(world, [align_samples()[0] | {"image": "none.png"}], tmp_path)], processor, bad=bad)


def test_sources_are_read_in_order_each_with_its_own_pictures(
    world: Path, processor: Processor, tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.png").write_bytes((world / "pictures" / "5.png").read_bytes())
    (tmp_path / "own.jsonl").write_text(json.dumps({**align_samples()[0], "image": "pictures/0.png"}))
    sources = [
        DataSource(path=str(world / "instruct.jsonl"), images=str(world / "pictures")),
        DataSource(path=str(tmp_path / "own.jsonl")),
    ]
    found, _ = read(sources, processor)
    assert [sample.id for sample in found.samples] == [f"i{number}" for number in range(11)] + ["a0"]
    assert (found.example(11).pixels == found.example(4).pixels).all() == False  # noqa: E712  a tensor
    again, _ = read([source(world, [align_samples()[0] | {"image": "5.png"}], tmp_path)], processor)
    assert (found.example(11).pixels == again.example(0).pixels).all()


def test_an_example_holds_ids_labels_and_pixels(world: Path, processor: Processor, tmp_path: Path) -> None:
    found, _ = read([source(world, instruct_samples(), tmp_path)], processor)
    assert [len(found.example(index).pixels) for index in range(len(found))] == [1, 1, 1, 0, 1, 2, 1, 1, 0, 1, 1]
    for index in range(len(found)):
        example = found.example(index)
        assert len(example.input_ids) == len(example.labels)
        assert int((example.input_ids == processor.image_token_id).sum()) == 16 * len(example.pixels)


def test_repeated_ids_are_refused_or_numbered(world: Path, processor: Processor, tmp_path: Path) -> None:
    samples = [align_samples()[0], align_samples()[0], align_samples()[1]]
    with pytest.raises(DataError) as caught:
        read([source(world, samples, tmp_path)], processor)
    assert caught.value.reason == "id_duplicate"
    found, _ = read([source(world, samples, tmp_path, repeated_ids="number")], processor)
    assert [sample.id for sample in found.samples] == ["a0", "a0#2", "a1"]


def test_the_fingerprint_is_of_the_data_and_of_what_was_left_out(
    world: Path, processor: Processor, tmp_path: Path
) -> None:
    def mark(samples: list[dict[str, Any]], bad: BadSamples = FAIL) -> str:
        return read([source(world, samples, tmp_path)], processor, bad=bad)[0].fingerprint

    good = mark(align_samples())
    assert mark(align_samples()) == good
    other = align_samples()
    other[3]["conversations"][1]["value"] += "!"
    assert mark(other) != good
    assert mark(align_samples()[::-1]) != good
    missing = spoiled({"image": "later.png"})
    with_hole = mark(missing, skip(1.0))
    (world / "pictures" / "later.png").write_bytes((world / "pictures" / "0.png").read_bytes())
    assert mark(missing, skip(1.0)) != with_hole
    (world / "pictures" / "later.png").unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "none.json"}, ["data.1.path", "none.json", "JSON"]),
        ({"images": "none"}, ["data.1.images", "none", "folder"]),
        ({"path": "."}, ["data.1.path"]),
    ],
)
def test_a_missing_file_or_folder_is_named_by_its_key(
    change: dict[str, str], words: list[str], world: Path, processor: Processor
) -> None:
    good = {"path": str(world / "align.json"), "images": str(world / "pictures")}
    with pytest.raises(ConfigError) as caught:
        read([DataSource(**good), DataSource(**{**good, **change})], processor)
    for word in words:
        assert word in str(caught.value)


def test_a_mixture_draws_from_each_source_what_it_says(world: Path, processor: Processor, tmp_path: Path) -> None:
    pictures = str(world / "pictures")
    align = DataSource(path=str(world / "align.json"), images=pictures, weight=0.5)
    instruct = DataSource(path=str(world / "instruct.jsonl"), images=pictures, count=25)
    found, _ = read([align, instruct], processor)
    assert (len(found), found.per_epoch, found.mix) == (24, 31, ((13, 6), (11, 25)))
    assert found.showings()[[0, 12, 13, 23]].tolist() == [6 / 13, 6 / 13, 25 / 11, 25 / 11]
    plain, _ = read([align.model_copy(update={"weight": None})], processor)
    assert (plain.mix, plain.per_epoch, plain.showings().tolist()) == (None, 13, [1.0] * 13)


def test_tars_folders_and_parquet_are_sources_like_any_other(world: Path, processor: Processor, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    raw = [(world / "pictures" / f"{number}.png").read_bytes() for number in range(8)]
    samples = align_samples()
    (tmp_path / "shards").mkdir()
    for shard, part in enumerate((samples[:5], samples[5:])):
        members: list[tuple[str, bytes]] = []
        for sample in part:
            talked = json.dumps({"conversations": sample["conversations"]}).encode()
            number = int(sample["image"].split(".")[0])
            members += [(f"{sample['id']}.json", talked), (f"{sample['id']}.png", raw[number])]
        write_tar(tmp_path / "shards" / f"{shard}.tar", members)
    rows = [sample | {"image": {"bytes": raw[int(sample["image"].split(".")[0])], "path": None}} for sample in samples]
    write_parquet(tmp_path / "a.parquet", rows)
    given = [DataSource(path=str(tmp_path / name)) for name in ("shards", "shards/*.tar", "a.parquet")]
    plain, _ = read([source(world, samples, tmp_path)], processor)
    for one in given:
        found, _ = read([one], processor)
        assert [sample.id for sample in found.samples] == [sample.id for sample in plain.samples]
        assert found.lengths.tolist() == plain.lengths.tolist()
        for index in (0, 7, 12):
            assert (found.example(index).pixels == plain.example(index).pixels).all()
            assert found.example(index).input_ids.tolist() == plain.example(index).input_ids.tolist()
    together, _ = read(given, processor)
    assert len(together) == 39
    assert len({together.example(index).pictures for index in (0, 13, 26)}) == 2, "both ways to a shard are one"


def test_a_damaged_picture_in_a_tar_is_found_before_training(world: Path, processor: Processor, tmp_path: Path) -> None:
    good = (world / "pictures" / "0.png").read_bytes()
    members = [("a.txt", b"One."), ("a.png", good), ("b.txt", b"Two."), ("b.png", good[:20])]
    write_tar(tmp_path / "a.tar", members)
    given = DataSource(path=str(tmp_path / "a.tar"))
    with pytest.raises(DataError, match=r"a\.tar:2: id b: .*b\.png") as caught:
        read([given], processor)
    assert caught.value.reason == "image_unreadable"
    found, said = read([given], processor, bad=skip(0.5))
    assert [sample.id for sample in found.samples] == ["a"]
    assert said == ["left out 1 of 2 samples: image_unreadable 1"]


def test_sources_that_cannot_be_are_named_by_their_key(world: Path, processor: Processor, tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("a.txt", b"One."), ("a.png", b"x")])
    (tmp_path / "b.tar").write_bytes(b"x" * 600)
    (tmp_path / "c.jsonl").write_text("{}")
    cases = [
        (DataSource(path=str(tmp_path / "a.tar"), images=str(tmp_path)), r"data\.0\.images: .* remove"),
        (DataSource(path=str(tmp_path)), r"data\.0\.path: .*several kinds"),
        (DataSource(path=str(tmp_path / "x*.tar")), r"data\.0\.path: .*no file fits"),
    ]
    for given, words in cases:
        with pytest.raises(ConfigError, match=words):
            read([given], processor)
    with pytest.raises(DataError, match=r"b\.tar: no uncompressed tar"):
        read([DataSource(path=str(tmp_path / "b.tar"))], processor)
