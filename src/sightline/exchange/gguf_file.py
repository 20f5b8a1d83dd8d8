"""GGUF files: keys and tensors, written and read with the `gguf` package.

Comes in: plain values by key, tensors by name. Goes out: a file; and the same again. Knows no architecture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sightline.errors import CheckpointError, ConfigError
from sightline.exchange.gguf_vocabulary import Value

if TYPE_CHECKING:
    import gguf

ARCHITECTURE = "general.architecture"
_FILE_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 32}
"""LlamaFileType of gguf-py's constants.py."""


def check_package() -> None:
    """`ConfigError` when the `gguf` package is not installed."""
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise ConfigError('--format gguf needs the gguf package: pip install "sightline[gguf]"') from error


def general_keys(architecture: str, *, kind: str, name: str, dtype: torch.dtype) -> dict[str, Value]:
    """What every file says about itself; `kind` is `model` or `mmproj`."""
    return {
        ARCHITECTURE: architecture,
        "general.type": kind,
        "general.name": name,
        "general.file_type": _FILE_TYPES[dtype],
        "general.quantization_version": 2,  # GGML_QUANT_VERSION of ggml.h
    }


def write_gguf(path: Path, keys: Mapping[str, Value], tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write a file; `keys` name the architecture, tensors are float32, float16 or bfloat16."""
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(path, str(keys[ARCHITECTURE]))
    for key, value in keys.items():
        if key != ARCHITECTURE:  # the writer has written it
            _add(writer, key, value)
    for name, tensor in tensors:
        plain = tensor.detach().contiguous()
        if plain.dtype is torch.bfloat16:
            raw = plain.view(torch.uint8).numpy()
            writer.add_tensor(name, raw, raw_dtype=GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(name, plain.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path: Path) -> tuple[dict[str, Value], Iterator[tuple[str, Tensor]]]:
    """The keys of a file, and its tensors in the types and shapes that were written, mapped from the file."""
    from gguf import GGUFReader

    reader = GGUFReader(path, "c")  # mapped; what is changed in memory does not reach the file
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return keys, _tensors(reader)


def check_keys(found: Mapping[str, Value], expected: Mapping[str, Value], *, where: Path) -> None:
    """Compare keys, floats in float32, the precision of the format.

    Raises:
        CheckpointError: one is missing, not wanted, or other than it was.
    """
    for key in sorted({*found, *expected}):
        if key not in found or key not in expected or not _same(found[key], expected[key]):
            raise CheckpointError(f"{where.name}: read back, the key {key} is not what was written")


def _tensors(reader: gguf.GGUFReader) -> Iterator[tuple[str, Tensor]]:
    from gguf import GGMLQuantizationType

    for tensor in reader.tensors:
        shape = tuple(int(side) for side in reversed(tensor.shape))
        flat = torch.from_numpy(tensor.data.reshape(-1))
        is_bf16 = tensor.tensor_type is GGMLQuantizationType.BF16  # numpy has no such type: the package gives bytes
        yield str(tensor.name), (flat.view(torch.bfloat16) if is_bf16 else flat).reshape(shape)


def _add(writer: gguf.GGUFWriter, key: str, value: Value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _same(found: Value, expected: Value) -> bool:
    if isinstance(expected, float) or (isinstance(expected, list) and expected and isinstance(expected[0], float)):
        return np.array_equal(np.asarray(found, np.float32), np.asarray(expected, np.float32))
    return type(found) is type(expected) and found == expected
