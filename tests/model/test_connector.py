import pytest
import torch
from torch import nn

from sightline.errors import ConfigError
from sightline.model.connector import build_connector, connector_depth


@pytest.mark.parametrize(
    ("kind", "vision_width", "language_width", "parameters"),
    [
        # The sizes of LLaVA's published projectors: 7B linear, 7B and 13B mlp2x_gelu.
        ("linear", 1024, 4096, 4_198_400),
        ("mlp2x_gelu", 1024, 4096, 20_979_712),
        ("mlp2x_gelu", 1024, 5120, 31_467_520),
        ("identity", 1024, 1024, 0),
    ],
)
def test_parameters_are_those_of_llava(kind: str, vision_width: int, language_width: int, parameters: int) -> None:
    with torch.device("meta"):
        connector = build_connector(kind, vision_width=vision_width, language_width=language_width)
    assert sum(parameter.numel() for parameter in connector.parameters()) == parameters


def test_layers_carry_the_names_of_llavas_mm_projector() -> None:
    connector = build_connector("mlp3x_gelu", vision_width=4, language_width=6)
    assert [name for name, _ in connector.named_parameters()] == [
        f"{index}.{kind}" for index in (0, 2, 4) for kind in ("weight", "bias")
    ]
    assert isinstance(connector[1], nn.GELU)
    assert connector[1].approximate == "none"


def test_an_mlp_is_linear_gelu_linear() -> None:
    connector = build_connector("mlp2x_gelu", vision_width=4, language_width=6)
    features = torch.randn(2, 3, 4)
    hidden = nn.functional.gelu(features @ connector[0].weight.T + connector[0].bias)
    torch.testing.assert_close(connector(features), hidden @ connector[2].weight.T + connector[2].bias)


@pytest.mark.parametrize(
    ("kind", "depth"), [("identity", 0), ("linear", 1), ("mlp2x_gelu", 2), ("mlp3x_gelu", 3), ("mlp12x_gelu", 12)]
)
def test_depth_is_the_number_of_linear_layers(kind: str, depth: int) -> None:
    connector = build_connector(kind, vision_width=4, language_width=4)
    assert connector_depth(kind) == connector.depth == depth
    assert sum(isinstance(layer, nn.Linear) for layer in connector) == depth
    assert connector.kind == kind


@pytest.mark.parametrize(
    "kind", ["", "mlp", "mlp1x_gelu", "mlp0x_gelu", "mlp-2x_gelu", "mlp2x_relu", "mlp²x_gelu", "mlp02x_gelu", "q"]
)
def test_an_unknown_connector_is_refused_with_the_choices(kind: str) -> None:
    with pytest.raises(ConfigError, match="linear, mlpNx_gelu, identity"):
        build_connector(kind, vision_width=4, language_width=4)


def test_a_typo_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match='did you mean "mlp2x_gelu"'):
        build_connector("mlp2_gelu", vision_width=4, language_width=4)


def test_identity_needs_equal_widths() -> None:
    features = torch.randn(2, 4)
    torch.testing.assert_close(build_connector("identity", vision_width=4, language_width=4)(features), features)
    with pytest.raises(ConfigError, match="vision has 4 and language 6"):
        build_connector("identity", vision_width=4, language_width=6)
