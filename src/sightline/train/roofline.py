"""What operations on tensors without content would hold and take: bytes that are alive, seconds by the roofline model.

Comes in: a device's rates, and the operations, which are followed as they are made (of torch's fake tensors, say). Goes
out: bytes, FLOPs, seconds. Does not know models.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sightline.train.flops import attention_flops, causal_pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What a device does in a second: `matmul` FLOPs of large products, `bandwidth` bytes read and written.

    `call` is what one operation takes at least, in seconds.
    """

    matmul: float
    attention: float
    bandwidth: float
    call: float = 0.0


@dataclass
class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every operation: the bytes that are alive, and seconds by the slower of arithmetic and memory.

    The roofline model (Williams et al. 2009), operation by operation. `chosen` positions have a loss.
    """

    rates: Rates
    chosen: int
    live: int = 0
    peak: int = 0
    seconds: float = 0.0
    flops: int = 0
    _known: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace == "prim":  # a question, such as where a tensor is: nothing is done for it
            return func(*args, **(kwargs or {}))
        result = self._choice(func, args)
        if result is None:
            result = func(*args, **(kwargs or {}))
        given = [*_tensors(args), *_tensors((kwargs or {}).values())]
        made = [tensor for tensor in _tensors((result,)) if all(tensor is not other for other in given)]
        if not func.is_view and func is not _aten.detach.default:
            for tensor in made:
                self._born(tensor.untyped_storage())
            if func not in _EMPTY:
                self._time(func, args, kwargs or {}, result, moved=sum(map(_bytes, (*given, *made))))
        return result

    def _choice(self, func: Any, args: tuple[Any, ...]) -> Tensor | None:
        """What picks the positions with a loss by the content of a mask: here their number is all that there is."""
        of = args[0] if args else torch.empty(0)
        if func is _aten.nonzero.default:
            return of.new_empty(self.chosen, of.ndim, dtype=torch.int64)
        if func is _aten.index.Tensor and args[1][0] is not None and args[1][0].dtype == torch.bool:
            return of.new_empty(self.chosen, *of.shape[args[1][0].ndim :])
        return None

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """What is there before and stays."""
        self._known.update(tensor.untyped_storage() for tensor in tensors)

    def _born(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._died, size)

    def _died(self, size: int) -> None:
        self.live -= size

    def _time(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, *, moved: int) -> None:
        packet = func.overloadpacket
        if packet in _ATTENTION:
            flops, rate = _ATTENTION[packet](*args), self.rates.attention
        else:
            count, rate = flop_registry.get(_IN_PLACE.get(packet, packet)), self.rates.matmul
            flops = 0 if count is None else int(count(*args, **kwargs, out_val=result))
        self.flops += flops
        self.seconds += self.rates.call + max(flops / rate, moved / self.rates.bandwidth)


def _attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, causal: bool = False) -> int:
    pairs = causal_pairs([query.shape[2]]) if causal else query.shape[2] * key.shape[2]
    return query.shape[0] * pairs * attention_flops(query.shape[1] * query.shape[3], gradient=False)


def _attend_backward(gradient: Tensor, *forward: Any) -> int:
    query, key, value, _, _, dropout, causal = forward[:7]
    return 2 * _attend(query, key, value, dropout, causal)


_aten = torch.ops.aten
_ATTENTION: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attend,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attend_backward,
}
_IN_PLACE = {_aten.baddbmm_: _aten.baddbmm}
"""Products that add to what is there, which torch's own count of FLOPs does not know."""
_EMPTY = frozenset({_aten.empty.memory_format, _aten.empty_like.default, _aten.new_empty.default})


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among an operation's arguments or results, which are values or lists of them."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
