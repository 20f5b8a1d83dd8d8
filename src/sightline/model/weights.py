"""Tensors in safetensors files, one or several with an index, as transformers names them.

Comes in: tensors by name, or a directory. Goes out: files; or names, shapes and types without reading any content, and
then one tensor at a time. Knows nothing of models. What a file says is checked before memory is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sightline.atomic import read_json
from sightline.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# transformers' default before 5.0 and the Hub's: large enough to be few, small enough to download again.
SHARD_BYTES = 5 * 10**9
# The plain dense types, by safetensors' names. Floats convert into each other; quantised or complex ones are refused.
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_INTEGERS = {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}


class TensorHeader(NamedTuple):
    """What a file says about a tensor."""

    file: str
    shape: tuple[int, ...]
    dtype: str


def write_weights(tensors: Mapping[str, Tensor], directory: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write `model.safetensors`, or several files and an index when they exceed `shard_bytes`."""
    plan = split_torch_state_dict_into_shards(dict(tensors), max_shard_size=shard_bytes)
    for file, names in plan.filename_to_tensors.items():
        shard = {name: tensors[name].detach().contiguous() for name in names}
        save_file(shard, directory / file, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (directory / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def read_headers(directory: Path) -> dict[str, TensorHeader]:
    """Name, shape and type of every tensor in the directory's weight files; no content is read.

    Raises:
        CheckpointError: a file is missing or damaged, the index names a file outside the directory or disagrees with
            the files.
    """
    index = None if (directory / SINGLE_FILE).is_file() else _read_index(directory)
    headers: dict[str, TensorHeader] = {}
    for file in [SINGLE_FILE] if index is None else sorted(set(index.values())):
        for name, header in _file_headers(directory, file):
            if name in headers:
                raise CheckpointError(f"{directory}: tensor {name} is both in {headers[name].file} and in {file}")
            headers[name] = header
    if index is not None and {name: header.file for name, header in headers.items()} != index:
        wrong = min(set(headers) ^ set(index), default="their places")
        raise CheckpointError(f"{directory / INDEX_FILE}: disagrees with the files it lists, about {wrong}")
    return headers


def check_headers(headers: Mapping[str, TensorHeader], expected: Mapping[str, Tensor], *, where: Path) -> None:
    """Compare what the files say with the tensors that a model needs (on any device, meta will do).

    Raises:
        CheckpointError: names the tensors that are missing, not wanted, or of another shape or type.
    """
    missing = sorted(set(expected) - set(headers))
    if missing:
        raise CheckpointError(f"{where}: {len(missing)} tensors are missing, such as {missing[0]}")
    extra = sorted(set(headers) - set(expected))
    if extra:
        raise CheckpointError(f"{where}: {len(extra)} tensors do not belong to this model, such as {extra[0]}")
    for name, tensor in expected.items():
        header = headers[name]
        if header.shape != tuple(tensor.shape):
            shape = list(header.shape)
            raise CheckpointError(f"{where}: {name} has shape {shape}, the configuration needs {list(tensor.shape)}")
        right = header.dtype in _FLOATS if tensor.is_floating_point() else _INTEGERS.get(header.dtype) == tensor.dtype
        if not right:
            raise CheckpointError(f"{where}: {name} has type {header.dtype}, which cannot be read as {tensor.dtype}")


def read_tensors(directory: Path, headers: Mapping[str, TensorHeader]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor with its name, one at a time, mapped from the file: nothing is held twice."""
    for file in sorted({header.file for header in headers.values()}):
        with safe_open(directory / file, framework="pt", device="cpu") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                yield name, opened.get_tensor(name)


def _file_headers(directory: Path, file: str) -> Iterator[tuple[str, TensorHeader]]:
    try:
        with safe_open(directory / file, framework="pt", device="cpu") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                part = opened.get_slice(name)
                yield name, TensorHeader(file, tuple(part.get_shape()), part.get_dtype())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{directory / file}: not a readable safetensors file: {error}") from error


def _read_index(directory: Path) -> dict[str, str]:
    path = directory / INDEX_FILE
    if not path.is_file():
        raise CheckpointError(f"{directory}: neither {SINGLE_FILE} nor {INDEX_FILE} in it")
    content = read_json(path)
    index = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
        raise CheckpointError(f"{path}: damaged: it has no weight_map from tensors to files")
    for file in index.values():
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise CheckpointError(f"{path}: names a file that is no weight file beside it: {file!r}")
    return index
