"""Which device a run has, and which kind it will have elsewhere."""

from __future__ import annotations

import pytest
import torch

from sightline.errors import ConfigError
from sightline.train.device import choose_device, expected_device


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


@pytest.mark.parametrize(
    ("name", "gpus", "says"),
    [
        ("cuda", 0, "torch sees no GPU here"),
        ("cuda:1", 1, "torch sees 1 GPU here"),
        ("cuda:2", 2, "torch sees 2 GPUs here"),
        ("meta", 0, "torch does not have here"),
        ("xpu", 0, "torch does not have here"),
        ("gpu", 0, "expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_a_device_that_is_not_here_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, says: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=rf"^train\.device: found '{name}', .*{says}") as caught:
        choose_device(name)
    assert "\n" not in str(caught.value)


def test_a_device_that_is_here_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu") == torch.device("cpu")
