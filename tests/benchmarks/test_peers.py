"""The peers train on the same weights and samples: their losses are ours, step by step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.peers import collate
from benchmarks.sizes import MODES, SIZES
from benchmarks.train import TOLERANCE, WARM_UP, figures, in_turn, worst_difference
from benchmarks.world import make_world

TINY = replace(SIZES["tiny"], batch=4)


@pytest.mark.parametrize(
    ("mode", "peer"), [("stage1", "trainer"), ("stage2", "grouped"), ("stage2-lora", "single"), ("stage2", "trl")]
)
def test_losses_agree_step_by_step(tmp_path: Path, mode: str, peer: str) -> None:
    if peer == "trl":
        pytest.importorskip("trl", reason="the extra `bench` is not installed")
    way = replace(MODES[mode], rate=1e-2)  # so that a step that is not taken alike shows
    world = make_world(tmp_path / "world", TINY, way, steps=3 + WARM_UP, grouped=peer == "grouped")
    both = in_turn(replace(world, mode=way), peer, TINY.micro_batches[peer], tmp_path)
    losses = [step.loss for step in both.ours]
    assert worst_difference(losses, [step.loss for step in both.theirs]) < TOLERANCE
    assert max(losses) - min(losses) > 100 * TOLERANCE
    row = figures(both)
    assert row["counts"]
    assert row["our padding"] == 0 <= row["their padding"] < 1
    assert 0 < row["of limit"] < 1


def test_collate_pads_on_the_right_and_masks_it() -> None:
    pixels = torch.ones(1, 3, 4, 4)
    features = [
        {"input_ids": torch.tensor([5, 6, 7]), "labels": torch.tensor([-100, 6, 7]), "images": pixels},
        {"input_ids": torch.tensor([8]), "labels": torch.tensor([8]), "images": pixels[:0]},
    ]
    batch = collate(features)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["pixel_values"].shape == (1, 3, 4, 4)
    assert "pixel_values" not in collate(features[1:])
