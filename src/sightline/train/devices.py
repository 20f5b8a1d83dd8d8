"""Devices by name: memory, dense bf16 peak, memory bandwidth, as their vendor states them.

Comes in: a name, or the GPU that is here. Goes out: its figures. Does not know models.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

import torch

from sightline.errors import ConfigError, nearest

GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A device's figures; `peak_flops` and `bandwidth` are None where they have to be measured.

    Attributes:
        memory: bytes.
        peak_flops: dense bf16 products with fp32 sums, FLOP/s; `fp32_flops` without tensor cores.
        bandwidth: of the memory, bytes/s.
    """

    name: str
    memory: int
    peak_flops: float | None = None
    fp32_flops: float | None = None
    bandwidth: float | None = None

    @property
    def kind(self) -> str:
        """As torch names it: `cpu` or `cuda`."""
        return "cpu" if self.name == "cpu" else "cuda"


# NVIDIA's data sheets (A100, H100 SXM and PCIe, H200 SXM, L40S) and its Ada white paper (RTX 4090); a GB of memory
# there is 2^30 bytes, but for the L40S, whose error correction takes a sixteenth of 48. Their larger figures for tensor
# cores count zeros of 2:4 sparse matrices, which nobody trains with.
GPUS = {
    name: Device(
        name=name, memory=memory * GIB, peak_flops=peak * 1e12, fp32_flops=fp32 * 1e12, bandwidth=bandwidth * 1e9
    )
    for name, memory, peak, fp32, bandwidth in (
        ("a100-40g", 40, 312.0, 19.5, 1555),
        ("a100-80g", 80, 312.0, 19.5, 2039),
        ("h100-80g", 80, 989.4, 66.9, 3350),
        ("h100-pcie-80g", 80, 756.0, 51.2, 2039),
        ("h200-141g", 141, 989.4, 66.9, 4800),
        ("l40s-48g", 45, 362.05, 91.6, 864),
        ("rtx4090-24g", 24, 165.2, 82.6, 1008),
    )
}
NAMES = ("cpu", *GPUS)


def device_named(name: str) -> Device:
    """The device of this name, `cpu` being the one here.

    Raises:
        ConfigError: no such device; the message lists them.
    """
    if name == "cpu":
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        return Device(name="cpu", memory=pages * size)
    if name not in GPUS:
        raise ConfigError(f'--device: "{name}" is none of {", ".join(NAMES)}{nearest(name, NAMES)}')
    return GPUS[name]


def recognise(product: str, *, memory: int) -> Device | None:
    """The table's device for what a driver calls it, such as `NVIDIA A100-SXM4-80GB`; None when it is not in it.

    A slice of a GPU (MIG) has a part of its rates, which nobody states.

    Args:
        memory: bytes; the nearest of the family's sizes is taken.
    """
    words = re.findall(r"[a-z0-9]+", product.lower().replace("rtx ", "rtx"))
    if "mig" in words:
        return None
    family = [device for name, device in GPUS.items() if name.partition("-")[0] in words]
    on_card = [device for device in family if "pcie" in device.name]
    if "pcie" in words and on_card:
        return on_card[0]
    return min(family, key=lambda device: ("pcie" in device.name, abs(device.memory - memory)), default=None)


def present() -> Device:
    """The device that a run would take here: the first GPU, with the memory that it has, else the CPU.

    Raises:
        ConfigError: that GPU is not in the table.
    """
    if not torch.cuda.is_available():
        return device_named("cpu")
    properties = torch.cuda.get_device_properties(0)
    found = recognise(properties.name, memory=properties.total_memory)
    if found is None:
        raise ConfigError(f"the GPU here, {properties.name}, is not known; give --device, one of {', '.join(NAMES)}")
    return replace(found, memory=properties.total_memory)


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 peak of the device that a run is on, FLOP/s; None where nobody states one."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    found = recognise(properties.name, memory=properties.total_memory)
    return None if found is None else found.peak_flops
