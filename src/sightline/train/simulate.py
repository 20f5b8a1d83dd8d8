"""A row of a step without its numbers: how much memory it holds at most, and how long a device would take for it.

Comes in: a recipe or a model made of it, the shapes of a row, a device's rates. Goes out: bytes and seconds. The real
model and the real loss run forward and backward on torch's fake tensors, which have shapes and lifetimes but no
content, so that any family counts exactly, recomputation and adapters included; nothing is allocated or multiplied.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sightline.errors import ConfigError
from sightline.model.build import resize_vocabulary
from sightline.model.packed import NAME, packing_arguments
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import Recipe
from sightline.train.assemble import assemble_parts_on_meta
from sightline.train.device import autocast
from sightline.train.flops import attention_flops, causal_pairs
from sightline.train.linear_loss import linear_cross_entropy
from sightline.train.parts import add_lora, freeze, set_modes
from sightline.train.shard import decoder_layers, matrices

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What a device does in a second: `matmul` FLOPs of large products, `bandwidth` bytes read and written.

    `call` is what one operation takes at least, in seconds.
    """

    matmul: float
    attention: float
    bandwidth: float
    call: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What goes through the model at once: the positions of its samples, the tokens with a loss, the pictures."""

    lengths: tuple[int, ...]
    trained: int
    pictures: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RowCost:
    """What a row costs beside weights, optimizer and pictures.

    Attributes:
        activations: bytes that the backward pass waits for, before the output head.
        logits: bytes that the head adds at most.
        peak: bytes held at most, gradients included.
        seconds: of forward and backward pass.
        flops: that are done, recomputed ones included.
    """

    activations: int
    logits: int
    peak: int
    seconds: float
    flops: int


@contextmanager
def fake_model(
    recipe: Recipe, *, dtype: torch.dtype, vocabulary: int | None, sharded: bool = False
) -> Iterator[VisionLanguageModel]:
    """The model as a run would train it, of fake tensors, which can be used inside the block alone.

    A quantised language model stands there unpacked: its layers are unpacked one at a time when they run.

    Args:
        dtype: of frozen weights and of the arithmetic.
        vocabulary: ids that the language model must have rows for; None: those that it has.
        sharded: the layers' matrices are those that a pass gathers, in `dtype` (see `train.shard`).
    """
    parts: Any = assemble_parts_on_meta(recipe)
    if vocabulary is not None:
        resize_vocabulary(parts["language"], vocabulary)
    model = VisionLanguageModel(parts["vision"], parts["connector"], parts["language"], image_token_id=-1)
    freeze(model, recipe.train.lr)
    if recipe.train.lora is not None:
        add_lora(model, recipe.train.lora)
    model.language.set_attn_implementation(NAME)
    model.set_gradient_checkpointing(recipe.train.gradient_checkpointing)
    set_modes(model, recipe.train)
    with FakeTensorMode(allow_non_fake_inputs=True):
        layers = decoder_layers(model.language) if sharded else []
        _make_fake(model, dtype, {each for layer in layers for each in matrices(layer)})
        yield model


def _make_fake(model: nn.Module, dtype: torch.dtype, gathered: Collection[nn.Parameter]) -> None:
    """Fake weights for those on the meta device, of the types of `device.place`; what was tied stays tied."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, old in list(module.named_parameters(recurse=False)):
            if old not in made:
                kind = torch.float32 if old.requires_grad and old not in gathered else dtype
                made[old] = nn.Parameter(torch.empty(old.shape, dtype=kind), requires_grad=old.requires_grad)
            setattr(module, name, made[old])
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def simulate_row(
    model: VisionLanguageModel, row: Row, *, dtype: torch.dtype, rates: Rates, again: bool = False
) -> RowCost:
    """Forward and backward pass of one row, inside the block of `fake_model`.

    Args:
        again: another row of the step has left its gradients, which are added to.

    Raises:
        ConfigError: what the model does depends on the content of its tensors.
    """
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter) if again and parameter.requires_grad else None
    ledger = _Ledger(rates, chosen=row.trained)
    ledger.ignore(model.parameters())
    held = sum(_bytes(parameter.grad) for parameter in model.parameters() if parameter.grad is not None)
    try:
        with ledger, autocast(CPU, dtype):
            keep = torch.zeros(1, sum(row.lengths), dtype=torch.bool)
            states = model.states(_embeddings(model, row), keep, **_positions(row.lengths))
            activations = ledger.live
            head = model.language.get_output_embeddings()
            targets = torch.zeros(row.trained, dtype=torch.int64)
            ledger.peak, before = ledger.live, ledger.peak
            loss = linear_cross_entropy(states, head.weight, head.bias, targets)
            logits = ledger.peak - activations
            ledger.peak = max(before, ledger.peak)
            del states
        if loss.requires_grad:
            with ledger:
                loss.backward()  # type: ignore[no-untyped-call]
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise ConfigError(
            f"{type(model.language).__name__} cannot be planned: its work depends on the tokens ({error}); "
            "a few steps of sightline train (train.steps=3) tell memory and time in the log"
        ) from error
    finally:
        model.zero_grad(set_to_none=True)
    return RowCost(
        activations=activations, logits=logits, peak=held + ledger.peak, seconds=ledger.seconds, flops=ledger.flops
    )


def _embeddings(model: VisionLanguageModel, row: Row) -> Tensor:
    """As `VisionLanguageModel.embed`, but for the count of the placeholders, which have no content here."""
    total, size = sum(row.lengths), model.vision.image_size
    ids = torch.zeros(1, total, dtype=torch.int64)
    embeddings: Tensor = model.language.get_input_embeddings()(ids)
    if not row.pictures:
        return embeddings
    features = model.connector(model.vision(torch.empty(row.pictures, 3, size, size)))
    return embeddings.masked_scatter((ids == 0).unsqueeze(-1), features.flatten(0, 1).to(embeddings.dtype))


def _positions(lengths: Sequence[int]) -> dict[str, Any]:
    places = torch.cat([torch.arange(length) for length in lengths])
    return {"position_ids": places[None], **packing_arguments(lengths)}


@dataclass
class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
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
            count, rate = flop_registry.get(packet), self.rates.matmul
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
