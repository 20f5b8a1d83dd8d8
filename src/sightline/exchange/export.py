"""`sightline export`: a checkpoint of ours in a format that other software loads, verified before it is there.

Comes in: the directory of a checkpoint and the name of a format. Goes out: a directory, whole or not at all. Every
format is written, read back as its readers read it, and asked for the logits of a picture and a prompt that never
change; only when they are those of the checkpoint does the directory get its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline import __version__, atomic
from sightline.errors import CheckpointError, ConfigError, nearest
from sightline.exchange.export_gguf import gguf_dtype, write_gguf_pair
from sightline.exchange.export_hf import write_hf
from sightline.exchange.export_llava import adapter_of, write_llava, write_lora, write_projector
from sightline.exchange.export_mlx import write_mlx
from sightline.exchange.formats import FORMATS, obstacle, possible_formats
from sightline.exchange.source import DTYPES, Options, Source, Written, open_source, source_logits

TOLERANCE = 1e-5
"""Largest difference of a logit, for logits up to 1: both sides compute in float32 and sum in different orders."""

_WRITERS: dict[str, Callable[[Source, Path, Options], Written]] = {
    "hf": write_hf, "llava": write_llava, "projector": write_projector, "gguf": write_gguf_pair, "mlx": write_mlx,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """An export that is there and was verified.

    Attributes:
        files: their sizes in bytes, by name.
        difference: the largest difference between a logit of the export, read back, and of the checkpoint.
        notes: what its readers do otherwise than we do.
    """

    format: str
    directory: Path
    files: dict[str, int]
    difference: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(self) | {"directory": str(self.directory)}

    def lines(self) -> list[str]:
        """For the terminal."""
        size = sum(self.files.values())
        return [
            f"{self.directory}: {self.format}, {len(self.files)} files, {size:,} bytes",
            f"read back: its logits differ from the checkpoint's by at most {self.difference:.2g}",
            *(f"note: {note}" for note in self.notes),
        ]


def export(
    checkpoint: Path,
    target: Path,
    *,
    format_name: str,
    dtype: str | None = None,
    tower: str | None = None,
    lora: bool = False,
) -> Exported:
    """Write `checkpoint` to `target`, which must not exist or be empty.

    Args:
        format_name: a key of `formats.FORMATS`.
        dtype: a key of `DTYPES`; the checkpoint's own if None (`gguf`: fp16, from which its tools quantise).
        tower: `llava`: what to write as the tower's name, instead of a copy of it beside the model.
        lora: `llava`: the run's adapter beside its connector, for the base model, instead of the merged model.

    Raises:
        ConfigError: no such format or type, an option that the format does not have, or the target is not empty.
        CheckpointError: there is no such checkpoint, the format cannot express it, or what was written is not the same.
    """
    _check_options(format_name, dtype=dtype, tower=tower, lora=lora)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"{target}: is there and not empty; give a new directory")
    source = open_source(checkpoint)
    _check_expressible(source, format_name)
    if lora:
        adapter_of(source)
    default = torch.float16 if format_name == "gguf" else source.dtype
    options = Options(dtype=DTYPES[dtype] if dtype else default, target=target.absolute(), tower=tower)
    kind = "projector" if lora else format_name
    expected = source_logits(source, lambda name, tensor: _held(kind, name, tensor, options.dtype))
    info = {"sightline_version": __version__, "format": format_name}
    with atomic.new_directory(target, info=info) as staging:
        written = (write_lora if lora else _WRITERS[format_name])(source, staging, options)
        difference = compare(expected, written.logits(), what=format_name)
        files = {str(path.relative_to(staging)): path.stat().st_size for path in sorted(staging.rglob("*"))
                 if path.is_file()}  # fmt: skip
    return Exported(format=format_name, directory=target, files=files, difference=difference, notes=written.notes)


def compare(expected: Tensor, found: Tensor, *, what: str) -> float:
    """The largest difference between two tables of logits.

    Args:
        expected: float32[T, V]
        found: float32[T, W], W at most V: a format may leave out rows that no text reaches.

    Raises:
        CheckpointError: it is beyond `TOLERANCE` times the largest logit (at least 1).
    """
    expected = expected[:, : found.shape[1]]
    if expected.shape != found.shape:
        raise CheckpointError(f"{what}: read back, it gives logits of shape {[*found.shape]}, not {[*expected.shape]}")
    difference = float((expected - found).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= allowed:  # NaN is not
        raise CheckpointError(
            f"{what}: read back, its logits differ by {difference:.2g} from the checkpoint's (allowed: {allowed:.2g}); "
            "nothing was written"
        )
    return difference


def _held(format_name: str, name: str, tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The type in which an export holds a tensor."""
    if not tensor.is_floating_point():
        return tensor.dtype
    if format_name == "projector" and not name.startswith("multi_modal_projector."):
        return torch.float32  # it holds nothing else: the rest stays what it is
    return gguf_dtype(name, tensor, dtype) if format_name == "gguf" else dtype


def _check_options(format_name: str, *, dtype: str | None, tower: str | None, lora: bool) -> None:
    if format_name not in FORMATS:
        raise ConfigError(f'format "{format_name}" is none of {", ".join(FORMATS)}{nearest(format_name, FORMATS)}')
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f'--dtype "{dtype}" is none of {", ".join(DTYPES)}{nearest(dtype, DTYPES)}')
    if format_name != "llava" and (lora or tower is not None):
        raise ConfigError(f"--{'lora' if lora else 'vision-tower'} belongs to --format llava, not to {format_name}")


def _check_expressible(source: Source, format_name: str) -> None:
    reason = obstacle(format_name, source.parts)
    if reason is not None:
        others = ", ".join(possible_formats(source.parts)) or "none"
        raise CheckpointError(f"{source.directory}: --format {format_name}: {reason}; formats that can: {others}")
