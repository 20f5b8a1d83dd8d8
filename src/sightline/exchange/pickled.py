"""PyTorch's `.bin` files, taken for what they should be: plain tensors by name.

Comes in: the path of a file that anybody may have written. Goes out: its tensors, mapped from the file. Such a file is
a pickle inside a zip archive; this is the only module that reads one, with `weights_only=True`: a pickle that names
anything but tensors is refused before anything of it runs. Knows nothing of models.
"""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from sightline.atomic import JSON_LIMIT
from sightline.errors import CheckpointError
from sightline.model.configs import first_line
from sightline.model.weights import TYPE_NAMES

# What torch.load raises for files that are damaged or made to mislead.
_DAMAGED = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(EOFError, MemoryError, AssertionError, NotImplementedError, struct.error),
)
_GLOBAL = re.compile(r"GLOBAL ([\w.]{1,100})")


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.bin` file by name; their content is read when it is used.

    Raises:
        CheckpointError: the file is missing, cut short, of the format before PyTorch 1.6, or holds anything but dense
            tensors of plain types under text names.
    """
    _check_archive(path)
    try:
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        found = _GLOBAL.search(str(error))
        what = f"it names {found[1]}" if found else "it is no plain pickle of tensors"
        raise CheckpointError(f"{path}: refused, and nothing of it was run: {what}; expected only tensors") from error
    except _DAMAGED as error:
        raise CheckpointError(f"{path}: not a readable PyTorch file: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected tensors by name")
    for name, tensor in content.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{path}: has a {type(name).__name__} where a tensor's name was expected")
        fault = _fault(tensor)
        if fault is not None:
            raise CheckpointError(f"{path}: {ascii(name)[1:-1][:200]} is {fault}, expected a dense tensor of floats")
    return content


def _fault(tensor: object) -> str | None:
    """What keeps a value from being a plain tensor whose numbers are all in the file; None if nothing does."""
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f"a {type(tensor).__name__}"
    assert isinstance(tensor, Tensor)
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return f"a tensor of layout {tensor.layout} on device {tensor.device}"
    if tensor.dtype not in TYPE_NAMES:
        return f"of type {tensor.dtype}"
    if tensor.nbytes > tensor.untyped_storage().nbytes():  # one number, repeated: a small file that asks for all memory
        return f"of shape {list(tensor.shape)} with fewer numbers than that in the file"
    return None


def _check_archive(path: Path) -> None:
    """torch.save writes a zip archive of uncompressed records, with the pickle of names and shapes in `data.pkl`."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise CheckpointError(f"{path}: {_what_else(path)}") from error
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{path}: its record {record.filename!a} is compressed, PyTorch compresses none")
        if record.filename.endswith("data.pkl") and record.file_size > JSON_LIMIT:
            raise CheckpointError(f"{path}: its list of tensors takes {record.file_size} bytes, at most {JSON_LIMIT}")


def _what_else(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        return "the file is empty"
    if start.startswith(b"PK"):
        return "damaged or cut short: the end of the PyTorch file is missing"
    return "not a PyTorch file of today's format: load and save it again with PyTorch 1.6 or newer"
