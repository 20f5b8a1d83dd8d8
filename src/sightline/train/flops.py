"""The arithmetic that a step cannot do without, in floating-point operations.

Comes in: a model, frozen and adapted as it will train (its weights may be on the meta device), and what it is shown.
Goes out: FLOPs per position, per attended pair, per trained token, per picture. Matrices are found by walking the
modules, so any transformers family counts; nothing is run. Does not know how fast a device is.

What counts: products of matrices, a multiplication and an addition each (Kaplan et al. 2020, section 2.1). A linear
layer's forward pass costs 2 x in x out a position; its backward pass as much again for the gradient of its input, where
something below it trains, and as much for that of its weight, where that trains. Recomputed activations, padding and
logits that no loss needs do not count.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import nn
from transformers.pytorch_utils import Conv1D

from sightline.model.head import decoder, position_wise
from sightline.model.vision import VisionEncoder, layers_to_run
from sightline.model.vlm import VisionLanguageModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What a model is shown: a sample, a step, a whole run.

    Attributes:
        positions: of the language model, pictures included, padding not.
        pairs: of a position and one that it attends to: T (T + 1) / 2 for a sample of T positions.
        trained: tokens with a loss.
        pictures: shown, each once a row; `encoded` of them by the encoder, the others' features come from disk.
    """

    positions: int
    pairs: int
    trained: int
    pictures: int
    encoded: int

    @classmethod
    def of(cls, lengths: Iterable[int], *, trained: int, pictures: int, encoded: int | None = None) -> Self:
        """Samples of these lengths, in positions; `encoded` are all pictures, if it is not given."""
        each = list(lengths)
        return cls(
            positions=sum(each),
            pairs=causal_pairs(each),
            trained=trained,
            pictures=pictures,
            encoded=pictures if encoded is None else encoded,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFlops:
    """FLOPs of forward and backward pass per unit of what is shown: `per_picture` in the connector, `per_encoded` in
    the encoder."""

    per_position: int
    per_pair: int
    per_trained: int
    per_picture: int
    per_encoded: int

    def total(self, shown: Shown) -> int:
        """FLOPs of training on what is shown."""
        return (
            self.per_position * shown.positions
            + self.per_pair * shown.pairs
            + self.per_trained * shown.trained
            + self.per_picture * shown.pictures
            + self.per_encoded * shown.encoded
        )


def causal_pairs(lengths: Sequence[int]) -> int:
    """Pairs of a position and itself or an earlier one of the same sample, over all samples."""
    return sum(length * (length + 1) // 2 for length in lengths)


def matmul_flops(numbers: int, *, input_gradient: bool, weight_gradient: bool) -> int:
    """FLOPs that `numbers` weights cost for each vector that is multiplied with them."""
    return 2 * numbers * (1 + input_gradient + weight_gradient)


def attention_flops(width: int, *, gradient: bool) -> int:
    """FLOPs of one attended pair in one layer: scores and weighted values, and twice as much backward.

    Args:
        width: of all heads together.
    """
    return 4 * width * (3 if gradient else 1)


def step_flops(model: VisionLanguageModel) -> StepFlops:
    """Counts a model as it stands: what requires gradients trains.

    Tokens with a loss alone need the output head and what `position_wise` finds in the last layer. Its attention is
    counted for all of them.

    Where nothing but adapters trains, the first layer's projections would need no gradient of their input; they are
    counted all the same (below 1 / layers of the language model's backward pass).
    """
    language = model.language
    config = language.config.get_text_config()
    head, last = language.get_output_embeddings(), nn.ModuleList(position_wise(decoder(language)))
    below = _trains(model.vision) or _trains(model.connector)
    needs = below or _trains(language)

    def cost(matrices: Iterable[tuple[int, bool]]) -> int:
        return sum(matmul_flops(size, input_gradient=needs, weight_gradient=trains) for size, trains in matrices)

    width = config.num_attention_heads * _head_width(config)
    return StepFlops(
        per_position=cost(_matrices(language, config, leave_out={*head.modules(), *last.modules()})),
        per_pair=config.num_hidden_layers * attention_flops(width, gradient=needs),
        per_trained=cost(_matrices(head, config)) + cost(_matrices(last, config)),
        per_picture=model.vision.tokens_per_image * _connector_flops(model.connector, below=_trains(model.vision)),
        per_encoded=_picture_flops(model.vision),
    )


def _picture_flops(vision: VisionEncoder) -> int:
    """One picture through the encoder, up to the layer that is read; backward too where the encoder trains."""
    trains, config = _trains(vision), vision.backbone.config
    patches = (vision.image_size // vision.patch_size) ** 2
    tokens = patches + vision.num_prefix_tokens
    total = 0
    for name, module in vision.backbone.named_modules():
        if f"{name}.weight" not in vision.used_parameters:
            continue
        if isinstance(module, nn.Linear):
            total += tokens * matmul_flops(_numbers(module), input_gradient=trains, weight_gradient=trains)
        elif isinstance(module, nn.Conv2d):  # pixels need no gradient
            total += patches * matmul_flops(module.weight.numel(), input_gradient=False, weight_gradient=trains)
    layers = layers_to_run(vision.layer, depth=config.num_hidden_layers)
    width = config.num_attention_heads * _head_width(config)
    return total + layers * tokens**2 * attention_flops(width, gradient=trains)


def _connector_flops(connector: nn.Module, *, below: bool) -> int:
    """One feature vector through the connector; `below`: the encoder trains too."""
    trains, total, needs = _trains(connector), 0, below
    for module in connector.modules():
        if isinstance(module, nn.Linear):
            total += matmul_flops(_numbers(module), input_gradient=needs, weight_gradient=trains)
            needs = needs or trains
    return total


def _matrices(
    part: nn.Module, config: Any, *, leave_out: Collection[nn.Module] = frozenset()
) -> Iterator[tuple[int, bool]]:
    """Of each matrix in `part` that a position is multiplied with: its size, and whether it trains.

    Experts are kept as one tensor [experts, in, out] by transformers; a position goes through a few of them.
    """
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None) or 0
    active = getattr(config, "num_experts_per_tok", None) or experts
    for module in part.modules():
        if module in leave_out:
            continue
        if isinstance(module, nn.Linear | Conv1D):
            yield _numbers(module), module.weight.requires_grad
        elif experts:
            for parameter in module.parameters(recurse=False):
                if parameter.ndim == 3 and parameter.shape[0] == experts:
                    yield parameter.numel() * active // experts, parameter.requires_grad


def _numbers(module: nn.Module) -> int:
    """The size of a layer's matrix; a quantised layer's tensor has another shape than its matrix."""
    if isinstance(module, nn.Linear):
        return module.in_features * module.out_features
    return math.prod(module.weight.shape)  # type: ignore[arg-type]


def _head_width(config: Any) -> int:
    found = getattr(config, "head_dim", None)
    return int(found or config.hidden_size // config.num_attention_heads)


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
