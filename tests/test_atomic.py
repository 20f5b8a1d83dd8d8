import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sightline import atomic
from sightline.errors import CheckpointError


def fill(directory: Path, text: str = "new") -> None:
    (directory / "weights.bin").write_bytes(text.encode() * 10)
    (directory / "inner").mkdir()
    (directory / "inner" / "notes.txt").write_text(text)


def make(target: Path, text: str, **options: bool) -> None:
    with atomic.new_directory(target, **options) as staging:
        fill(staging, text)


def make_until_disk_full(target: Path) -> None:
    with atomic.new_directory(target) as staging:
        fill(staging)
        raise OSError("disk full")


def content(target: Path) -> str:
    atomic.verify_manifest(target)
    return (target / "inner" / "notes.txt").read_text()


def leftovers(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir() if path.name.startswith("."))


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    atomic.write_atomic(path, "one")
    atomic.write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert leftovers(tmp_path) == []


def test_a_file_written_in_pieces_is_the_old_one_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    with atomic.new_file(path) as file:
        file.write(b"one")
    with pytest.raises(OSError, match="disk full"), atomic.new_file(path) as file:
        file.write(b"tw")
        raise OSError("disk full")
    assert path.read_text() == "one"
    assert leftovers(tmp_path) == []
    with atomic.new_file(path) as file:
        file.write(b"tw")
        file.write(b"o")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert leftovers(tmp_path) == []


