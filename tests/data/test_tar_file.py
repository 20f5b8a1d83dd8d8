"""Tars in WebDataset's layout: samples with their pictures, whatever members are called, and whatever is wrong."""

from __future__ import annotations

import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sightline.data.image import check_image, open_image
from sightline.data.layouts import open_data
from sightline.data.parsing import located_samples, read_samples
from sightline.data.sample import Rejection, Sample
from sightline.data.tar_file import MAX_HEADER
from sightline.errors import DataError
from tests.data.shards import Entry, conversation, png, write_tar

LINK: dict[str, Any] = {"type": tarfile.SYMTYPE, "linkname": "/etc/hostname"}


def read(path: Path) -> list[Sample | Rejection]:
    return [found for found, _ in located_samples(path, None)]


def only(path: Path) -> Sample:
    (sample,) = read_samples(path)
    return sample


def color(path: Path, number: int = 0) -> Any:
    return open_image(only(path).images[number], root=path.parent).getpixel((0, 0))


def test_members_of_a_key_are_a_sample_with_its_pictures(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [
        ("k1.json", conversation()), ("k1.jpg", png("red")),
        ("k2.json", conversation("<image><image>\nTwo?")), ("k2.0.png", png("lime")), ("k2.1.png", png("blue")),
        ("k3.json", conversation("None?", id="own")),
        ("k4.PNG", png("red")), ("k4.txt", b" A red thing.\n"), ("k4.json", b'{"url": "https://example.org"}'),
    ])  # fmt: skip
    samples = read_samples(path)
    assert [sample.id for sample in samples] == ["k1", "k2", "own", "k4"]
    assert [len(sample.images) for sample in samples] == [1, 2, 0, 1]
    assert samples[3].turns[1].content == ("A red thing.",)
    found = [open_image(name, root=tmp_path).getpixel((3, 3)) for sample in samples for name in sample.images]
    assert found == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 0)]
    assert check_image(samples[0].images[0], root=tmp_path) == (40, 30)


def test_any_sample_is_what_reading_in_order_gives(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [
        ("README", b"x"), (f"{'deep/' * 40}k1.json", conversation()), (f"{'deep/' * 40}k1.png", png()),
        ("folder", b"", {"type": tarfile.DIRTYPE}), ("._k2.json", b"junk"), ("k2.json", conversation("No picture?")),
    ])  # fmt: skip
    file = pickle.loads(pickle.dumps(open_data(path)))
    records = list(file.records())
    assert [file.record(record.at).value for record in records[::-1]] == [record.value for record in records[::-1]]
    assert [record.place for record in records] == [f"{path}:1", f"{path}:2"]
    assert records[1].value["id"] == "k2"


@pytest.mark.parametrize("name", ["../../etc/k", "/etc/k", "a/../../k", "./k", "http://x/k", "a!/b", "k' \"\u00fc"])
def test_names_of_members_are_data_and_never_paths(name: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [(f"{name}.json", conversation()), (f"{name}.png", png("lime"))])
    assert only(path).id == name
    assert color(path) == (0, 255, 0)
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]


@pytest.mark.parametrize(
    ("members", "reason", "words"),
    [
        ([("k.json", conversation()), ("k.png", b"", LINK)], "member_not_a_file", "k.png"),
        ([("k.json", conversation()), ("k.png", b"", {"type": tarfile.LNKTYPE, "linkname": "k.json"})],
         "member_not_a_file", "k.png"),
        ([("k.json", conversation()), ("k.png", b"", {"type": tarfile.CHRTYPE})], "member_not_a_file", "k.png"),
        ([("k.json", conversation()), ("k.png", png()), ("k.png", png("lime"))], "member_duplicate", "twice"),
        ([("k.json", conversation()), ("k.json", conversation())], "member_duplicate", "twice"),
        ([("k.png", png()), ("k.cls", b"3")], "member_missing", "k.json"),
        ([("k.json", b"{broken"), ("k.png", png())], "json_invalid", "JSON"),
        ([("k.json", b"\xff\xfe"), ("k.png", png())], "not_utf8", "UTF-8"),
        ([("k.json", b"[]"), ("k.png", png())], "sample_not_object", "sample"),
        ([("k.json", conversation(image=["a", "b"])), ("k.png", png())], "image_count", "2 names"),
        ([("k.json", conversation("No mark?")), ("k.png", png())], "image_count", "1 files"),
        ([("k.json", b'{"image": "a", "image": "b"}')], "json_duplicate_key", "twice"),
        ([("k.txt", b" "), ("k.png", png())], "answer_empty", "empty"),
    ],
)  # fmt: skip
def test_a_bad_sample_is_rejected_and_the_next_is_read(
    members: list[Entry], reason: str, words: str, tmp_path: Path
) -> None:
    path = write_tar(tmp_path / "a.tar", [*members, ("last.json", conversation("Still here?"))])
    bad, good = read(path)
    assert isinstance(bad, Rejection)
    assert (bad.reason, bad.line, bad.id) == (reason, 1, "k" if reason != "sample_not_object" else None)
    assert words in bad.message
    assert "\n" not in bad.message
    assert isinstance(good, Sample)
    assert good.id == "last"


