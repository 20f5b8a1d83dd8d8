"""All that is wrong with data: found where it is, counted by reason, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.data import checks, crew
from sightline.data.checks import Findings, Settings, check_files
from sightline.errors import DataError
from tests.data.shards import asked, conversation, png, write_parquet, write_tar


def sample(name: str, answer: str = "", **more: Any) -> dict[str, Any]:
    return {"id": name, "conversations": asked("What?", answer or f"It is {name}."), **more}


def shown(name: str, picture: str) -> dict[str, Any]:
    return {"id": name, "image": picture, "conversations": asked(f"<image>\nWhat is {name}?")}


def write(path: Path, samples: Sequence[Any], *, listed: bool = False) -> Path:
    if listed:
        path.write_text(json.dumps(samples, indent=1))
    else:
        path.write_text("".join(json.dumps(one) + "\n" for one in samples))
    return path


def check(*paths: Path, settings: Settings | None = None, **options: Any) -> Findings:
    return check_files(paths, settings or Settings(), say=lambda line: None, processes=1, **options)


def told(found: Findings) -> list[tuple[int, str]]:
    return [(problem.line, problem.reason) for problem in found.problems]


@pytest.mark.parametrize("listed", [False, True])
def test_clean_data_has_no_problem(listed: bool, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(png())
    path = write(tmp_path / "a.json", [sample("a"), shown("b", "1.png"), shown("c", "1.png")], listed=listed)
    found = check(path)
    assert (found.problems, found.counts.total(), found.samples, found.clean, found.pictures) == ([], 0, 3, 3, 1)


def test_all_problems_of_a_sample_are_told_each_once(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    words = "[0.1, 0.2, 1.3, 0.4]</s> and [0.2, 0.3, 7.1, 0.4]</s>"
    broken = shown("b", "bad.png") | {"conversations": asked("<image>\nWhere?", words)}
    found = check(write(tmp_path / "a.jsonl", [sample("a"), broken, shown("c", "none.png"), shown("d", "bad.png")]))
    assert sorted(told(found)) == [
        (2, "box_range"), (2, "image_unreadable"), (2, "special_token"), (3, "image_missing"), (4, "image_unreadable"),
    ]  # fmt: skip
    assert found.counts == {"image_unreadable": 2, "special_token": 1, "box_range": 1, "image_missing": 1}
    assert found.clean == 1
    for problem in found.problems:
        assert problem.file == str(tmp_path / "a.jsonl")
        assert problem.message.startswith(f"{tmp_path / 'a.jsonl'}:{problem.line}: ")
        assert "\n" not in problem.message
    assert "id d" in found.problems[-1].message


def test_in_lines_what_is_broken_costs_its_own_line(tmp_path: Path) -> None:
    good = [json.dumps(sample(name)).encode() for name in "abcdef"]
    lines = [good[0], b"", good[1] + b" \r", good[2][:-5], b"  " + good[3], b"\xff" + good[4], b"{} {}", good[4]]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines) + b"\n" + good[5][:30])
    found = check(path)
    assert told(found) == [(4, "json_invalid"), (6, "not_utf8"), (7, "json_invalid"), (9, "json_truncated")]
    assert (found.samples, found.clean) == (8, 4)
    start = path.read_bytes().rindex(good[5][:30])
    assert f"byte {start}" in found.problems[-1].message


def test_samples_that_span_lines_are_read_as_training_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n".join(json.dumps(sample(name), indent=2) for name in "abc"))
    assert told(check(path)) == []
    path.write_text(path.read_text()[:-20])
    found = check(path)
    assert [reason for _, reason in told(found)] == ["json_truncated"]
    assert (found.samples, found.clean) == (2, 2)


def test_a_list_is_read_up_to_where_it_breaks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [sample("a"), sample("b", "</s>"), sample("c")], listed=True)
    path.write_text(path.read_text()[:-40])
    found = check(path)
    assert [reason for _, reason in told(found)] == ["special_token", "json_truncated"]
    assert found.problems[0].index == 1
    assert (found.samples, found.clean) == (2, 1)
    raw = path.read_bytes()
    assert found.files[0].broken_at == raw.index(b"}", raw.rindex(b"</s>")) + len("}\n  ]\n }")


@pytest.mark.parametrize("content", ["", "[]", " \n", "\n\n"])
def test_no_samples_is_a_problem(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    assert [reason for _, reason in told(check(tmp_path / "a.json"))] == ["file_empty"]


def test_damaged_shards_are_problems_and_the_others_are_checked(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.tar").write_bytes(b"x" * 700)
    (tmp_path / "b.parquet").write_bytes(b"x" * 700)
    write_tar(tmp_path / "c.tar", [("k.json", conversation()), ("k.png", b"x"), ("l.json", conversation("Q?"))])
    write_parquet(tmp_path / "d.parquet", [sample("a"), sample("b", "<unk>")])
    found = check(*sorted(tmp_path.iterdir()))
    assert [(Path(one.file).name, one.line, one.reason) for one in found.problems] == [
        ("a.tar", 0, "tar_unreadable"), ("b.parquet", 0, "parquet_unreadable"), ("c.tar", 1, "image_unreadable"),
        ("d.parquet", 2, "special_token"),
    ]  # fmt: skip
    assert (found.samples, found.clean) == (4, 2)


def test_what_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such data file"):
        check(tmp_path / "none.jsonl")


def test_repeated_ids_and_copies_are_told_apart_and_across_files(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [sample("a"), sample("b"), sample("a", "Other."), sample("a")])
    second = write(tmp_path / "b.jsonl", [sample("a"), sample("x", "It is b."), sample("c")])
    found = check(first, second)
    assert [(Path(one.file).name, one.line, one.reason) for one in found.problems] == [
        ("a.jsonl", 3, "id_duplicate"), ("a.jsonl", 4, "id_duplicate"), ("a.jsonl", 4, "sample_duplicate"),
        ("b.jsonl", 1, "sample_duplicate"), ("b.jsonl", 2, "sample_duplicate"),
    ]  # fmt: skip
    assert f"{first}:2 again" in found.problems[-1].message
    assert found.clean == 3
    numbered = check(first, settings=Settings(number_repeated_ids=True))
    assert told(numbered) == [(4, "sample_duplicate")]


def test_the_same_words_about_another_picture_are_no_copy(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(png())
    words = asked()
    samples = [{"id": name, "image": f"{name}.png", "conversations": words} for name in "12"]
    assert told(check(write(tmp_path / "a.jsonl", samples))) == []


def test_ignored_reasons_are_no_problems(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [sample("a"), sample("a", "</s>"), sample("b", "It is a.")])
    assert len(check(path).problems) == 3
    ignored = frozenset({"special_token", "id_duplicate", "sample_duplicate"})
    found = check(path, settings=Settings(ignored=ignored))
    assert (found.problems, found.clean) == ([], 3)


def test_only_decoding_finds_a_picture_that_is_cut_behind_its_header(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 80).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    path = write(tmp_path / "a.jsonl", [shown("a", "cut.png")])
    assert told(check(path)) == []
    assert told(check(path, settings=Settings(decode=True))) == [(1, "image_unreadable")]


def test_pictures_of_an_evaluation_are_known_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "eval" / "deep").mkdir(parents=True)
    (tmp_path / "eval" / "deep" / "q.png").write_bytes(png("lime"))
    (tmp_path / "eval" / "same size.png").write_bytes(png("lime")[:-1] + b"x")
    (tmp_path / "1.png").write_bytes(png("red"))
    (tmp_path / "2.png").write_bytes(png("lime"))
    lines = write(tmp_path / "a.jsonl", [shown("a", "1.png"), shown("b", "2.png"), sample("c"), shown("d", "2.png")])
    tar = write_tar(tmp_path / "b.tar", [("k.json", conversation("<image> K?")), ("k.png", png("lime"))])
    found = check(lines, tar, evaluation=[tmp_path / "eval"])
    assert told(found) == [(2, "evaluation_image"), (4, "evaluation_image"), (1, "evaluation_image")]
    assert f"{tmp_path / 'eval'}/deep/q.png" in found.problems[0].message
    ignored = Settings(ignored=frozenset({"evaluation_image"}))
    assert told(check(lines, tar, settings=ignored, evaluation=[tmp_path / "eval"])) == []


def test_several_processes_find_the_same_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "ALONE", 1)
    monkeypatch.setattr("sightline.data.check_tasks.BLOCK", 4000)
    samples = [sample(str(number), f"{number}</s>" if number % 7 == 0 else "") for number in range(200)]
    samples[150] = shown("150", "none.png")
    path = write(tmp_path / "a.jsonl", samples)
    alone = check(path)
    together = check_files([path], Settings(), say=lambda line: None, processes=2)
    assert together.problems == alone.problems
    assert len(alone.problems) == 30
    assert list(together.files[0].places) == list(alone.files[0].places)


def test_only_so_many_problems_are_kept_and_all_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MOST_KEPT", 3)
    found = check(write(tmp_path / "a.jsonl", [sample(str(number), f"{number}</s>") for number in range(9)]))
    assert len(found.problems) == 3
    assert found.counts["special_token"] == 9
    assert found.clean == 0
