"""Tensors in files of either kind, `.safetensors` and `.bin`, single or in shards.

Comes in: a directory and the name that its weight files begin with. Goes out: where every tensor lies, from the files'
headers alone; and then the tensors, one at a time. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from safetensors import safe_open
from torch import Tensor

from sightline.errors import CheckpointError
from sightline.exchange.pickled import read_pickled
from sightline.model.weights import FLOATS, TYPE_NAMES, TensorHeader, file_headers, indexed_headers

# transformers' name for the weights of a whole model in PyTorch's own format.
_PICKLED_STEMS = {"model": "pytorch_model"}


class Stored(NamedTuple):
    """Where a tensor lies, and what its file says about it; `dtype` by safetensors' names."""

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.path}: {ascii(self.key)[1:-1][:200]}"


def find_weights(directory: Path, stem: str) -> dict[str, Stored] | None:
    """Every tensor of the weight files `stem.safetensors`, `stem.bin`, or the shards that such an index lists.

    `model` stands for `pytorch_model.bin` too. None if there are no such files. safetensors come first, one file
    before several, as transformers chooses.

    Raises:
        CheckpointError: a file is missing or damaged, or the index names one outside the directory.
    """
    pickled = _PICKLED_STEMS.get(stem, stem)
    kinds: tuple[tuple[str, Callable[[Path], Iterable[tuple[str, TensorHeader]]]], ...] = (
        (f"{stem}.safetensors", file_headers),
        (f"{pickled}.bin", _pickled_headers),
    )
    for file, headers_of in kinds:
        if (directory / file).is_file():
            return _stored(directory, dict(headers_of(directory / file)))
        index = directory / f"{file}.index.json"
        if index.is_file():
            return _stored(directory, indexed_headers(index, headers_of, suffix=Path(file).suffix))
    return None


def find_in_file(path: Path) -> dict[str, Stored]:
    """As `find_weights`, for one file."""
    headers_of = file_headers if path.suffix == ".safetensors" else _pickled_headers
    return _stored(path.parent, dict(headers_of(path)))


class TensorReader(AbstractContextManager["TensorReader"]):
    """Reads tensors that were found, mapped from their files; keeps open the file that was used last, and no other.

    A mapped file stays in memory as far as it was read, so this bounds the memory of a conversion by one shard.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._content: Any = None
        self._stack = ExitStack()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; one that is read from again is opened again."""
        self._path = self._content = None
        self._stack.close()

    def read(self, stored: Stored) -> Tensor:
        """The tensor, which must be one of floats with finite values.

        Raises:
            CheckpointError: it is not.
        """
        if stored.dtype not in FLOATS:
            raise CheckpointError(f"{stored} has type {stored.dtype}, expected {', '.join(FLOATS)}")
        source = self._file(stored.path)
        tensor: Tensor = source[stored.key] if isinstance(source, dict) else source.get_tensor(stored.key)
        if not tensor.isfinite().all():
            raise CheckpointError(f"{stored} has values that are not finite")
        return tensor.detach()

    def _file(self, path: Path) -> Any:
        if path != self._path:
            self.close()
            pickled = path.suffix != ".safetensors"
            self._content = (
                read_pickled(path) if pickled else self._stack.enter_context(safe_open(path, framework="pt"))
            )
            self._path = path
        return self._content


def _pickled_headers(path: Path) -> Iterable[tuple[str, TensorHeader]]:
    for name, tensor in read_pickled(path).items():
        yield name, TensorHeader(path.name, tuple(tensor.shape), TYPE_NAMES[tensor.dtype])


def _stored(directory: Path, headers: dict[str, TensorHeader]) -> dict[str, Stored]:
    return {name: Stored(directory / header.file, name, header.shape, header.dtype) for name, header in headers.items()}
