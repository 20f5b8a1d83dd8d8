"""Cuts the language model's layers over the ranks: each holds 1/N of their matrices, gradients and moments.

Comes in: a model on the host, frozen and adapted as it will train. Goes out: the same model, whose layers gather their
matrices when they run and let go of them afterwards (PyTorch's FSDP2; ZeRO stage 3, Rajbhandari et al. 2020). All else
stays whole on every rank: embeddings, head, connector, encoder, and the layers' vectors, which weigh nothing. Every
pass through the layers is one of all ranks, so `passes` and `idle_loss` let those take part that have nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from sightline.data.batch import Batch
from sightline.errors import ConfigError
from sightline.model.head import decoder
from sightline.model.packed import NAME, packing_arguments
from sightline.model.vlm import VisionLanguageModel
from sightline.train.device import place
from sightline.train.pieces import any_cut, is_cut
from sightline.train.ranks import Ranks


def decoder_layers(language: Any) -> list[nn.Module]:
    """A language model's layers: of the lists of modules in its decoder the heaviest.

    Raises:
        ConfigError: there is none.
    """
    lists = [module for module in decoder(language).modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not lists:
        raise ConfigError(f"train.shard: {type(language).__name__} has no list of layers; remove train.shard")
    heaviest: nn.ModuleList = max(lists, key=_size)
    return list(heaviest)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def matrices(layer: nn.Module) -> list[nn.Parameter]:
    """What is cut of a layer, adapters included."""
    return [parameter for parameter in layer.parameters() if parameter.ndim > 1]


def shard_layers(model: VisionLanguageModel, ranks: Ranks, *, device: torch.device, dtype: torch.dtype) -> None:
    """Brings the language model's layers to the device, one after another, and keeps this rank's rows of each.

    Args:
        dtype: of the arithmetic. Gathered matrices have it; gradients are added up in fp32, and so are masters.

    Raises:
        ConfigError: the language model has no list of layers.
    """
    _ = model.plain_head  # tried while the layers are whole, and by all ranks alike
    inner = decoder(model.language)
    mesh = init_device_mesh(device.type, (ranks.size,))
    policy = MixedPrecisionPolicy()
    if dtype != torch.float32:  # hidden states stay what autocast makes of them, as in a run that is not cut
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in decoder_layers(model.language):
        place(layer, device=device, dtype=dtype)
        vectors = set(layer.parameters()).difference(matrices(layer))
        cut = fully_shard(layer, mesh=mesh, mp_policy=policy, ignored_params=vectors)
        cut.set_gradient_divide_factor(1.0)  # the loss is divided by the count of all ranks already
        cut.set_force_sum_reduction_for_comms(True)  # or a factor of 1 would be one more kind of sum, unknown to gloo
    rest = {parameter for parameter in inner.parameters() if not is_cut(parameter)}
    fully_shard(inner, mesh=mesh, ignored_params=rest)  # holds nothing; the layers need one root in common
    inner.register_forward_pre_hook(_want_gradient, with_kwargs=True)


def _want_gradient(
    module: nn.Module, arguments: tuple[Any, ...], given: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Without a picture nothing below the layers may train; they go backward all the same, as on the other ranks."""
    embeddings = given.get("inputs_embeds")
    if torch.is_grad_enabled() and embeddings is not None and not embeddings.requires_grad:
        given = given | {"inputs_embeds": embeddings.detach().requires_grad_()}
    return arguments, given


def passes(batches: Iterable[Batch], model: VisionLanguageModel, ranks: Ranks) -> Iterator[Batch | None]:
    """The batches that have a loss, and of a cut model None for every pass of another rank that has more of them."""
    due = (batch for batch in batches if batch.trained_tokens)
    if not any_cut(model):
        yield from due
        return
    while ranks.largest(int((batch := next(due, None)) is not None)):
        yield batch


def idle_loss(model: VisionLanguageModel) -> Tensor:
    """0, with gradients of 0, by way of all layers: this rank's part in a pass of the others."""
    language = model.language
    embeddings = language.get_input_embeddings().weight[None, :1].detach()
    position = torch.zeros(1, 1, dtype=torch.int64, device=embeddings.device)
    rows: dict[str, Any] = {"attention_mask": torch.ones_like(position)}
    if language.config._attn_implementation == NAME:
        rows = {"position_ids": position, **packing_arguments([1])}
    states: Tensor = decoder(language)(inputs_embeds=embeddings, use_cache=False, **rows).last_hidden_state
    return (states * 0).sum()
