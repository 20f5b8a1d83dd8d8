"""A step's figures: over its whole time, without padding, with the encoder's arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sightline.data.batch import pack, pad
from sightline.train.figures import peak_memory, shown_in, slots, status_bytes, step_figures
from sightline.train.flops import Shown, causal_pairs
from tests.train.small_run import toy_examples

SHOWN = Shown(positions=900, pairs=5000, trained=300, pictures=6, encoded=6)


def figures(**changes: Any) -> dict[str, Any]:
    given = {"positions": 1000, "seconds": 2.0, "waited": 0.5, "flops": 8_000_000}
    return step_figures(SHOWN, **{**given, "peak_flops": None, "peak_memory": None, **changes})


def test_rates_are_over_the_whole_step_and_padding_is_no_token() -> None:
    assert figures() == {
        "tokens_per_second": 450.0,
        "trained_per_second": 150.0,
        "pictures_per_second": 3.0,
        "padding": pytest.approx(0.1),
        "data_wait": 0.25,
        "flops_per_second": 4e6,
    }


def test_what_is_not_known_is_not_told() -> None:
    known = figures(peak_flops=1.6e7, peak_memory=3 * 2**29)
    assert (known["mfu"], known["peak_memory_gib"]) == (0.25, 1.5)
    assert known.keys() - figures().keys() == {"mfu", "peak_memory_gib"}


def test_what_a_step_shows_is_counted_over_its_batches() -> None:
    examples = toy_examples(5)
    packed = [pack(examples[:3]), pack(examples[3:])]
    found = shown_in(packed)
    lengths = [len(example.input_ids) for example in examples]
    assert (found.positions, found.pairs) == (sum(lengths), causal_pairs(lengths))
    assert found.trained == sum(batch.trained_tokens for batch in packed)
    assert (found.pictures, found.encoded) == (6, 6)
    padded = [pad(examples, pad_id=0)]
    assert shown_in(padded) == found
    assert slots(packed) == found.positions
    assert slots(padded) == 5 * max(lengths)


def test_pictures_whose_features_are_on_disk_are_not_encoded() -> None:
    batch = replace(pack(toy_examples(5)), features=torch.zeros(2, 4, 8))
    assert (shown_in([batch]).pictures, shown_in([batch]).encoded) == (8, 6)


def test_a_step_of_no_time_and_nothing_is_no_fault() -> None:
    nothing = Shown(positions=0, pairs=0, trained=0, pictures=0, encoded=0)
    found = step_figures(nothing, positions=0, seconds=0, waited=0, flops=0, peak_flops=1.0, peak_memory=0)
    assert found["tokens_per_second"] == found["mfu"] == 0


def test_peak_memory_is_that_of_this_process() -> None:
    if status_bytes("VmHWM") is None:
        pytest.skip("no /proc here")
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(2**26)  # 256 MiB, touched
    after = peak_memory(torch.device("cpu"))
    assert before is not None
    assert after is not None
    assert after >= held.nbytes
    del held
    assert peak_memory(torch.device("cpu")) == pytest.approx(after, rel=0.02)
