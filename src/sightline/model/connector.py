"""The small networks between image encoder and language model, by LLaVA's names.

Comes in: a name and two widths. Goes out: a module that maps the last dimension. Knows nothing of images or text.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from sightline.errors import ConfigError, nearest


class Connector(nn.Sequential):
    """Maps features [..., C] to [..., D]. The i-th linear layer is called `2i`, as in LLaVA's `mm_projector`."""

    def __init__(self, kind: str, layers: list[nn.Module], *, vision_width: int, language_width: int) -> None:
        super().__init__(*layers)
        self.kind = kind
        self.vision_width = vision_width
        self.language_width = language_width

    @property
    def depth(self) -> int:
        """How many linear layers."""
        return connector_depth(self.kind)


def _mlp(depth: int, vision_width: int, language_width: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Linear(vision_width, language_width)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(language_width, language_width)]
    return layers


def _identity(depth: int, vision_width: int, language_width: int) -> list[nn.Module]:
    if vision_width != language_width:
        raise ConfigError(
            f"connector identity needs equal widths, vision has {vision_width} and language {language_width}: "
            "use linear or mlp2x_gelu"
        )
    return [nn.Identity()]


# LLaVA's multimodal_projector/builder.py; N in mlpNx_gelu is the number of linear layers.
CONNECTORS: dict[str, Callable[[int, int, int], list[nn.Module]]] = {
    "linear": _mlp,
    "mlpNx_gelu": _mlp,
    "identity": _identity,
}
# LLaVA takes any N; more than a few never helped anyone, and a checkpoint must not make us build a million.
_MAX_DEPTH = 32
_DEPTHS = {"identity": 0, "linear": 1} | {f"mlp{depth}x_gelu": depth for depth in range(2, _MAX_DEPTH + 1)}


def connector_depth(kind: str) -> int:
    """The number of linear layers in connector `kind`: identity 0, linear 1, mlp2x_gelu 2, ...

    Raises:
        ConfigError: no such connector; the message lists them.
    """
    if kind not in _DEPTHS:
        choices = f"{', '.join(CONNECTORS)} (N from 2 to {_MAX_DEPTH})"
        raise ConfigError(f'connector "{kind}" is none of {choices}{nearest(kind, _DEPTHS)}')
    return _DEPTHS[kind]


def build_connector(kind: str, *, vision_width: int, language_width: int) -> Connector:
    """A new connector with PyTorch's default initialisation, as LLaVA starts its own.

    Raises:
        ConfigError: no such connector, or `identity` between different widths.
    """
    depth = connector_depth(kind)
    make = CONNECTORS[kind if kind in CONNECTORS else "mlpNx_gelu"]
    layers = make(depth, vision_width, language_width)
    return Connector(kind, layers, vision_width=vision_width, language_width=language_width)
