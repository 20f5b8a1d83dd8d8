"""Features on disk: what was stored is read back or counts as missing, whatever happened to the files meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import Tensor

from sightline.atomic import FAULT_VARIABLE
from sightline.data.feature_store import FeatureStore, StoredPictures

SHAPE = (3, 5)
COUNT = 6
ENTRY_BYTES = 48


def name_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def features_of(number: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(number)).to(dtype)


def open_store(root: Path, *, dtype: torch.dtype = torch.float32, **origin: Any) -> FeatureStore:
    return FeatureStore(root, {"encoder": "e", **origin}, shape=SHAPE, dtype=dtype)


def add(store: FeatureStore, *numbers: int) -> None:
    with store.writing(wait=lambda: None) as write:
        write([name_of(each) for each in numbers], torch.stack([features_of(each, store.dtype) for each in numbers]))


def whole(store: FeatureStore, count: int = COUNT) -> list[int]:
    """The numbers that are there; fails when one of them is not what was stored."""
    found = []
    for number in range(count):
        features = store.read(name_of(number))
        if features is not None:
            assert torch.equal(features, features_of(number, store.dtype))
            found.append(number)
    return found


@pytest.fixture
def filled(tmp_path: Path) -> FeatureStore:
    store = open_store(tmp_path)
    add(store, 0, 1)
    add(store, 2)
    add(store, 3, 4, 5)
    return store


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_stored_is_read_back_bit_for_bit_in_its_own_type(tmp_path: Path, dtype: torch.dtype) -> None:
    add(open_store(tmp_path, dtype=dtype), *range(COUNT))
    store = open_store(tmp_path, dtype=dtype)
    assert len(store) == COUNT
    assert whole(store) == list(range(COUNT))
    assert store.read(name_of(0)).dtype == dtype  # type: ignore[union-attr]
    assert name_of(COUNT) not in store
    assert store.read(name_of(COUNT)) is None
    size = (store.directory / "features.bin").stat().st_size
    assert size == COUNT * store.record_bytes == COUNT * 15 * dtype.itemsize


def test_another_origin_or_type_is_another_directory(tmp_path: Path) -> None:
    stores = [open_store(tmp_path), open_store(tmp_path, encoder="f"), open_store(tmp_path, dtype=torch.float64)]
    for store in stores[:2]:
        add(store, 0)
    assert len({store.directory for store in stores}) == 3
    assert name_of(0) not in stores[2]
    assert '"encoder": "f"' in (stores[1].directory / "origin.json").read_text()


def test_a_later_record_replaces_an_earlier_one(filled: FeatureStore) -> None:
    with filled.writing(wait=lambda: None) as write:
        write([name_of(0)], features_of(9)[None])
    found = filled.read(name_of(0))
    assert found is not None
    assert torch.equal(found, features_of(9))
    assert len(filled) == COUNT


def test_worker_processes_can_have_it(filled: FeatureStore) -> None:
    filled.read(name_of(0))
    assert whole(pickle.loads(pickle.dumps(filled))) == list(range(COUNT))


# ---- files that end early --------------------------------------------------------------------------------------------


def test_wherever_the_files_end_the_rest_is_whole_and_what_is_added_too(filled: FeatureStore, tmp_path: Path) -> None:
    records, entries = COUNT * filled.record_bytes, COUNT * ENTRY_BYTES
    cuts = [(records, cut) for cut in range(0, entries, 7)] + [(cut, entries) for cut in range(0, records, 13)]
    for features_end, index_end in cuts:
        root = tmp_path / f"{features_end}-{index_end}"
        shutil.copytree(filled.directory, root / filled.key)
        os.truncate(root / filled.key / "features.bin", features_end)
        os.truncate(root / filled.key / "index.bin", index_end)
        store = open_store(root)
        there = min(features_end // filled.record_bytes, index_end // ENTRY_BYTES)
        assert whole(store) == list(range(there))
        add(store, 5, 0)
        expected = sorted({0, 5, *range(there)})
        assert whole(store) == expected
        assert whole(open_store(root)) == expected


@pytest.mark.parametrize("group", [1, 3, 4])
def test_a_writer_that_is_killed_leaves_whole_records_or_nothing(tmp_path: Path, group: int) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.data.test_feature_store import add, open_store\n"
        "store = open_store(Path(sys.argv[1]))\n"
        "for number in range(6): add(store, number)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, FAULT_VARIABLE: f"feature_records:{group}"},
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    store = open_store(tmp_path)
    assert whole(store) == list(range(group - 1))
    assert (store.directory / "features.bin").stat().st_size == group * store.record_bytes
    add(store, *range(group - 1, COUNT))
    assert whole(store) == list(range(COUNT))


def test_a_file_that_shrinks_under_a_reader_is_missing_and_does_not_kill_it(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, {}, shape=(64, 256), dtype=torch.float32)  # records of whole pages
    with store.writing(wait=lambda: None) as write:
        write([name_of(0), name_of(1)], torch.ones(2, 64, 256))
    assert store.read(name_of(1)) is not None
    os.truncate(store.directory / "features.bin", store.record_bytes)
    assert store.read(name_of(1)) is None
    assert store.read(name_of(0)) is not None


# ---- damage ----------------------------------------------------------------------------------------------------------


def spoil(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        old = file.read(1)
        file.seek(place)
        file.write(bytes([old[0] ^ 16]))


def test_a_damaged_record_is_not_read_and_counts_as_missing_from_then_on(filled: FeatureStore) -> None:
    spoil(filled.directory / "features.bin", 3 * filled.record_bytes + 11)
    assert whole(filled) == [0, 1, 2, 4, 5]
    assert name_of(3) not in filled
    again = open_store(filled.directory.parent)
    assert name_of(3) not in again
    add(again, 3)
    assert whole(open_store(filled.directory.parent)) == list(range(COUNT))


def test_a_damaged_entry_loses_its_picture_alone(filled: FeatureStore) -> None:
    for byte in range(ENTRY_BYTES):
        spoil(filled.directory / "index.bin", 2 * ENTRY_BYTES + byte)
        assert whole(open_store(filled.directory.parent)) == [0, 1, 3, 4, 5]
        spoil(filled.directory / "index.bin", 2 * ENTRY_BYTES + byte)


def test_a_directory_that_may_not_be_written_to_is_read_all_the_same(
    filled: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(filled.directory / "features.bin", 0)

    def refuse(*arguments: object, **options: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert whole(filled) == [1, 2, 3, 4, 5]


def test_a_disk_that_fills_up_raises_and_keeps_what_was_there(
    filled: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = FeatureStore._open

    def full(self: FeatureStore, name: str) -> BinaryIO:
        return Path("/dev/full").open("r+b") if name == "features.bin" else opened(self, name)

    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    monkeypatch.setattr(FeatureStore, "_open", full)
    with pytest.raises(OSError, match="No space left"):
        add(filled, 7)
    assert whole(open_store(filled.directory.parent)) == list(range(COUNT))


# ---- several at once -------------------------------------------------------------------------------------------------


def test_a_second_writer_waits_and_then_knows_what_the_first_has_written(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.data.test_feature_store import *\n"
        "store = open_store(Path(sys.argv[1]))\n"
        "with store.writing(wait=lambda: print('waiting', flush=True)) as write:\n"
        "    print(name_of(0) in store, flush=True)\n"
        "    write([name_of(1)], features_of(1)[None])"
    )
    store = open_store(tmp_path)
    with store.writing(wait=lambda: None) as write:
        other = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting\n"
        write([name_of(0)], features_of(0)[None])
    said, _ = other.communicate(timeout=60)
    assert said == "True\n"
    assert whole(store) == [0]
    store.load()
    assert whole(store) == [0, 1]


def test_a_samples_pictures_are_there_all_or_not_at_all(filled: FeatureStore) -> None:
    stored = StoredPictures(filled, {"a": name_of(0), "b": name_of(1), "none": name_of(77)})
    found = stored.all_of(["b", "a", "b"])
    assert found is not None
    assert [torch.equal(one, features_of(number)) for one, number in zip(found, (1, 0, 1), strict=True)] == [True] * 3
    assert stored.all_of(["a", "none"]) is None
    assert stored.all_of(["unheard of"]) is None
    assert stored.all_of([]) is None
