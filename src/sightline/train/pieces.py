"""Tensors that are cut: every rank holds some of the rows, as FSDP2 deals them out.

Comes in: parameters, gradients, moments, cut or not. Goes out: a rank's own rows, whole tensors, the norm of all
gradients together. A tensor that is not cut stands on every rank, the same. Does not know models or files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sightline.train.ranks import Ranks


def is_cut(tensor: Tensor) -> bool:
    """Whether a rank holds some rows of the tensor only."""
    return isinstance(tensor, DTensor)


def any_cut(model: nn.Module) -> bool:
    return any(map(is_cut, model.parameters()))


def own(tensor: Tensor) -> Tensor:
    """The rows of a cut tensor that are here, in the memory of that tensor; any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_rows(rows: int, *, rank: int, ranks: int) -> slice:
    """Which of a tensor's rows are a rank's: those of `torch.chunk`, the last ranks may have fewer or none."""
    size = math.ceil(rows / ranks)
    return slice(min(rank * size, rows), min((rank + 1) * size, rows))


def place_of(tensor: Tensor) -> slice:
    """Where the rows that are here lie in the whole tensor, which has at least one dimension."""
    if not isinstance(tensor, DTensor):
        return slice(0, len(tensor))
    mesh = tensor.device_mesh
    return own_rows(len(tensor), rank=mesh.get_local_rank(), ranks=mesh.size())


def gathered(tensors: Mapping[str, Tensor], *, first: bool) -> Iterator[tuple[str, Tensor]]:
    """Every tensor whole and on the host, one at a time, on the first rank; on the others those alone that are cut.

    All ranks must go to the end, with the same tensors in the same order. To copy each to the host keeps them in step:
    a rank that ran ahead would let its collectives wait for longer than they may.
    """
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            yield name, tensor.full_tensor().detach().cpu()
        elif first:
            yield name, tensor.detach().cpu()


def gradient_norm(gradients: Sequence[Tensor], ranks: Ranks) -> Tensor:
    """The norm of all gradients as one vector, on every rank: what is cut is added up, what is not counts once."""
    norm: Tensor = torch.nn.utils.get_total_norm([gradient for gradient in gradients if not is_cut(gradient)])
    pieces = [own(gradient) for gradient in gradients if is_cut(gradient)]
    if not pieces:
        return norm
    (squares,) = ranks.totals(torch.nn.utils.get_total_norm(pieces).item() ** 2)
    return torch.tensor(math.sqrt(squares + norm.item() ** 2), device=pieces[0].device)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float, norm: Tensor) -> None:
    """Shortens the gradients, whose norm together is `norm`, to `most`."""
    every = list(parameters)
    for alike in ([each for each in every if not is_cut(each)], [each for each in every if is_cut(each)]):
        torch.nn.utils.clip_grads_with_norm_(alike, most, norm)
