"""A row of a step without its numbers: how much memory it holds at most, and how long a device would take for it.

Comes in: a recipe or a model made of it, the shapes of a row, a device's rates. Goes out: bytes and seconds. The real
model and the real loss run forward and backward on torch's fake tensors, which have shapes and lifetimes but no
content, so that any family counts exactly, recomputation and adapters included; nothing is allocated or multiplied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sightline.errors import ConfigError
from sightline.model.build import resize_vocabulary
from sightline.model.head import decoder
from sightline.model.packed import NAME, packing_arguments
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import Recipe
from sightline.train.assemble import assemble_parts_on_meta
from sightline.train.device import autocast
from sightline.train.linear_loss import linear_cross_entropy
from sightline.train.lora import add_lora
from sightline.train.parts import freeze, set_modes
from sightline.train.roofline import Ledger, Rates
from sightline.train.shard import decoder_layers, matrices

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What goes through the model at once: the positions of its samples, the tokens with a loss, the pictures.

    `padded`: the samples are a batch of equal lengths instead of lying in one row.
    """

    lengths: tuple[int, ...]
    trained: int
    pictures: int
    padded: bool = False


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
    if recipe.train.packing:
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
        ConfigError: what the model does depends on the content of its tensors, or it cannot do it without.
        NotImplementedError: it cannot have its samples in one row.
    """
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter) if again and parameter.requires_grad else None
    ledger = Ledger(rates, chosen=row.trained)
    ledger.ignore(model.parameters())
    held = sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.grad is not None)
    try:
        if "plain_head" not in vars(model):  # found by numbers in a run
            model.plain_head = _has_plain_head(model.language)
        with ledger, autocast(CPU, dtype):
            loss, activations, logits = (_loss_in_pieces if model.plain_head else _loss_of_logits)(model, row, ledger)
        if loss.requires_grad:
            with ledger:
                loss.backward()  # type: ignore[no-untyped-call]
    except NotImplementedError:
        raise
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise cannot_be_planned(model, f"its work depends on the tokens: {error}") from error
    except (AttributeError, TypeError, ValueError, LookupError, RuntimeError) as error:
        raise cannot_be_planned(model, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    finally:
        model.zero_grad(set_to_none=True)
    return RowCost(
        activations=activations, logits=logits, peak=held + ledger.peak, seconds=ledger.seconds, flops=ledger.flops
    )


def cannot_be_planned(model: VisionLanguageModel, why: str) -> ConfigError:
    """The line for a model that trains, perhaps, but whose plan cannot be told."""
    return ConfigError(
        f"{type(model.language).__name__} cannot be planned ({why}); "
        "a few steps of sightline train (train.steps=3) tell memory and time in the log"
    )


def _loss_in_pieces(model: VisionLanguageModel, row: Row, ledger: Ledger) -> tuple[Tensor, int, int]:
    """The loss as `train.loss` has it of a plain head; the bytes of the activations, and what the head adds."""
    keep = torch.zeros(_shape(row), dtype=torch.bool)
    states = model.states(_embeddings(model, row), keep, **_positions(row))
    activations = ledger.live
    head = model.language.get_output_embeddings()
    targets = torch.zeros(row.trained, dtype=torch.int64)
    ledger.peak, before = ledger.live, ledger.peak
    loss = linear_cross_entropy(states, head.weight, head.bias, targets)
    logits = ledger.peak - activations
    ledger.peak = max(before, ledger.peak)
    return loss, activations, logits


def _loss_of_logits(model: VisionLanguageModel, row: Row, ledger: Ledger) -> tuple[Tensor, int, int]:
    """The same where the head's product is not all that there is: the logits of all trained positions are made."""
    rows, positions = _shape(row)
    keep = torch.zeros(min(row.trained, positions), dtype=torch.int64)
    activations = before = 0

    def reached(*_: Any) -> None:
        nonlocal activations, before
        activations, before, ledger.peak = ledger.live, ledger.peak, ledger.live

    note = model.language.get_output_embeddings().register_forward_pre_hook(reached)
    try:
        output = model.language(
            inputs_embeds=_embeddings(model, row), logits_to_keep=keep, use_cache=False, **_positions(row)
        )
    finally:
        note.remove()
    trained = torch.zeros(rows, len(keep), dtype=torch.bool)
    targets = torch.zeros(row.trained, dtype=torch.int64)
    loss = functional.cross_entropy(output.logits[trained].float(), targets, reduction="sum")
    logits = ledger.peak - activations
    ledger.peak = max(before, ledger.peak)
    return loss, activations, logits


def _has_plain_head(language: Any) -> bool:
    """`model.head.has_plain_head` without numbers: between last states and logits there is one product and nothing."""
    if type(language.get_output_embeddings()) is not nn.Linear:
        return False
    given: dict[str, Any] = {"input_ids": torch.zeros(1, 2, dtype=torch.int64), "use_cache": False}
    if language.config._attn_implementation == NAME:
        given |= packing_arguments([2])
    with torch.no_grad():
        with _Operations() as whole:
            language(**given)
        with _Operations() as inner:
            decoder(language)(**given)
    return set(whole.names - inner.names) <= _OF_A_PRODUCT


class _Operations(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace == "aten":
            self.names[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def _shape(row: Row) -> tuple[int, int]:
    """Rows and positions of what goes through the model."""
    return (len(row.lengths), row.lengths[0]) if row.padded else (1, sum(row.lengths))


def _embeddings(model: VisionLanguageModel, row: Row) -> Tensor:
    """As `VisionLanguageModel.embed`, but for the count of the placeholders, which have no content here."""
    size = model.vision.image_size
    ids = torch.zeros(_shape(row), dtype=torch.int64)
    embeddings: Tensor = model.language.get_input_embeddings()(ids)
    if not row.pictures:
        return embeddings
    features = model.connector(model.vision(torch.empty(row.pictures, 3, size, size)))
    return embeddings.masked_scatter((ids == 0).unsqueeze(-1), features.flatten(0, 1).to(embeddings.dtype))


def _positions(row: Row) -> dict[str, Any]:
    """A padded batch has none here: its mask, which it would look into, weighs nothing beside its activations."""
    if row.padded:
        return {}
    places = torch.cat([torch.arange(length) for length in row.lengths])
    return {"position_ids": places[None], **packing_arguments(row.lengths)}


_OF_A_PRODUCT = frozenset(
    {"mm", "addmm", "t", "transpose", "view", "_unsafe_view", "slice", "alias", "detach", "expand"}
)
