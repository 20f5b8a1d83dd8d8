"""Devices: names, and what their drivers call them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sightline.errors import ConfigError
from sightline.train.devices import GIB, device_named, peak_flops, present, recognise


@pytest.mark.parametrize(
    ("product", "gib", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", 39.4, "a100-40g"),
        ("NVIDIA A100-PCIE-40GB", 39.4, "a100-40g"),
        ("NVIDIA A100 80GB PCIe", 79.2, "a100-80g"),
        ("NVIDIA H100 80GB HBM3", 79.1, "h100-80g"),
        ("NVIDIA H100 PCIe", 79.1, "h100-pcie-80g"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9.8, None),
        ("NVIDIA H200", 139.8, "h200-141g"),
        ("NVIDIA GH200 480GB", 94.5, None),
        ("NVIDIA L40S", 44.4, "l40s-48g"),
        ("NVIDIA GeForce RTX 4090", 23.6, "rtx4090-24g"),
        ("NVIDIA GeForce RTX 3090", 23.6, None),
    ],
)
def test_a_product_is_recognised_by_its_family_and_memory(product: str, gib: float, name: str | None) -> None:
    found = recognise(product, memory=int(gib * GIB))
    assert (found and found.name) == name


def test_the_gpu_that_is_here_has_the_memory_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(name="NVIDIA L40S", total_memory=int(44.4 * GIB))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert (present().name, present().memory) == ("l40s-48g", card.total_memory)


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r'--device: "h100-80" is none of cpu, .*; did you mean "h100-80g"'):
        device_named("h100-80")


def test_the_cpu_has_memory_and_no_stated_peak() -> None:
    found = device_named("cpu")
    assert found.memory > GIB / 4
    assert (found.peak_flops, found.bandwidth) == (None, None)
    assert peak_flops(torch.device("cpu")) is None