def test_a_repeated_key_further_on_is_a_repeated_id(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [(f"{key}.json", conversation("Which?")) for key in ("a", "b", "a")])
    assert [getattr(one, "reason", None) for one in read(path)] == [None, None, "id_duplicate"]


def test_a_damaged_tar_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [(f"{number}.json", conversation("Which?")) for number in range(9)])
    raw = path.read_bytes()
    header = bytearray(raw)
    header[1024 + 130] ^= 1  # in the checksum's reach of the second header
    cases = [
        (b"", "tar_unreadable"), (raw[:100], "tar_unreadable"), (raw[:700], "tar_unreadable"),
        (raw[:9216], "tar_truncated"), (bytes(header), "tar_truncated"), (b"PK\3\4" + bytes(600), "tar_unreadable"),
        (b"\x1f\x8b" + raw[2:], "tar_unreadable"), (bytes(10240), "file_empty"),
    ]  # fmt: skip
    for content, reason in cases:
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read(path)
        assert caught.value.reason == reason, (len(content), str(caught.value))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_headers_that_lie_about_sizes_end_the_reading(tmp_path: Path) -> None:
    member = tarfile.TarInfo("k.json")
    member.size = 10**12
    (tmp_path / "a.tar").write_bytes(member.tobuf() + bytes(2048))
    with pytest.raises(DataError, match="beyond the end"):
        read(tmp_path / "a.tar")
    member.size = 0
    raw = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = (-512).to_bytes(12, "big", signed=True)
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + 8 * 32 + sum(raw[156:512]))
    (tmp_path / "b.tar").write_bytes(bytes(raw) + bytes(2048))
    with pytest.raises(DataError) as caught:
        read(tmp_path / "b.tar")
    assert caught.value.reason == "tar_unreadable"
    name = tarfile.TarInfo("x" * (MAX_HEADER + 600) + ".json")
    (tmp_path / "c.tar").write_bytes(name.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(DataError, match="a header of"):
        read(tmp_path / "c.tar")


def test_the_mark_of_a_tar_is_of_its_texts_names_and_places(tmp_path: Path) -> None:
    def mark(answer: str = "Red.", name: str = "k", shade: str = "red") -> str:
        members: list[Entry] = [(f"{name}.json", conversation(answer=answer)), (f"{name}.png", png(shade))]
        return open_data(write_tar(tmp_path / "a.tar", members)).sha256()

    assert mark() == mark()
    assert len({mark(), mark(answer="Blu."), mark(name="l")}) == 3


def test_a_tar_that_changed_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("k.json", conversation("Which?"))])
    file = open_data(path)
    (record,) = file.records()
    write_tar(path, [("k.json", conversation("Where?"))])
    os.utime(path, (1, 1))
    for use in (lambda: file.record(record.at), file.sha256):
        with pytest.raises(DataError) as caught:
            use()
        assert caught.value.reason == "data_changed"


def test_pictures_are_held_to_the_same_limits_and_root(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar", [("k.txt", b"words"), ("k.png", b"no picture"), ("m.png", b""), ("m.txt", b"x")]
    )
    name, empty = (sample.images[0] for sample in read_samples(path))
    inner = name.partition("!/")[2]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link.tar").symlink_to(path)
    for picture, root, reason in [
        (name, tmp_path, "image_unreadable"), (empty, tmp_path, "image_empty"),
        (f"../a.tar!/{inner}", tmp_path / "sub", "image_path_outside_root"),
        (f"link.tar!/{inner}", tmp_path / "sub", "image_path_outside_root"),
        (f"{path}!/{inner}", tmp_path, "image_path_outside_root"),
        ("a.tar!/999999999+5/k.png", tmp_path, "image_missing"), ("a.tar!/k.png", tmp_path, "image_missing"),
        ("a.tar!/", tmp_path, "image_missing"), ("none.tar!/0+5/k.png", tmp_path, "image_missing"),
    ]:  # fmt: skip
        with pytest.raises(DataError) as caught:
            open_image(picture, root=root)
        assert caught.value.reason == reason, picture


def test_a_tar_behind_a_link_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    write_tar(tmp_path / "store" / "blob", [("k.json", conversation()), ("k.png", png("lime"))])
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "a.tar").symlink_to(tmp_path / "store" / "blob")
    ((sample, root),) = located_samples(tmp_path / "names" / "a.tar", None)
    assert isinstance(sample, Sample)
    assert open_image(sample.images[0], root=root).getpixel((0, 0)) == (0, 255, 0)


def test_a_folder_whose_name_ends_like_a_mark_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a!").mkdir()
    (tmp_path / "a!" / "1.png").write_bytes(png())
    assert check_image("a!/1.png", root=tmp_path) == (40, 30)
