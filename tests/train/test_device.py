"""Which kind of device a run will have."""

from __future__ import annotations

import pytest
import torch

from sightline.train.device import expected_device


@pytest.mark.parametrize(
    ("name", "gpu", "kind"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cuda", False, "cuda"),
        ("cuda:1", False, "cuda"),
    ],
)
def test_a_device_that_was_named_is_expected_wherever_it_is(
    monkeypatch: pytest.MonkeyPatch, name: str, gpu: bool, kind: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert expected_device(name) == kind
