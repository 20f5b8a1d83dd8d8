"""Feedback is training data: what is kept can be read, encoded and trained on as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.data.parsing import read_samples
from sightline.data.sample import ImageRef
from sightline.errors import ConfigError
from sightline.serve.feedback import Collection
from tests.serve.running import BLUE, RED, Running, address_of, encoded, running, shown
from tests.tiny_checkpoint import tiny_assistant

A = {"role": "assistant", "content": "It is red."}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Running]:
    with running(tiny_assistant(), collection=Collection(tmp_path / "kept.jsonl", most_bytes=50_000)) as found:
        yield found


def judge(served: Running, **body: Any) -> Any:
    asked = {"model": "tiny", "messages": shown(RED), "answer": "Red.", "rating": "up"} | body
    return served.ask("POST", "/v1/feedback", asked)


def test_a_good_answer_becomes_a_sample_that_training_takes(served: Running, tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, *shown(RED), A, *shown(BLUE, RED, text="And these?")]
    reply = judge(served, messages=talk, answer="Blue, and red.")
    assert (reply.status, reply.json["kept"]) == (200, True)
    (sample,) = read_samples(tmp_path / "kept.jsonl")
    assert sample.system == "Be brief."
    assert [turn.role for turn in sample.turns] == ["user", "assistant"] * 2
    assert sample.turns[0].content == (ImageRef(index=0), "\nWhat?")
    assert sample.turns[-1].content == ("Blue, and red.",)
    assert len(sample.images) == 3
    assert sample.images[0] == sample.images[2]
    folder = tmp_path / "kept-pictures"
    assert len(list(folder.iterdir())) == 2
    assert (folder / sample.images[0]).read_bytes() == encoded(RED)
    processor = served.service.models["tiny"].processor
    example = processor.example(sample, root=folder)
    assert processor.decode([label for label in example.labels.tolist() if label >= 0]).endswith("Blue, and red.")


def test_a_correction_takes_the_place_of_the_answer(served: Running, tmp_path: Path) -> None:
    assert judge(served, rating="down", correction="A red square.").status == 200
    line = json.loads((tmp_path / "kept.jsonl").read_text())
    assert line["conversations"][-1] == {"from": "gpt", "value": "A red square."}
    assert line["conversations"][0] == {"from": "human", "value": "<image>\nWhat?"}
    assert line["metadata"] == {"rating": "down", "rejected": "Red."}


def test_a_bad_answer_without_a_correction_is_kept_where_nobody_trains_on_it(served: Running, tmp_path: Path) -> None:
    assert judge(served, rating="down", correction=None).status == 200
    assert (tmp_path / "kept.jsonl").read_text() == ""
    (sample,) = read_samples(tmp_path / "kept-down.jsonl")
    assert sample.turns[-1].content == ("Red.",)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"rating": "great"}, "invalid_value"),
        ({"rating": None}, "invalid_value"),
        ({"answer": ""}, "invalid_value"),
        ({"answer": "  "}, "feedback_not_usable"),
        ({"answer": "a <image> of red"}, "feedback_not_usable"),
        ({"answer": "a\0b"}, "invalid_text"),
        ({"messages": shown(RED, text="what is <image>?")}, "feedback_not_usable"),
        ({"messages": shown("/etc/passwd")}, "image_url_not_allowed"),
        ({"messages": shown(address_of(b"\x89PNG\r\n\x1a\n"))}, "image_unreadable"),
        ({"messages": [*shown(RED), A]}, "roles_must_alternate"),
        ({"file": "/etc/cron.d/x"}, "unknown_parameter"),
    ],
)
def test_what_cannot_be_kept_leaves_nothing_behind(
    served: Running, tmp_path: Path, body: dict[str, Any], code: str
) -> None:
    reply = judge(served, **body)
    assert (reply.status, reply.code) == (400, code)
    assert (tmp_path / "kept.jsonl").read_text() == ""
    assert list((tmp_path / "kept-pictures").iterdir()) == []


def test_a_mark_that_was_typed_without_pictures_is_words(served: Running, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "What is <image>?"}]
    assert judge(served, messages=messages, answer="A mark: <image>.").status == 200
    (sample,) = read_samples(tmp_path / "kept.jsonl")
    assert sample.turns[0].content == ("What is <image>?",)


def test_the_disk_is_not_filled(served: Running, tmp_path: Path) -> None:
    statuses = [judge(served, answer="word " * 1000).status for _ in range(12)]
    assert statuses[0] == 200
    assert statuses[-1] == 503
    kept = (tmp_path / "kept.jsonl").stat().st_size
    assert kept < 50_000
    again = Collection(tmp_path / "kept.jsonl", most_bytes=50_000)
    assert again._bytes >= kept, "what was there before counts"


def test_without_a_file_there_is_no_such_address() -> None:
    with running(tiny_assistant()) as served:
        assert judge(served).status == 404
        assert served.ask("GET", "/v1/models").json["data"][0]["collect"] is False
        assert "/v1/feedback" not in served.ask("GET", "/openapi.json").json["paths"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--collect"):
        Collection(tmp_path / "file" / "kept.jsonl")
