"""The loss of a data file: each trained token counts once, whatever the batch; what is left out is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn import functional

from sightline.data.parsing import read_samples
from sightline.data.processor import Processor
from sightline.data.tokens import IGNORE
from sightline.errors import DataError, SightlineError
from sightline.evaluate.sample_loss import LossReport, SampleLoss, measure, table
from sightline.exchange.import_checkpoint import import_checkpoint
from sightline.infer.load import load
from sightline.model.vlm import VisionLanguageModel
from tests.tiny_checkpoint import tiny_assistant

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"

Assistant = tuple[VisionLanguageModel, Processor]


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return tiny_assistant()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, color in enumerate(("red", "green", "blue")):
        Image.new("RGB", (40, 30), color).save(tmp_path / f"{number}.png")
    return tmp_path


def record(name: str, answer: str, **more: Any) -> dict[str, Any]:
    question = "<image>\nWhat?" if "image" in more else "What?"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": turns, **more}


GOOD = [
    record("a", "Red and round, and a good deal longer than the others.", image="0.png"),
    record("b", "So."),
    record("c", "Green.", image="1.png"),
    record("d", "It is blue, I think.", image="2.png"),
    record("e", "Because it is."),
]


def write(folder: Path, *records: Any) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def measured(
    assistant: Assistant, data: Path, batch: int = 2, limit: int | None = None
) -> tuple[LossReport, list[str]]:
    said: list[str] = []
    report = measure(*assistant, data, root=data.parent, batch=batch, limit=limit, say=said.append)
    return report, said


def test_losses_are_those_of_each_sample_alone_in_the_files_order(assistant: Assistant, root: Path) -> None:
    model, processor = assistant
    data = write(root, *GOOD)
    report, _ = measured(assistant, data)
    assert [one.id for one in report.samples] == ["a", "b", "c", "d", "e"]
    sums = 0.0
    for sample, found in zip(read_samples(data), report.samples, strict=True):
        example = processor.example(sample, root=root)
        with torch.no_grad():
            logits = model(example.input_ids[None], pixels=example.pixels)[0]
        expected = functional.cross_entropy(logits[:-1], example.labels[1:], reduction="sum", ignore_index=IGNORE)
        assert found.tokens == int((example.labels != IGNORE).sum())
        assert found.loss * found.tokens == pytest.approx(expected.item(), rel=1e-4)
        sums += expected.item()
    assert report.tokens == sum(one.tokens for one in report.samples)
    assert report.mean == pytest.approx(sums / report.tokens, rel=1e-5), "over tokens, not over samples"
    assert report.perplexity == math.exp(report.mean)


def test_the_batch_changes_nothing(assistant: Assistant, root: Path) -> None:
    data = write(root, *GOOD * 4)
    one, many = measured(assistant, data, batch=1)[0], measured(assistant, data, batch=7)[0]
    assert [(sample.id, sample.tokens) for sample in one.samples] == [(s.id, s.tokens) for s in many.samples]
    assert one.samples[5].id == "a#2"
    for first, second in zip(one.samples, many.samples, strict=True):
        assert first.loss == pytest.approx(second.loss, rel=1e-4)


def test_the_head_sees_no_more_than_a_batch_needs(assistant: Assistant, root: Path) -> None:
    model, processor = assistant
    seen: list[int] = []
    head = model.language.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    (sample,) = read_samples(write(root, GOOD[0]))
    measured(assistant, root / "data.jsonl")
    hook.remove()
    encoded = processor.encode(sample)
    assert seen == [len(encoded.labels) - encoded.labels.count(IGNORE)]
    assert seen[0] < len(encoded.ids)


def test_what_cannot_be_used_is_named_and_counted(assistant: Assistant, root: Path) -> None:
    bad = [record("x", "Gone.", image="none.png"), record("y", ""), record("z", "Gone too.", image="gone.png")]
    report, said = measured(assistant, write(root, GOOD[0], *bad, GOOD[1]))
    assert [one.id for one in report.samples] == ["a", "b"]
    assert report.refused == {"image_missing": 2, "answer_empty": 1}
    assert [line.split(":")[0] for line in said] == [
        "image_missing",
        "answer_empty",
        "image_missing",
        "measured 2 samples",
    ]
    assert "id x" in said[0]
    assert "none.png" in said[0]
    assert "left out: answer_empty 1, image_missing 2" in table(report)


def test_a_file_without_one_usable_sample_is_an_error(assistant: Assistant, root: Path) -> None:
    with pytest.raises(DataError, match="none of its samples can be used \\(image_missing 1\\)"):
        measured(assistant, write(root, record("x", "Gone.", image="none.png")))


def test_only_the_first_so_many(assistant: Assistant, root: Path) -> None:
    report, _ = measured(assistant, write(root, *GOOD), limit=2)
    assert [one.id for one in report.samples] == ["a", "b"]


def test_a_loss_that_is_no_number_is_an_error_with_the_samples_name(root: Path) -> None:
    model, processor = tiny_assistant()
    with torch.no_grad():
        model.language.get_output_embeddings().weight.fill_(math.nan)
    with pytest.raises(SightlineError, match="sample b: its loss is nan"):
        measured((model, processor), write(root, GOOD[1]))


def test_the_table_shows_the_samples_or_the_worst_of_many() -> None:
    samples = tuple(SampleLoss(id=f"s{number}", loss=number / 10, tokens=2) for number in range(30))
    few = LossReport(mean=0.05, tokens=4, samples=samples[:2], refused={})
    assert table(few).splitlines()[1:3] == ["s0                 2    0.0000", "s1                 2    0.1000"]
    assert table(few).splitlines()[-1].split() == ["perplexity", "1.05"]
    many = table(LossReport(mean=1.45, tokens=60, samples=samples, refused={})).splitlines()
    assert many[0] == "the 20 highest of 30 samples"
    assert many[2].split() == ["s29", "2", "2.9000"]
    assert len(many) == 24


@pytest.mark.skipif(not PARITY.exists(), reason="no recordings of the original: ../shared/parity is absent")
def test_losses_are_those_of_the_original(tmp_path: Path) -> None:
    import_checkpoint(str(PARITY / "llava-tiny-original"), tmp_path / "ours", say=lambda line: None)
    rows = [json.loads(line) for line in (PARITY / "tokens.jsonl").read_text().splitlines()]
    data = write(tmp_path, *(row["sample"] for row in rows if row["template"] == "v1" and not row["legacy"]))
    report = measure(*load(tmp_path / "ours"), data, root=PARITY / "images", batch=2, limit=None, say=lambda line: None)
    expected = {row["id"]: row["loss"] for row in json.loads((PARITY / "forward.json").read_text())["losses"]}
    assert {one.id for one in report.samples} == set(expected)
    for one in report.samples:
        assert abs(one.loss - expected[one.id]) < 1e-4
