import threading

import pytest
import torch
from transformers import AutoConfig, AutoModel

from sightline.errors import ConfigError
from sightline.model.vision import VisionEncoder, layers_to_run
from tests.fakes import PATCHES, VISION_FAMILIES, tiny_backbone, tiny_pixels

PREFIX_TOKENS = {"clip": 1, "siglip": 0, "dinov2": 1, "dinov2_registers": 4, "dinov3": 3, "vit": 1}
LAYERS = [-3, -2, -1, 1, 2, 3]


@pytest.mark.parametrize("family", VISION_FAMILIES)
@pytest.mark.parametrize("layer", LAYERS)
def test_features_are_the_hidden_state_of_the_uncut_encoder(family: str, layer: int) -> None:
    pixels = tiny_pixels(2)
    uncut = tiny_backbone(family)
    with torch.no_grad():
        states = uncut(pixels, output_hidden_states=True).hidden_states[layer]
        features = VisionEncoder(tiny_backbone(family), layer=layer)(pixels)
    torch.testing.assert_close(features, states[:, PREFIX_TOKENS[family] :], rtol=0, atol=0)


def test_a_last_hidden_state_after_the_final_norm_is_followed_too() -> None:
    """A configuration may tie the last hidden state to the normed output, as most families of transformers do."""
    pixels = tiny_pixels(2)
    with torch.no_grad():
        output = tiny_backbone("vit", tie_last_hidden_states=True)(pixels, output_hidden_states=True)
        features = VisionEncoder(tiny_backbone("vit", tie_last_hidden_states=True), layer=-1)(pixels)
        below = VisionEncoder(tiny_backbone("vit", tie_last_hidden_states=True), layer=-2)(pixels)
    torch.testing.assert_close(features, output.hidden_states[-1][:, 1:], rtol=0, atol=0)
    torch.testing.assert_close(below, output.hidden_states[-2][:, 1:], rtol=0, atol=0)


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_tokens_are_counted_from_the_encoder_itself(family: str) -> None:
    encoder = VisionEncoder(tiny_backbone(family))
    assert encoder.num_prefix_tokens == PREFIX_TOKENS[family]
    assert (encoder.width, encoder.image_size, encoder.patch_size) == (32, 32, 8)
    assert encoder.tokens_per_image == PATCHES
    assert encoder(tiny_pixels(3)).shape == (3, PATCHES, 32)


@pytest.mark.parametrize("family", ["clip", "dinov2_registers"])
def test_cls_patch_keeps_every_token(family: str) -> None:
    encoder = VisionEncoder(tiny_backbone(family), select="cls_patch")
    assert encoder.tokens_per_image == PATCHES + PREFIX_TOKENS[family]
    assert encoder(tiny_pixels(1)).shape[1] == encoder.tokens_per_image


@pytest.mark.parametrize(("layer", "run"), [(-1, 24), (-2, 23), (-24, 1), (1, 1), (24, 24)])
def test_layers_are_counted_as_hidden_states(layer: int, run: int) -> None:
    assert layers_to_run(layer, depth=24) == run


@pytest.mark.parametrize("layer", [0, 25, -25, -26, 1000])
def test_a_layer_out_of_range_is_refused_with_the_range(layer: int) -> None:
    with pytest.raises(ConfigError, match=rf"{layer}: this encoder has 24 layers, use 1 to 24 or -24 to -1"):
        layers_to_run(layer, depth=24)


def test_layers_above_never_run_and_stay_in_the_state_dict() -> None:
    names = set(tiny_backbone("clip").state_dict())
    backbone = tiny_backbone("clip")
    last = backbone.encoder.layers[2]
    encoder = VisionEncoder(backbone, layer=-2)
    last.register_forward_hook(lambda *_: pytest.fail("a layer above the chosen one ran"))
    encoder(tiny_pixels(1))
    assert set(encoder.backbone.state_dict()) == names
    assert any("layers.2." in name for name in names)


def test_a_frozen_encoder_leaves_no_graph_and_a_trained_one_does() -> None:
    encoder = VisionEncoder(tiny_backbone("clip")).requires_grad_(False)
    assert not encoder(tiny_pixels(1)).requires_grad
    encoder.requires_grad_(True)
    assert encoder(tiny_pixels(1)).requires_grad
    with torch.no_grad():
        assert not encoder(tiny_pixels(1)).requires_grad


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_every_parameter_that_can_be_trained_gets_a_gradient(family: str) -> None:
    encoder = VisionEncoder(tiny_backbone(family), layer=-2).requires_grad_(True)
    encoder(tiny_pixels(1)).square().sum().backward()
    for name, parameter in encoder.backbone.named_parameters():
        assert parameter.requires_grad == (name in encoder.used_parameters)
        assert (parameter.grad is not None) == parameter.requires_grad, name
    frozen = [name for name, parameter in encoder.backbone.named_parameters() if not parameter.requires_grad]
    assert any(".2." in name for name in frozen)


def test_pixels_are_cast_to_the_type_of_the_weights() -> None:
    encoder = VisionEncoder(tiny_backbone("siglip")).to(torch.bfloat16)
    assert encoder(tiny_pixels(1)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        # wants a mask and the shape of the patch grid
        ("siglip2_vision_model", {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}),
        # has no layers of equal width
        ("swin", {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2]}),
        # has a grid, but no tokens
        ("convnext", {"image_size": 32, "hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2}),
        # reads text
        ("llama", {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}),
    ],
)
def test_an_encoder_that_cannot_serve_is_refused_in_one_line(model_type: str, settings: dict[str, object]) -> None:
    config = AutoConfig.for_model(model_type, **{"num_hidden_layers": 2, "vocab_size": 96, **settings})
    with torch.device("meta"):
        backbone = AutoModel.from_config(config)
    with pytest.raises(ConfigError) as caught:
        VisionEncoder(backbone)
    assert type(backbone).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_thread_on_the_same_encoder_does_not_exchange_pictures() -> None:
    encoder = VisionEncoder(tiny_backbone("clip")).requires_grad_(False)
    mine, theirs = tiny_pixels(1), tiny_pixels(1, seed=9)
    expected = encoder(mine)
    below = encoder.backbone.encoder.layers[0]
    entered: list[bool] = []

    def interrupt(*_: object) -> None:
        """While the encoder is on my picture, another thread runs it from end to end on another one."""
        if not entered:
            entered.append(True)
            thread = threading.Thread(target=encoder, args=(theirs,))
            thread.start()
            thread.join()

    below.register_forward_hook(interrupt)
    torch.testing.assert_close(encoder(mine), expected, rtol=0, atol=0)
    assert entered


def test_a_selection_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match='did you mean "patch"'):
        VisionEncoder(tiny_backbone("clip"), select="patches")
    with pytest.raises(ConfigError, match="no class token"):
        VisionEncoder(tiny_backbone("siglip"), select="cls_patch")


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="64x32 pixels given, this encoder takes 32"):
        VisionEncoder(tiny_backbone("dinov2"))(torch.zeros(1, 3, 64, 32))
