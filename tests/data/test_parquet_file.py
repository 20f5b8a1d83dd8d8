"""Parquet: rows are samples, pictures may lie in the rows."""

from __future__ import annotations

import builtins
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from sightline.data import parquet_file
from sightline.data.image import open_image
from sightline.data.layouts import open_data
from sightline.data.parsing import located_samples, read_samples
from sightline.errors import ConfigError, DataError
from tests.data.shards import asked, png, write_parquet

pytest.importorskip("pyarrow")

COLORS = ["red", "lime", "blue", "white", "black", "yellow"]
RGB = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (255, 255, 0)]


def cell(number: int, form: str) -> Any:
    content = png(COLORS[number])
    return {"bytes": content, "path": f"{number}.png" if form == "struct" else None} if form != "bytes" else content


def rows(form: str) -> list[dict[str, Any]]:
    """Every third has no picture."""
    return [
        {"id": f"r{number}", "image": cell(number, form) if number % 3 else None,
         "conversations": asked("<image>\nWhat?" if number % 3 else "What?")}
        for number in range(6)
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["struct", "nameless", "bytes"])
def test_pictures_in_the_rows_are_opened_by_row(form: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", rows(form))
    file = pickle.loads(pickle.dumps(open_data(path)))
    assert file.holds_pictures
    records = list(file.records())
    assert [file.record(record.at).value for record in records[::-1]] == [record.value for record in records[::-1]]
    samples = read_samples(path)
    assert [len(sample.images) for sample in samples] == [0, 1, 1, 0, 1, 1]
    found = [open_image(name, root=tmp_path).getpixel((0, 0)) for sample in samples for name in sample.images]
    assert found == [RGB[number] for number in (1, 2, 4, 5)]
    assert samples[1].source == f"{path}:2"


def test_lists_of_pictures_and_the_messages_form(tmp_path: Path) -> None:
    content = [{"type": "image", "text": None}, {"type": "image", "text": None}, {"type": "text", "text": "Two?"}]
    said = [{"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}]  # fmt: skip
    path = write_parquet(
        tmp_path / "a.parquet",
        [{"id": number, "images": [cell(number, "struct"), cell(2, "struct")], "messages": said} for number in (0, 1)],
    )
    samples = read_samples(path)
    assert [sample.id for sample in samples] == ["0", "1"]
    found = [open_image(name, root=tmp_path).getpixel((0, 0)) for sample in samples for name in sample.images]
    assert found == [RGB[0], RGB[2], RGB[1], RGB[2]]


def test_names_of_pictures_are_paths_below_the_images_folder(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"id": "1", "image": "x/1.png", "conversations": asked()}])
    assert not open_data(path).holds_pictures
    ((sample, root),) = located_samples(path, tmp_path / "pictures")
    assert getattr(sample, "images", None) == ("x/1.png",)
    assert root == tmp_path / "pictures"


def test_only_a_few_row_groups_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_file, "KEPT_BYTES", 1)
    file = open_data(write_parquet(tmp_path / "a.parquet", rows("struct"), group=1))
    records = list(file.records())
    for record in (*records, *records):
        assert file.record(record.at).value == record.value
    assert len(parquet_file._groups) == 1


def test_a_row_that_is_no_sample_is_rejected(tmp_path: Path) -> None:
    two = [{"id": str(number), "conversations": asked("Q?"), "extra": extra} for number, extra in ((1, 1), (2, None))]
    path = write_parquet(tmp_path / "a.parquet", two)
    bad, good = [found for found, _ in located_samples(path, None)]
    assert getattr(bad, "reason", None) == "unknown_key"
    assert good.id == "2"


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "footer", "pages"])
def test_a_damaged_file_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", rows("struct"))
    raw = path.read_bytes()
    middle = raw[:4] + b"\xff" * (len(raw) // 2) + raw[4 + len(raw) // 2 :]
    changed = {"empty": b"", "cut": raw[:-9], "text": b"PAR1 and nothing", "pages": middle,
               "footer": raw[:-200] + b"\xff" * 190 + raw[-10:]}  # fmt: skip
    path.write_bytes(changed[damage])
    with pytest.raises(DataError) as caught:
        read_samples(path)
    assert caught.value.reason == "parquet_unreadable"
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_rows_are_no_samples(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([("id", pyarrow.string())])
    parquet.write_table(schema.empty_table(), tmp_path / "a.parquet")
    with pytest.raises(DataError) as caught:
        read_samples(tmp_path / "a.parquet")
    assert caught.value.reason == "file_empty"


def test_a_picture_that_is_not_there_is_missing(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", rows("struct"))
    write_parquet(tmp_path / "b.parquet", [{"id": "1", "conversations": asked("Q?")}])
    for name in ("a.parquet!/0.0/", "a.parquet!/1.1/", "a.parquet!/99.0/", "a.parquet!/x", "b.parquet!/0.0/"):
        with pytest.raises(DataError) as caught:
            open_image(name, root=tmp_path)
        assert caught.value.reason == "image_missing", name


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", rows("struct"))
    file = open_data(path)
    first = next(file.records())
    write_parquet(path, rows("bytes")[:2])
    os.utime(path, (1, 1))
    with pytest.raises(DataError) as caught:
        file.record(first.at)
    assert caught.value.reason == "data_changed"


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "a.parquet", rows("struct"))
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"pip install 'sightline\[parquet\]'"):
        read_samples(path)
