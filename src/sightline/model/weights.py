"""Tensors in safetensors files, one or several with an index, as transformers names them.

Comes in: tensors by name, or a directory. Goes out: files; or names, shapes and types without reading any content, and
then one tensor at a time. Knows nothing of models. What a file says is checked before memory is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
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
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_INTEGERS = {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}
TYPE_NAMES = {dtype: name for name, dtype in (FLOATS | _INTEGERS).items()}


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
        _write_index(directory, plan.tensor_to_filename, total_bytes=plan.metadata["total_size"])


def stream_weights(
    planned: Mapping[str, Tensor],
    content: Iterable[tuple[str, Tensor]],
    directory: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """As `write_weights`, but tensor by tensor as they come: no more than one of them is in memory.

    Args:
        planned: shapes and types (on the meta device) in the order in which `content` gives the tensors. Larger types
            come before smaller ones, so that every tensor begins at a multiple of its type's size.
        content: name and tensor, as planned.
    """
    shards = split_in_order({name: tensor.nbytes for name, tensor in planned.items()}, limit=shard_bytes)
    count, places = len(shards), dict[str, str]()
    tensors = iter(content)
    for number, names in enumerate(shards, start=1):
        file = SINGLE_FILE if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
        stream_file(directory / file, {name: planned[name] for name in names}, tensors)
        places.update(dict.fromkeys(names, file))
    if count > 1:
        _write_index(directory, places, total_bytes=sum(tensor.nbytes for tensor in planned.values()))


def stream_file(path: Path, planned: Mapping[str, Tensor], content: Iterator[tuple[str, Tensor]]) -> None:
    """One file of `stream_weights`; takes as many tensors of `content`, on the host, as are planned."""
    with path.open("wb") as out:
        out.write(_safetensors_header(planned))
        for name, wanted in planned.items():
            found, tensor = next(content)
            assert (found, tensor.shape, tensor.dtype) == (name, wanted.shape, wanted.dtype)
            out.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            del tensor  # or the file that it is mapped from stays in memory while the next is opened


def split_in_order(sizes: Mapping[str, int], *, limit: int) -> list[list[str]]:
    """Names in groups whose sizes add up to at most `limit`, in order; one that is larger stands alone."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if groups[-1] and filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


def read_headers(directory: Path) -> dict[str, TensorHeader]:
    """Name, shape and type of every tensor in the directory's weight files; no content is read.

    Raises:
        CheckpointError: a file is missing or damaged, the index names a file outside the directory or disagrees with
            the files.
    """
    if (directory / SINGLE_FILE).is_file():
        return dict(file_headers(directory / SINGLE_FILE))
    if not (directory / INDEX_FILE).is_file():
        raise CheckpointError(f"{directory}: neither {SINGLE_FILE} nor {INDEX_FILE} in it")
    return indexed_headers(directory / INDEX_FILE, file_headers)


def indexed_headers(
    path: Path, headers_of: Callable[[Path], Iterable[tuple[str, TensorHeader]]], *, suffix: str = ".safetensors"
) -> dict[str, TensorHeader]:
    """As `read_headers`, for the files that the index `path` lists, each read by `headers_of`."""
    index = _read_index(path, suffix=suffix)
    headers: dict[str, TensorHeader] = {}
    for file in sorted(set(index.values())):
        for name, header in headers_of(path.parent / file):
            if name in headers:
                raise CheckpointError(f"{path.parent}: tensor {name} is both in {headers[name].file} and in {file}")
            headers[name] = header
    if {name: header.file for name, header in headers.items()} != index:
        wrong = min(set(headers) ^ set(index), default="their places")
        raise CheckpointError(f"{path}: disagrees with the files it lists, about {wrong}")
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
        right = header.dtype in FLOATS if tensor.is_floating_point() else _INTEGERS.get(header.dtype) == tensor.dtype
        if not right:
            raise CheckpointError(f"{where}: {name} has type {header.dtype}, which cannot be read as {tensor.dtype}")


def read_tensors(directory: Path, headers: Mapping[str, TensorHeader]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor with its name, one at a time, mapped from the file: nothing is held twice."""
    for file in sorted({header.file for header in headers.values()}):
        with safe_open(directory / file, framework="pt", device="cpu") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                yield name, opened.get_tensor(name)


def file_headers(path: Path) -> Iterator[tuple[str, TensorHeader]]:
    """Name, shape and type of every tensor in one safetensors file.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                part = opened.get_slice(name)
                yield name, TensorHeader(path.name, tuple(part.get_shape()), part.get_dtype())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error


def _safetensors_header(tensors: Mapping[str, Tensor]) -> bytes:
    """What stands before the tensors' bytes: the length of a JSON text, and that text.

    The format's README: an unsigned 64-bit little-endian length, then names with type, shape and place; spaces at the
    end make the bytes begin at a multiple of 8.
    """
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end, last = 0, 8
    for name, tensor in tensors.items():
        assert tensor.itemsize <= last, "larger types first"
        begin, end, last = end, end + tensor.nbytes, tensor.itemsize
        entries[name] = {"dtype": TYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_index(directory: Path, places: Mapping[str, str], *, total_bytes: int) -> None:
    index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(places)}
    (directory / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _read_index(path: Path, *, suffix: str) -> dict[str, str]:
    content = read_json(path)
    index = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
        raise CheckpointError(f"{path}: damaged: it has no weight_map from tensors to files")
    for file in index.values():
        if Path(file).name != file or not file.endswith(suffix):
            raise CheckpointError(f"{path}: names a file that is no weight file beside it: {file!r}")
    return index
