"""What a path stands for: a file, the files of a folder, those that a pattern fits."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sightline.data import data_file
from sightline.data.layouts import data_files, open_data, root_of
from sightline.data.parsing import located_samples
from sightline.errors import DataError
from tests.data.shards import asked, conversation, png, write_tar


def sample(name: str) -> str:
    return json.dumps({"id": name, "conversations": asked("Q?")})


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.json", "C.JSONL"):
        (tmp_path / name).write_text(sample(name))
    (tmp_path / "notes.txt").write_text("no data")
    (tmp_path / "sub").mkdir()
    return tmp_path


def test_a_folder_is_its_data_files_by_name(shards: Path) -> None:
    assert [path.name for path in data_files(shards)] == ["C.JSONL", "a.json", "b.jsonl"]
    assert [getattr(found, "id", None) for found, _ in located_samples(shards, None)] == [
        "C.JSONL",
        "a.json",
        "b.jsonl",
    ]


def test_a_pattern_is_what_fits_it_and_a_file_is_itself(shards: Path) -> None:
    assert data_files(shards / "*.jsonl") == [shards / "b.jsonl"]
    assert data_files(shards / "[ab].json*") == [shards / "a.json", shards / "b.jsonl"]
    assert data_files(shards / "none.json") == [shards / "none.json"]
    (shards / "odd[1].json").write_text(sample("odd"))
    assert data_files(shards / "odd[1].json") == [shards / "odd[1].json"]


def test_what_stands_for_no_file_or_for_a_mixture_of_kinds_is_refused(shards: Path) -> None:
    write_tar(shards / "x.tar", [("k.json", conversation("Q?"))])
    for path, reason in [
        (shards, "folder_mixed"),
        (shards / "sub", "file_missing"),
        (shards / "*.none", "file_missing"),
    ]:
        with pytest.raises(DataError) as caught:
            data_files(path)
        assert caught.value.reason == reason
        assert str(path) in str(caught.value)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path, reason in [(tmp_path, "file_unreadable"), (tmp_path / "pipe.json", "file_unreadable"),
                         (tmp_path / "none.tar", "file_missing")]:  # fmt: skip
        with pytest.raises(DataError) as caught:
            open_data(path)
        assert caught.value.reason == reason


def test_pictures_start_from_the_named_folder_unless_the_file_holds_them(shards: Path) -> None:
    tar = open_data(write_tar(shards / "sub" / "x.tar", [("k.json", conversation()), ("k.png", png())]))
    lines = open_data(shards / "b.jsonl")
    assert root_of(lines, None) == shards
    assert root_of(lines, shards / "sub") == shards / "sub"
    assert root_of(tar, None) == root_of(tar, shards) == (shards / "sub").resolve()


def test_no_more_files_stay_open_than_a_process_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_file, "MOST_OPEN", 3)
    data_file._open_now.clear()
    for number in range(9):
        (tmp_path / f"{number}.jsonl").write_text(sample(str(number)))
    before = len(os.listdir("/proc/self/fd"))
    files = [open_data(path) for path in data_files(tmp_path)]
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    places = [next(file.records()).at for file in files]
    for _ in range(2):
        values = [file.record(at).value for file, at in zip(files, places, strict=True)]
        assert [value["id"] for value in values] == [str(number) for number in range(9)]  # type: ignore[index]
    os.utime(tmp_path / "0.jsonl", (1, 1))
    with pytest.raises(DataError, match="another content"):
        files[0].record(places[0])
