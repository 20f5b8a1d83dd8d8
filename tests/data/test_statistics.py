"""Data in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightline.data import crew
from sightline.data.sample import Sample
from sightline.data.statistics import Statistics, answer_kind, measure_files, source_of, summary
from sightline.data.statistics_plot import plot, table, top
from tests.data.shards import asked, conversation, write_tar
from tests.tiny_checkpoint import tiny_processor


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Yes", "yes/no"), ("no.", "yes/no"), ("YES!", "yes/no"), ("Yes, it is.", "short"), ("nothing", "short"),
        ("3", "number"), ("-1.5", "number"), ("1,200", "number"), ("45%", "number"), ("3 dogs", "short"),
        ("A", "letter"), ("(B)", "letter"), ("C.", "letter"), ("a", "short"), ("AB", "short"),
        ("[0.1, 0.2, 0.3, 0.4]", "box"), (" [1, 2, 3, 4]\n", "box"), ("at [0.1, 0.2, 0.3, 0.4]", "short"),
        ("one two three four five", "short"), ("one two three four five six", "long"),
    ],
)  # fmt: skip
def test_kinds_of_answers(text: str, kind: str) -> None:
    assert answer_kind(text) == kind


@pytest.mark.parametrize(
    ("image", "source"),
    [
        ("coco/train2017/1.jpg", "coco"), ("vg/1.jpg", "vg"), ("1.jpg", "."), ("s/a.tar!/0+1/x/y.jpg", "s/a.tar"),
        (None, "(no picture)"),
    ],
)  # fmt: skip
def test_sources(image: str | None, source: str) -> None:
    assert source_of(Sample(id="1", images=() if image is None else (image,), turns=())) == source


def test_a_summary_of_lengths() -> None:
    assert summary([]) is None
    assert summary([4, 1, 10, 1]) == {
        "total": 16, "mean": 4.0, "min": 1, "median": 1, "p95": 10, "p99": 10, "max": 10,
    }  # fmt: skip


def write(folder: Path) -> Path:
    twice = [*asked("<image>\nIs it?", "Yes."), *asked("How many?", "3")]
    samples = [
        {"id": "a", "image": "coco/1.jpg", "conversations": twice},
        {"id": "b", "image": "coco/2.jpg", "conversations": asked(answer="A dog on a sofa, sound asleep.")},
        {"id": "c", "conversations": asked("What?", "Red.")},
        {"id": "d", "conversations": asked("What?", "")},
        {"id": "e", "conversations": asked("long " * 2000, "cut off")},
    ]  # fmt: skip
    (folder / "a.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return folder / "a.jsonl"


def test_files_are_counted_and_tokens_are_those_of_training(tmp_path: Path) -> None:
    path = write(tmp_path)
    processor = tiny_processor()
    found = measure_files([path], processor, processes=1).to_json()
    assert (found["samples"], found["refused"]) == (4, {"answer_empty": 1, "no_supervised_tokens": 1})
    assert found["images"] == {"0": 2, "1": 2}
    assert found["turns"] == {"1": 3, "2": 1}
    assert found["sources"] == {"coco": 2, "(no picture)": 2}
    assert found["answers"] == {"yes/no": 1, "number": 1, "letter": 0, "box": 0, "short": 2, "long": 1}
    assert found["answer_words"]["total"] == 1 + 1 + 7 + 1 + 2
    from sightline.data.parsing import read_samples

    encoded = [processor.encode(sample) for sample in read_samples(path, on_reject=lambda one: None)[:3]]
    assert found["tokens"]["total"] == sum(len(one.ids) for one in encoded)
    assert found["trained_tokens"]["total"] == sum(len(one.labels) - one.labels.count(-100) for one in encoded)
    assert found["cut"] == 0


def test_what_max_length_cuts_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"id": "a", "conversations": asked("Q?", "word " * 2000)}))
    found = measure_files([path], tiny_processor(), processes=1)
    assert (found.cut, list(found.tokens)) == (1, [1024])


def test_without_a_processor_there_are_no_tokens(tmp_path: Path) -> None:
    found = measure_files([write(tmp_path)], None, processes=1)
    assert (found.samples, found.to_json()["tokens"]) == (4, None)


def test_several_processes_and_files_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    tar = write_tar(tmp_path / "b.tar", [("k.json", conversation("Q?")), ("l.json", conversation("R?"))])
    alone = measure_files([path, tar], None, processes=1)
    assert alone.samples == 6
    monkeypatch.setattr(crew, "ALONE", 1)
    assert measure_files([path, tar], None, processes=2) == alone


def test_a_table_and_a_picture(tmp_path: Path) -> None:
    found = measure_files([write(tmp_path)], tiny_processor(), processes=1)
    text = table(found)
    assert "4 samples, 2 refused" in text
    assert "coco" in text
    assert " 50.0%  (no picture)" in text
    plot(found, tmp_path / "new" / "a.png", title="a.jsonl")
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")
    plot(Statistics(), tmp_path / "empty.png", title="nothing")
    assert (tmp_path / "empty.png").exists()


def test_many_counts_are_summed_at_the_end() -> None:
    assert top({str(number): 10 for number in range(15)})["(3 more)"] == 30
    assert len(top({str(number): 10 for number in range(12)})) == 12
