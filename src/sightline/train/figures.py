"""How fast a step was, and what it took.

Comes in: counts and seconds of a step. Goes out: figures by name, for the log. Time is the whole time of a step,
waiting for data included; padding is no token; the encoder's arithmetic counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import torch

from sightline.data.batch import Batch
from sightline.train.flops import Shown
from sightline.train.ranks import Ranks


def step_figures(
    shown: Shown,
    *,
    positions: int,
    seconds: float,
    waited: float,
    flops: int | None,
    peak_flops: float | None,
    peak_memory: int | None,
) -> dict[str, Any]:
    """A step's figures.

    Args:
        shown: the step's positions, trained tokens and pictures.
        positions: of its tensors, padding included; see `slots`.
        seconds: from asking for the step's data to the new weights.
        waited: seconds of these until the data was there.
        flops: necessary ones, see `flops.step_flops`; None: not known.
        peak_flops: of the device, FLOP/s; None: not known, and no share of it is told.
        peak_memory: bytes, since the start of the run; None: not known.

    Returns:
        `tokens_per_second`, `trained_per_second`, `pictures_per_second`; `padding` and `data_wait`, shares of positions
        and of seconds; where they are known `flops_per_second`, `mfu` (model FLOPs utilisation: Chowdhery et al. 2022,
        appendix B) and `peak_memory_gib`.
    """
    seconds = max(seconds, 1e-9)
    figures: dict[str, Any] = {
        "tokens_per_second": shown.positions / seconds,
        "trained_per_second": shown.trained / seconds,
        "pictures_per_second": shown.pictures / seconds,
        "padding": 1 - shown.positions / max(positions, 1),
        "data_wait": min(1.0, waited / seconds),
    }
    if flops is not None:
        figures["flops_per_second"] = flops / seconds
        if peak_flops is not None:
            figures["mfu"] = flops / seconds / peak_flops
    if peak_memory is not None:
        figures["peak_memory_gib"] = round(peak_memory / 2**30, 3)
    return figures


def shown_in(batches: Sequence[Batch]) -> Shown:
    """What the batches of a step show."""
    encoded = sum(0 if batch.pixels is None else len(batch.pixels) for batch in batches)
    stored = sum(0 if batch.features is None else len(batch.features) for batch in batches)
    return Shown.of(
        [length for batch in batches for length in batch.lengths],
        trained=sum(batch.trained_tokens for batch in batches),
        pictures=encoded + stored,
        encoded=encoded,
    )


def shown_by_all(batches: Sequence[Batch], ranks: Ranks) -> tuple[Shown, int, int]:
    """What the step shows, over all ranks; the positions of its tensors, padding included; its samples."""
    own = (*astuple(shown_in(batches)), slots(batches), sum(len(batch.ids) for batch in batches))
    *shown, positions, samples = (int(value) for value in ranks.totals(*own))
    names = [field.name for field in fields(Shown)]
    return Shown(**dict(zip(names, shown, strict=True))), positions, samples


def slots(batches: Sequence[Batch]) -> int:
    """Positions of the batches' tensors, padding included."""
    return sum(batch.input_ids.numel() for batch in batches)


def peak_memory(device: torch.device) -> int | None:
    """Most bytes that this process has held: on a GPU what torch has allocated there, else resident memory.

    Linux alone tells the latter (VmHWM; `ru_maxrss` would be that of the parent process, if it was larger).
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return status_bytes("VmHWM")


def status_bytes(key: str) -> int | None:
    """An amount of memory of this process by its name in /proc/self/status, in bytes; None where there is none."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    found = [line.split()[1] for line in status.read_text(encoding="ascii").splitlines() if line.startswith(key + ":")]
    return int(found[0]) * 1024 if found else None
