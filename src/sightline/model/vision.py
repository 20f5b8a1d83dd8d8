"""Any transformers image encoder, read at one of its layers.

Comes in: pixels. Goes out: one feature vector per patch, as the chosen layer left them. Knows nothing of connectors,
language models or files, and nothing about particular encoders: where the layers are, how many tokens come before the
patches, and which parameters matter is found by following one blank picture through the encoder on the meta device.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from sightline.errors import ConfigError, nearest

SELECTIONS = ("patch", "cls_patch")


class VisionEncoder(nn.Module):
    """The features of one layer of an image encoder. Layers above it are kept for the checkpoint, and never run.

    Args:
        backbone: a transformers encoder that takes `pixel_values` and keeps its patches in order (CLIP, SigLIP, DINOv2,
            ViT, ...).
        layer: which hidden state to read, counted as transformers counts them: -2, LLaVA's choice, is the output of
            layer 23 of 24; -1 the output of the last.
        select: `patch` drops the tokens before the patches (class token, registers), `cls_patch` keeps them.

    Attributes:
        width: C, the length of a feature vector.
        num_prefix_tokens: tokens before the patches: 1 for CLIP, ViT and DINOv2, 0 for SigLIP, 1 + n with n registers.
        tokens_per_image: K, feature vectors per picture.
        image_size, patch_size: in pixels; pictures are square.

    Raises:
        ConfigError: no such layer or selection, or the encoder needs more than pixels or keeps no patch grid.
    """

    backbone: Any

    def __init__(self, backbone: nn.Module, *, layer: int = -2, select: str = "patch") -> None:
        super().__init__()
        if select not in SELECTIONS:
            hint = nearest(select, SELECTIONS)
            raise ConfigError(f'vision_select "{select}" is none of {", ".join(SELECTIONS)}{hint}')
        self.layer = layer
        self.select = select
        self.image_size = _side(backbone, "image_size")
        self.patch_size = _side(backbone, "patch_size")
        run = layers_to_run(layer, depth=_depth(backbone))
        trace = _follow_blank_picture(backbone, run=run, side=self.image_size)
        _, tokens, self.width = trace.shape
        patches = (self.image_size // self.patch_size) ** 2
        self.num_prefix_tokens = tokens - patches
        if self.num_prefix_tokens < 0:
            raise ConfigError(
                f"{type(backbone).__name__} gives {tokens} tokens for {patches} patches: it keeps no patch grid, "
                "choose an encoder like CLIP, SigLIP or DINOv2"
            )
        if select == "cls_patch" and not self.num_prefix_tokens:
            raise ConfigError(f'vision_select "cls_patch": {type(backbone).__name__} has no class token, use "patch"')
        self.tokens_per_image = tokens if select == "cls_patch" else patches
        self._after_norm = trace.after_norm
        self._used = trace.used
        self.backbone = backbone
        self._tap = _cut(backbone, run=run)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, which the features share."""
        parameter: Tensor = next(self.backbone.parameters())
        return parameter.dtype

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Train or freeze the encoder. What cannot change the features (layers above, pooling heads) stays frozen."""
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(requires_grad and name in self._used)
        return self

    @property
    def used_parameters(self) -> frozenset[str]:
        """Names, inside the backbone, of the parameters that the features depend on."""
        return self._used

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels float32[N, 3, H, W] to features [N, K, C]. A frozen encoder leaves no graph behind.

        Raises:
            ConfigError: H or W differ from `image_size`: the processor was made for another encoder.
        """
        if pixels.shape[-2:] != (self.image_size, self.image_size):
            height, width = pixels.shape[-2:]
            raise ConfigError(
                f"pictures of {height}x{width} pixels given, this encoder takes {self.image_size} squared"
            )
        trained = any(parameter.requires_grad for parameter in self.backbone.parameters())
        with (
            torch.set_grad_enabled(trained and torch.is_grad_enabled()),
            _listen(self.backbone.get_submodule(self._tap)) as heard,
        ):
            output = self.backbone(pixel_values=pixels.to(self.dtype))
        features: Tensor = output.last_hidden_state if self._after_norm else heard[0]
        return features if self.select == "cls_patch" else features[:, self.num_prefix_tokens :]


