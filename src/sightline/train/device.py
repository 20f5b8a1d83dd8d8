"""Where a run computes and in which precision.

Comes in: the recipe's words. Goes out: a device and a dtype. On a GPU with bf16, frozen weights are kept in bf16 and
what trains in fp32 (the masters), with autocast around the arithmetic; on a CPU everything is fp32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from sightline.errors import ConfigError
from sightline.train.pieces import is_cut


def choose_device(name: str) -> torch.device:
    """`auto`: the first GPU, else the CPU; anything else as torch names devices.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"train.device: found {name!r}, expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        there = torch.cuda.device_count()
        if (device.index or 0) >= there:
            sees = f"{there} GPU{'s' if there > 1 else ''}" if there else "no GPU"
            raise ConfigError(f"train.device: found {name!r}, but torch sees {sees} here; use auto or cpu")
    elif device.type != "cpu" and not _works(device):
        raise ConfigError(f"train.device: found {name!r}, which torch does not have here; use auto or cpu")
    return device


def _works(device: torch.device) -> bool:
    try:
        return torch.ones(1, device=device).item() == 1
    except (RuntimeError, AssertionError):
        return False


def expected_device(name: str) -> str:
    """The kind of device that `choose_device` would choose, also where a GPU that was named is not here."""
    return choose_device(name).type if name == "auto" else name.partition(":")[0]


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """`auto`: bf16 on a GPU that has it, else fp32."""
    if precision == "bf16":
        return torch.bfloat16
    if precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def place(model: nn.Module, *, device: torch.device, dtype: torch.dtype) -> None:
    """Moves the model: what trains stays in fp32, what is frozen takes `dtype`; what is quantised or cut stays."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and not is_cut(parameter):
            parameter.data = parameter.data.to(device, torch.float32 if parameter.requires_grad else dtype)
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """The context for forward and backward."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
