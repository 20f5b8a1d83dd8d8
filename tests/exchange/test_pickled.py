"""`.bin` files: plain tensors are read, everything else is refused in one line and nothing of it runs."""

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.errors import CheckpointError
from sightline.exchange.pickled import read_pickled


class Runs:
    """Unpickled by a careless program, it makes the directory `target`."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_pickled(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def test_tensors_are_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "good.bin"
    tensors = {"a": torch.arange(6.0).reshape(2, 3).half(), "b": torch.nn.Parameter(torch.ones(2))}
    torch.save(tensors, path)
    found = read_pickled(path)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert found["a"].dtype == torch.float16


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_does_not_run(zipped: bool, tmp_path: Path) -> None:
    path, canary = tmp_path / "evil.bin", tmp_path / "canary"
    torch.save({"a": torch.zeros(2), "b": Runs(canary)}, path, _use_new_zipfile_serialization=zipped)
    message = refused(path)
    assert ("nothing of it was run: it names posix.mkdir" if zipped else "not a PyTorch file of today's") in message
    assert not canary.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(path, weights_only=False)
    assert canary.exists(), "the attack of this test would not have worked anyway"


def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps(Runs(tmp_path / "canary")))
    assert "not a PyTorch file of today's format" in refused(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -10])
def test_a_file_that_is_cut_short_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.bin"
    torch.save({"a": torch.zeros(2000)}, path)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3).to_sparse(), "layout torch.sparse_coo"),
        (torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8), "quantised"),
        (torch.zeros(1).expand(10**12), "shape [1000000000000] with fewer numbers than that"),
        (torch.zeros(2).to(torch.float8_e4m3fn), "torch.float8_e4m3fn"),
        (torch.zeros(2, dtype=torch.complex64), "torch.complex64"),
        (torch.zeros(2, device="meta"), "device meta"),
        ({"weight": torch.zeros(2)}, "a dict"),
        (3, "a int"),
    ],
)
def test_what_is_no_dense_tensor_of_numbers_is_named(value: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.bin"
    torch.save({"fine": torch.zeros(2), "odd": value}, path)
    assert "odd is " in refused(path)
    assert message in refused(path)


@pytest.mark.parametrize(("content", "message"), [([torch.zeros(1)], "a list"), ({1: torch.zeros(1)}, "a int where")])
def test_what_is_no_dictionary_of_names_is_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.bin")
    assert message in refused(tmp_path / "x.bin")


def test_a_compressed_record_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"0" * 10**7)
    assert "data.pkl' is compressed" in refused(path)


def test_a_zip_without_tensors_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"junk")
    assert "not a readable PyTorch file" in refused(tmp_path / "zip.bin")
    assert "No such file" in refused(tmp_path / "none.bin")