def layers_to_run(layer: int, *, depth: int) -> int:
    """How many of `depth` layers must run to give hidden state `layer`, as transformers numbers hidden states.

    Hidden state 0, the embeddings before any layer, is refused: nothing has looked at the picture yet.
    """
    run = layer if layer > 0 else depth + 1 + layer
    if layer == 0 or not 1 <= run <= depth:
        raise ConfigError(f"vision_layer {layer}: this encoder has {depth} layers, use 1 to {depth} or -{depth} to -1")
    return run


class _FirstLayers(nn.ModuleList):
    """A list of layers that shows only its first few; all of them keep their names in the state dict."""

    run = 0

    def __init__(self, layers: nn.ModuleList, *, run: int) -> None:
        super().__init__(layers)
        self.run = run

    def __len__(self) -> int:
        return self.run

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(list(self._modules.values())[: self.run])

    def __getitem__(self, index: int | slice) -> Any:
        return list(self)[index]


class _Trace(NamedTuple):
    shape: torch.Size
    after_norm: bool
    used: frozenset[str]


def _follow_blank_picture(backbone: nn.Module, *, run: int, side: int) -> _Trace:
    """Run the encoder on the meta device, where only shapes and gradient paths are computed.

    The hidden state that transformers would return at index `run` is either the output of layer `run`, or, for the last
    index of some encoders, that output after the final norm.
    """
    _, layers = _layer_list(backbone)
    leaves = {
        name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.is_floating_point())
        for name, tensor in [*backbone.named_parameters(), *backbone.named_buffers()]
    }
    inputs = {"pixel_values": torch.zeros(1, 3, side, side, device="meta", dtype=next(backbone.parameters()).dtype)}
    try:
        with torch.enable_grad(), _listen(layers[run - 1]) as heard:
            output = torch.func.functional_call(backbone, leaves, (), {**inputs, "output_hidden_states": True})
        state = output.hidden_states[run]
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"{type(backbone).__name__} cannot serve as an image encoder, it needs more than pixels: {reason}"
        ) from error
    after_norm = state is not heard[0]
    if state.dim() != 3 or (after_norm and state is not output.last_hidden_state):
        raise ConfigError(
            f"{type(backbone).__name__} cannot serve as an image encoder: no tokens of one width per layer"
        )
    trainable = [name for name, leaf in leaves.items() if leaf.requires_grad]
    with torch.enable_grad():
        gradients = torch.autograd.grad(state.sum(), [leaves[name] for name in trainable], allow_unused=True)
    used = (name for name, gradient in zip(trainable, gradients, strict=True) if gradient is not None)
    return _Trace(state.shape, after_norm, frozenset(used))


def _cut(backbone: nn.Module, *, run: int) -> str:
    """Hide the layers above the first `run`. Returns the name of the last one that runs."""
    name, layers = _layer_list(backbone)
    if run < len(layers):
        parent, _, attribute = name.rpartition(".")
        setattr(backbone.get_submodule(parent), attribute, _FirstLayers(layers, run=run))
    return f"{name}.{run - 1}"


@contextmanager
def _listen(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the hidden states that `layer` puts out while the block runs, in this thread.

    Another thread may be running the same encoder on somebody else's picture.
    """
    heard: list[Tensor] = []
    listener = threading.get_ident()

    def hear(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        if threading.get_ident() == listener:
            heard.append(output[0] if isinstance(output, tuple) else output)

    handle = layer.register_forward_hook(hear)
    try:
        yield heard
    finally:
        handle.remove()


def _depth(backbone: nn.Module) -> int:
    return len(_layer_list(backbone)[1])


def _layer_list(backbone: nn.Module) -> tuple[str, nn.ModuleList]:
    """The encoder's layers: the outermost list whose length is the number of layers in its configuration."""
    depth = getattr(backbone.config, "num_hidden_layers", None)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return name, module
    raise ConfigError(f"{type(backbone).__name__} cannot serve as an image encoder: no list of {depth} layers in it")


def _side(backbone: nn.Module, key: str) -> int:
    """A length of the configuration that may be written as a number or as a pair of equal numbers."""
    value = getattr(backbone.config, key, None)
    sides = set(value) if isinstance(value, (list, tuple)) else {value}
    side = sides.pop()
    if sides or not isinstance(side, int):
        raise ConfigError(
            f"{type(backbone).__name__}: {key} is {value!r}, one whole number is needed (square pictures)"
        )
    return side
