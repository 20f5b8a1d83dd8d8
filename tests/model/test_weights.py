"""Writing tensors one at a time gives files like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline.model.weights import read_headers, read_tensors, split_in_order, stream_weights

TENSORS = {
    "double": torch.arange(3, dtype=torch.float64),
    "single": torch.randn(5, 3),
    "turned": torch.randn(4, 2).T,
    "scalar": torch.tensor(2.5),
    "half": torch.randn(3).half(),
    "brain": torch.randn(7, 3).bfloat16(),
    "empty": torch.zeros(0, 4).half(),
    "byte": torch.tensor([1, 2, 3], dtype=torch.uint8),
}


def meta(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to("meta") for name, tensor in tensors.items()}


@pytest.mark.parametrize("shard_bytes", [10**6, 60, 1])
def test_streamed_files_hold_what_was_given(shard_bytes: int, tmp_path: Path) -> None:
    stream_weights(meta(TENSORS), iter(TENSORS.items()), tmp_path, shard_bytes=shard_bytes)
    headers = read_headers(tmp_path)
    assert sorted(headers) == sorted(TENSORS)
    found = dict(read_tensors(tmp_path, headers))
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert (len(files) == 1) == (shard_bytes == 10**6)
    if len(files) > 1:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in TENSORS.values())
        assert all(name in load_file(tmp_path / file) for name, file in index["weight_map"].items())


def test_tensors_that_are_not_as_planned_are_not_written(tmp_path: Path) -> None:
    planned = meta({"a": torch.zeros(2)})
    for wrong in ({"b": torch.zeros(2)}, {"a": torch.zeros(3)}, {"a": torch.zeros(2).half()}):
        with pytest.raises(AssertionError):
            stream_weights(planned, iter(wrong.items()), tmp_path)


def test_types_that_would_lie_across_their_own_size_are_a_mistake_of_ours(tmp_path: Path) -> None:
    tensors = {"half": torch.zeros(3).half(), "single": torch.zeros(1)}
    with pytest.raises(AssertionError, match="larger types first"):
        stream_weights(meta(tensors), iter(tensors.items()), tmp_path)


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], [[]]),
        ([3, 3, 4], [["0", "1", "2"]]),
        ([3, 3, 5], [["0", "1"], ["2"]]),
        ([11, 1], [["0"], ["1"]]),
        ([1, 11, 1], [["0"], ["1"], ["2"]]),
    ],
)
def test_groups_keep_the_order_and_the_limit(sizes: list[int], groups: list[list[str]]) -> None:
    assert split_in_order({str(index): size for index, size in enumerate(sizes)}, limit=10) == groups
