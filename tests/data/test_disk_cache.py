"""What is kept comes back whole or not at all, and never takes more room than it may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sightline.data import disk_cache
from sightline.data.disk_cache import cache_directory, keep, key_of, recall

KEY = "0" * 64
ARRAYS = {"a": np.arange(6).reshape(2, 3), "b": np.frombuffer(b"text", np.uint8), "c": np.empty(0, np.int32)}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checks"


def test_arrays_come_back_as_they_were() -> None:
    assert recall("k", KEY) is None
    keep("k", KEY, ARRAYS)
    found = recall("k", KEY)
    assert found is not None
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    assert recall("k", "1" * 64) is None
    assert recall("other", KEY) is None


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "directory"])
def test_a_damaged_file_counts_as_none_and_is_replaced(damage: str, place: Path) -> None:
    keep("k", KEY, ARRAYS)
    (path,) = place.iterdir()
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1  # in a value, where no header tells
    path.unlink()
    if damage == "directory":
        path.mkdir()
    else:
        path.write_bytes({"bit": bytes(raw), "cut": bytes(raw[:-1]), "empty": b""}[damage])
    assert recall("k", KEY) is None
    if damage == "directory":
        path.rmdir()
    keep("k", KEY, ARRAYS)
    assert recall("k", KEY) is not None


def test_a_process_killed_while_it_writes_leaves_the_old_file(place: Path) -> None:
    keep("k", KEY, ARRAYS)
    program = (
        "import numpy as np; from sightline.data.disk_cache import keep; "
        f"keep('k', '{KEY}', {{'a': np.zeros(9)}}); print('not killed')"
    )
    environment = {**os.environ, "SIGHTLINE_FAULT": "before_replace"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert done.returncode == -9
    found = recall("k", KEY)
    assert found is not None
    assert np.array_equal(found["a"], ARRAYS["a"])
    keep("k", KEY, {"a": np.ones(3)})
    found = recall("k", KEY)
    assert found is not None
    assert np.array_equal(found["a"], np.ones(3))


def test_what_was_not_used_for_longest_makes_room(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        keep("k", str(number), {"a": np.zeros(1000)})
        os.utime(place / f"k-{number}", (number, number))
    assert recall("k", "0") is not None  # used now
    monkeypatch.setattr(disk_cache, "LIMIT", 3 * 8300)
    keep("k", "4", {"a": np.zeros(1000)})
    assert {path.name for path in place.iterdir()} == {"k-0", "k-3", "k-4"}


def test_nobody_fails_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "file"))
    keep("k", KEY, ARRAYS)
    assert recall("k", KEY) is None


def test_the_place_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", "/x")
    assert cache_directory() == Path("/x/checks")
    monkeypatch.setenv("SIGHTLINE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert cache_directory() == Path("/y/sightline/checks")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/z")
    assert cache_directory() == Path("/z/.cache/sightline/checks")


def test_every_ingredient_makes_another_key() -> None:
    keys = {key_of(), key_of(a=1), key_of(a=2), key_of(b=1), key_of(a="1"), key_of(a=1, b=1), key_of(a=[1])}
    assert len(keys) == 7
    assert key_of(a=1, b=2) == key_of(b=2, a=1)
