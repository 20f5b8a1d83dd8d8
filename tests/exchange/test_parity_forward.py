"""An imported checkpoint of the original's gives the original's losses, logits and greedy tokens."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from sightline.data.batch import pack, pad
from sightline.data.image import open_image
from sightline.data.parsing import read_samples
from sightline.data.processor import Processor
from sightline.exchange.import_checkpoint import import_checkpoint
from sightline.infer.chat import ChatSession
from sightline.infer.load import load
from sightline.infer.sampling import Sampling
from sightline.model.packed import use_packed_attention
from sightline.model.vlm import VisionLanguageModel
from sightline.train.loss import loss_sum

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
VOCABULARY = 32000

pytestmark = pytest.mark.skipif(not PARITY.exists(), reason="no recordings of the original: ../shared/parity is absent")

Loaded = tuple[VisionLanguageModel, Processor]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    target = tmp_path_factory.mktemp("imported") / "ours"
    import_checkpoint(str(PARITY / "llava-tiny-original"), target, say=lambda line: None)
    return load(target)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rows = [json.loads(line) for line in (PARITY / "tokens.jsonl").read_text().splitlines()]
    path = tmp_path_factory.mktemp("data") / "samples.json"
    path.write_text(json.dumps([row["sample"] for row in rows if row["template"] == "v1" and not row["legacy"]]))
    return {sample.id: sample for sample in read_samples(path)}


def recorded() -> dict[str, Any]:
    return dict(json.loads((PARITY / "forward.json").read_text())) if PARITY.exists() else {"losses": []}


@pytest.mark.parametrize("row", recorded()["losses"], ids=lambda row: row["id"])
def test_losses_and_logits_are_the_originals(row: dict[str, Any], loaded: Loaded, samples: dict[str, Any]) -> None:
    model, processor = loaded
    example = processor.example(samples[row["id"]], root=PARITY / "images")
    assert len(example.input_ids) == row["seq_len"]
    with torch.no_grad():
        logits = model(example.input_ids[None], pixels=example.pixels)[0]
    loss = cross_entropy(logits[:-1], example.labels[1:], ignore_index=-100)
    assert abs(loss.item() - row["loss"]) < 1e-4
    arrays = np.load(PARITY / "forward.npz")
    ours = logits[:, :VOCABULARY]
    np.testing.assert_allclose(ours[-1].numpy(), arrays[f"{row['id']}|logits_last"], atol=1e-4)
    # A sum of 32,000 numbers in float32, about 300: its own rounding is some 1e-4.
    np.testing.assert_allclose(ours.double().sum(-1).numpy(), arrays[f"{row['id']}|logits_sum"], atol=1e-3)


@pytest.mark.parametrize("packed", [False, True])
def test_the_training_step_has_the_originals_loss_and_gradient(
    packed: bool, loaded: Loaded, samples: dict[str, Any]
) -> None:
    """By the code that trains: the loss over trained positions, the gradient of the projector's first weight."""
    model = copy.deepcopy(loaded[0])
    model.connector.requires_grad_(True)
    assert not packed or use_packed_attention(model.language) is None
    weight = next(model.connector.parameters())
    for row in recorded()["losses"]:
        example = loaded[1].example(samples[row["id"]], root=PARITY / "images")
        batch = pack([example]) if packed else pad([example], pad_id=0)
        loss = loss_sum(model, batch) / batch.trained_tokens
        assert abs(loss.item() - row["loss"]) < 1e-4
        weight.grad = None
        if example.pictures:
            loss.backward()
            assert weight.grad is not None
            assert weight.grad.norm().item() == pytest.approx(row["projector0_grad_norm"], rel=1e-4)


@pytest.mark.parametrize("row", recorded().get("generation", []), ids=lambda row: row["id"])
def test_greedy_tokens_are_the_originals(row: dict[str, Any], loaded: Loaded, samples: dict[str, Any]) -> None:
    model, processor = loaded
    session = ChatSession(model=model, processor=processor, sampling=Sampling(max_new_tokens=16))
    question = row["prompt"].split("<image>\n")[1].removesuffix(" ASSISTANT:")
    picture = open_image(samples[row["id"]].images[0], root=PARITY / "images")
    session.ask(question, [picture])
    assert session.last is not None
    assert session.last.prompt_ids == row["prompt_ids"]
    assert session.last.answer_ids == row["new_ids"][1:]  # the first is a BOS that the original's version puts before
