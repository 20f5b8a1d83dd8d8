"""Samples are read from their place in a file, which must not change meanwhile."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from sightline.data.data_file import JsonFile
from sightline.data.file_samples import FileSamples
from sightline.data.parsing import read_samples
from sightline.data.reading import read_records
from sightline.errors import DataError

WORDS = ["plain", "Ünïcode ☃ 𝄞", 'quoted " and \\ and }', "two\nlines", "in\u2028between", " spaces "]


def entries() -> list[dict[str, object]]:
    return [
        {"id": f"{number % 4}", "conversations": [{"from": "human", "value": word}, {"from": "gpt", "value": word}]}
        for number, word in enumerate(WORDS)
    ]


def write(folder: Path, kind: str) -> Path:
    path = folder / "data.json"
    mark = b"\xef\xbb\xbf" if kind == "marked" else b""
    if kind in ("list", "marked"):
        path.write_bytes(mark + json.dumps(entries(), ensure_ascii=False, indent=1).encode())
    else:
        between = "\n" if kind == "lines" else "\r\n\n \t"
        path.write_bytes(between.join(json.dumps(entry, ensure_ascii=False) for entry in entries()).encode())
    return path


def opened(path: Path) -> FileSamples:
    places = [record.at for record in read_records(path)]
    listed = places[0].element is not None
    rows = [(at.start, at.end, at.line, number) for number, at in enumerate(places)]
    numbers = [0, 0, 0, 0, 2, 2]
    return FileSamples(JsonFile(path), np.array(rows), np.array(numbers, np.int32), listed=listed)


@pytest.mark.parametrize("kind", ["list", "marked", "lines", "apart"])
def test_any_sample_is_what_reading_in_order_gives(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, kind)
    expected = read_samples(path, number_repeated_ids=True)
    found = opened(path)
    assert [found[index] for index in (5, 0, 3, 3, 1)] == [expected[index] for index in (5, 0, 3, 3, 1)]
    assert list(found) == expected
    assert found[-2:] == expected[-2:]
    assert list(pickle.loads(pickle.dumps(found))) == expected
    with pytest.raises(IndexError):
        found[6]


@pytest.mark.parametrize("change", ["touched", "cut", "written"])
def test_a_file_that_changed_is_refused(change: str, tmp_path: Path) -> None:
    path = write(tmp_path, "list")
    found = opened(path)
    sha256 = JsonFile(path).sha256()
    raw = path.read_bytes()
    if change == "touched":
        os.utime(path, (1, 1))
    else:
        path.write_bytes(raw[:-5] if change == "cut" else raw.replace(b"plain", b"other"))
        os.utime(path, (1, 1))
    for use in (lambda: found[0], lambda: pickle.loads(pickle.dumps(found))[0], found._file.sha256):
        with pytest.raises(DataError, match=r"data\.json: found another content than at the start") as caught:
            use()
        assert caught.value.reason == "data_changed"
    assert (JsonFile(path).sha256() == sha256) == (change == "touched")


def test_a_file_put_in_its_place_does_not_disturb_who_has_it_open(tmp_path: Path) -> None:
    path = write(tmp_path, "list")
    found, before = opened(path), read_samples(path, number_repeated_ids=True)
    (tmp_path / "new").write_text("[]")
    (tmp_path / "new").replace(path)
    assert list(found) == before


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.json: cannot be opened"):
        JsonFile(tmp_path / "none.json")
