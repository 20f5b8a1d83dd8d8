"""The clean samples and the others: together all, each with its own bytes."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sightline.data import fix
from sightline.data.checks import Findings, Settings, check_files
from sightline.data.fix import write_fixed
from sightline.data.layouts import data_files
from sightline.data.parsing import read_samples
from sightline.errors import ConfigError
from tests.data.shards import asked, conversation, png, write_parquet, write_tar


def check(path: Path) -> Findings:
    return check_files(data_files(path), Settings(), say=lambda line: None, processes=1)


def fixed(path: Path, out: Path) -> list[str]:
    return [written.name for written in write_fixed(check(path), out, say=lambda line: None)]


def line(name: str, answer: str, *, odd: bool = False) -> bytes:
    """`odd`: spaces and escapes that another writer would write otherwise."""
    text = json.dumps({"id": name, "conversations": asked("Größe?", answer)}, ensure_ascii=odd)
    return (text.replace(": ", " :  ") if odd else text).encode()


def test_lines_keep_their_bytes_and_order(tmp_path: Path) -> None:
    good = [line("a", "One.", odd=True), line("b", "Two."), line("c", "Three.")]
    bad = [line("d", "</s>"), b'{"id": "e", "conv', line("b", "Four.")]
    (tmp_path / "a.jsonl").write_bytes(
        b"\xef\xbb\xbf" + b"\r\n".join([good[0], bad[0], b" \t" + good[1] + b" ", b"", bad[1], bad[2], good[2]])
    )
    assert fixed(tmp_path / "a.jsonl", tmp_path / "clean.jsonl") == ["clean.rejected.jsonl", "clean.jsonl"]
    assert (tmp_path / "clean.jsonl").read_bytes() == b"\n".join(good) + b"\n"
    assert (tmp_path / "clean.rejected.jsonl").read_bytes() == b"\n".join(bad) + b"\n"
    assert check(tmp_path / "clean.jsonl").counts == {}


def test_a_list_stays_a_list_and_its_broken_end_is_kept(tmp_path: Path) -> None:
    parts = [line("a", "One.", odd=True), line("b", "</s>"), b'{\n "id": "c",\n' + line("c", "Three.")[11:]]
    (tmp_path / "a.json").write_bytes(b"[" + b" ,\n ".join([*parts, b'{"id": "d", "co']))
    fixed(tmp_path / "a.json", tmp_path / "clean.json")
    assert (tmp_path / "clean.json").read_bytes() == b"[\n" + parts[0] + b",\n" + parts[2] + b"\n]\n"
    assert [sample.id for sample in read_samples(tmp_path / "clean.json")] == ["a", "c"]
    rejected = (tmp_path / "clean.rejected.jsonl").read_bytes()
    assert rejected.startswith(parts[1] + b"\n")
    assert rejected.endswith(b'{"id": "d", "co\n')


def test_a_tar_keeps_its_members_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fix, "CHUNK", 700)
    long = "long/" * 40
    write_tar(tmp_path / "a.tar", [
        ("README.md", b"about"), ("a.json", conversation("<image> A?")), ("a.png", png("red")), ("b.json", b"{"),
        (f"{long}c.json", conversation("<image> C?")), (f"{long}c.png", png("lime")), ("d.png", png("blue")),
    ], format=tarfile.GNU_FORMAT)  # fmt: skip
    raw = (tmp_path / "a.tar").read_bytes()
    fixed(tmp_path / "a.tar", tmp_path / "clean.tar")
    clean = (tmp_path / "clean.tar").read_bytes()
    first, second = raw.index(b"a.json"), raw.index(b"././@LongLink")
    assert clean == raw[first : raw.index(b"b.json")] + raw[second : raw.index(b"d.png")] + bytes(1024)
    assert [sample.id for sample in read_samples(tmp_path / "clean.tar")] == ["a", f"{long}c"]
    assert check(tmp_path / "clean.tar").counts == {}
    assert check(tmp_path / "clean.rejected.tar").counts == check(tmp_path / "a.tar").counts


def test_parquet_keeps_its_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any]] = [
        {"id": str(number), "image": {"bytes": png("red"), "path": "x.png"}, "conversations": asked(f"<image>{number}")}
        for number in range(9)
    ]
    rows[4]["image"]["bytes"] = b"no picture"
    write_parquet(tmp_path / "a.parquet", rows)
    assert fixed(tmp_path / "a.parquet", tmp_path / "clean.parquet") == ["clean.rejected.parquet", "clean.parquet"]
    assert parquet.read_table(tmp_path / "clean.parquet").to_pylist() == rows[:4] + rows[5:]
    assert parquet.read_table(tmp_path / "clean.rejected.parquet").to_pylist() == [rows[4]]


def test_several_files_become_a_folder_that_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(line("a", "One.") + b"\n" + line("b", "</s>"))
    (tmp_path / "in" / "b.jsonl").write_bytes(line("a", "Two.") + b"\n")
    fixed(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in data_files(tmp_path / "out")] == ["a.jsonl", "b.jsonl"]
    assert check(tmp_path / "out").clean == 2
    assert [path.name for path in (tmp_path / "out.rejected").iterdir()] == ["a.rejected.jsonl"]


def test_nothing_to_reject_leaves_nothing_of_before_and_nothing_clean_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a", "One."))
    (tmp_path / "clean.rejected.jsonl").write_text("old")
    assert fixed(tmp_path / "a.jsonl", tmp_path / "clean.jsonl") == ["clean.jsonl"]
    assert not (tmp_path / "clean.rejected.jsonl").exists()
    (tmp_path / "a.jsonl").write_bytes(line("a", "</s>"))
    said: list[str] = []
    write_fixed(check(tmp_path / "a.jsonl"), tmp_path / "none.jsonl", say=said.append)
    assert not (tmp_path / "none.jsonl").exists()
    assert "no clean sample" in said[0]


def test_the_data_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a", "One.") + b"\n" + line("b", "</s>"))
    before = (tmp_path / "a.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="is the data itself"):
        fixed(tmp_path / "a.jsonl", tmp_path / "x" / ".." / "a.jsonl")
    (tmp_path / "clean.rejected.jsonl").symlink_to(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match="is the data itself"):
        fixed(tmp_path / "a.jsonl", tmp_path / "clean.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == before


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("a", "One.") + b"\n" + line("b", "</s>"))
    (tmp_path / "clean.jsonl").write_text("of before")
    found = check(tmp_path / "a.jsonl")

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(fix, "_copy", fail)
    with pytest.raises(OSError, match="no space"):
        write_fixed(found, tmp_path / "clean.jsonl", say=lambda line: None)
    assert (tmp_path / "clean.jsonl").read_text() == "of before"
    assert not (tmp_path / "clean.rejected.jsonl").exists()