def test_a_new_directory_is_sealed_with_sizes_and_checksums(tmp_path: Path) -> None:
    with atomic.new_directory(tmp_path / "step-1", info={"step": 1}) as staging:
        fill(staging)
        assert not (tmp_path / "step-1").exists()
    manifest = json.loads((tmp_path / "step-1" / "manifest.json").read_text())
    assert manifest["info"] == {"step": 1}
    assert manifest["files"]["inner/notes.txt"] == {
        "bytes": 3,
        # sha256 of "new", from sha256sum
        "sha256": "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437",
    }
    assert set(atomic.verify_manifest(tmp_path / "step-1")) == {"weights.bin", "inner/notes.txt"}
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("in_place", [False, True])
def test_everything_is_on_the_disk_before_the_manifest_counts(
    in_place: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    make(tmp_path / "out", "new", in_place=in_place)
    staging = tmp_path / ".out.tmp"
    sealed = synced.index(staging / ".manifest.json.tmp")
    assert {staging / "inner" / "notes.txt", staging / "weights.bin", staging / "inner"} <= set(synced[:sealed])
    assert synced[sealed + 1] == staging
    assert synced[-1] == (tmp_path / "out" if in_place else tmp_path)


def test_a_failed_save_after_a_kill_keeps_what_was_put_aside(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.old")  # as a kill between the two renames leaves it
    with pytest.raises(OSError, match="disk full"):
        make_until_disk_full(tmp_path / "out")
    assert content(atomic.readable_directory(tmp_path / "out")) == "old"
    make(tmp_path / "out", "new")
    assert content(tmp_path / "out") == "new"
    assert leftovers(tmp_path) == []


def test_an_existing_directory_is_replaced_whole(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    with atomic.new_directory(tmp_path / "out") as staging:
        (staging / "only.txt").write_text("x")
    assert set(atomic.verify_manifest(tmp_path / "out")) == {"only.txt"}
    assert not (tmp_path / "out" / "weights.bin").exists()
    assert leftovers(tmp_path) == []


def test_a_failed_save_keeps_the_old_directory_and_removes_its_own_files(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    with pytest.raises(OSError, match="disk full"):
        make_until_disk_full(tmp_path / "out")
    assert content(tmp_path / "out") == "old"
    assert leftovers(tmp_path) == []


def test_a_directory_with_foreign_files_is_not_replaced(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"thesis\.tex"):
        make(tmp_path / "out", "new")
    assert (tmp_path / "out" / "thesis.tex").exists()


def test_in_place_keeps_other_files_and_removes_those_of_the_previous_manifest(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make(run, "old", in_place=True)
    (run / "log.jsonl").write_text("{}")
    with atomic.new_directory(run, in_place=True) as staging:
        (staging / "only.txt").write_text("x")
    assert set(atomic.verify_manifest(run)) == {"only.txt"}
    assert sorted(path.name for path in run.iterdir() if path.is_file()) == ["log.jsonl", "manifest.json", "only.txt"]
    assert leftovers(tmp_path) == []


def test_in_place_repairs_a_directory_whose_manifest_is_damaged(tmp_path: Path) -> None:
    make(tmp_path, "old", in_place=True)
    (tmp_path / "manifest.json").write_text("{")
    make(tmp_path, "new", in_place=True)
    assert content(tmp_path) == "new"


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(bytes(data))


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_flip, "does not match its checksum"),
        (damage_truncate, "29 bytes, 30 expected"),
        (damage_empty, "0 bytes, 30 expected"),
        (Path.unlink, "missing"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: object, message: str) -> None:
    make(tmp_path / "out", "new")
    assert callable(damage)
    damage(tmp_path / "out" / "weights.bin")
    with pytest.raises(CheckpointError, match=f"weights.bin.*{message}"):
        atomic.verify_manifest(tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no manifest.json"),
        ("", "it is empty"),
        ('{"files": {', "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "lists no files"),
        ('{"manifest_version": 2, "files": {}}', "version 2, this program reads 1"),
        ('{"manifest_version": 1, "files": {"a": {"bytes": "3"}}}', "no size and checksum"),
        ('{"manifest_version": 1, "files": {"../a": {"bytes": 1, "sha256": "0"}}}', "outside"),
        ('{"manifest_version": 1, "files": {"/etc/passwd": {"bytes": 1, "sha256": "0"}}}', "outside"),
    ],
)
def test_a_bad_manifest_is_refused_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        atomic.verify_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_json_file_larger_than_any_of_ours_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "JSON_LIMIT", 10)
    (tmp_path / "a.json").write_text('"0123456789"')
    with pytest.raises(CheckpointError, match="too large"):
        atomic.read_json(tmp_path / "a.json")


SAVE = """
import sys
from pathlib import Path
from sightline import atomic
with atomic.new_directory(Path(sys.argv[1]), in_place=sys.argv[2] == "True") as staging:
    for index in range(3):
        (staging / f"{index}.txt").write_text("new")
"""


def save_and_be_killed(target: Path, fault: str, *, in_place: bool) -> None:
    command = [sys.executable, "-c", SAVE, str(target), str(in_place)]
    done = subprocess.run(command, env={**os.environ, atomic.FAULT_VARIABLE: fault}, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize(
    ("fault", "survives"),
    [
        ("file", "old"),
        ("file:3", "old"),
        ("before_manifest", "old"),
        ("before_replace", "old"),
        ("before_rename", "old"),
        ("between_renames", "old"),
        ("after_rename", "new"),
    ],
)
def test_a_kill_leaves_the_old_directory_or_the_new_one(tmp_path: Path, fault: str, survives: str) -> None:
    target = tmp_path / "out"
    with atomic.new_directory(target) as staging:
        (staging / "0.txt").write_text("old")
    save_and_be_killed(target, fault, in_place=False)
    found = atomic.readable_directory(target)
    atomic.verify_manifest(found)
    assert (found / "0.txt").read_text() == survives
    make(target, "newest")
    assert content(target) == "newest"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("fault", ["file:2", "before_rename", "before_rename:3"])
def test_a_kill_in_place_is_never_taken_for_a_finished_checkpoint(tmp_path: Path, fault: str) -> None:
    target = tmp_path / "run"
    with atomic.new_directory(target, in_place=True) as staging:
        (staging / "0.txt").write_text("old")
    save_and_be_killed(target, fault, in_place=True)
    if fault == "file:2":
        atomic.verify_manifest(target)
        assert (target / "0.txt").read_text() == "old"
    else:
        with pytest.raises(CheckpointError, match="not a finished checkpoint"):
            atomic.verify_manifest(target)
    make(target, "newest", in_place=True)
    assert content(target) == "newest"
