"""Names and settings of the original, there and back."""

from typing import Any

import pytest

from sightline.errors import CheckpointError
from sightline.exchange.original import (
    OriginalSettings,
    original_name,
    our_name,
    read_settings,
    text_settings,
    write_config,
)

NAMES = [
    ("model.layers.0.self_attn.q_proj.weight", "language_model.model.layers.0.self_attn.q_proj.weight", "linear"),
    ("model.embed_tokens.weight", "language_model.model.embed_tokens.weight", "linear"),
    ("lm_head.weight", "language_model.lm_head.weight", "mlp2x_gelu"),
    ("model.mm_projector.weight", "multi_modal_projector.linear_1.weight", "linear"),
    ("model.mm_projector.bias", "multi_modal_projector.linear_1.bias", "linear"),
    ("model.mm_projector.0.weight", "multi_modal_projector.linear_1.weight", "mlp2x_gelu"),
    ("model.mm_projector.2.bias", "multi_modal_projector.linear_2.bias", "mlp2x_gelu"),
    ("model.mm_projector.4.bias", "multi_modal_projector.linear_3.bias", "mlp3x_gelu"),
    ("model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias", "vision_tower.vision_model.pre_layrnorm.bias",
     "linear"),
]  # fmt: skip


@pytest.mark.parametrize(("theirs", "ours", "connector"), NAMES)
def test_every_name_goes_there_and_back(theirs: str, ours: str, connector: str) -> None:
    assert our_name(theirs, vision_type="clip_vision_model") == ours
    assert original_name(ours, connector=connector) == theirs


@pytest.mark.parametrize("name", ["multi_modal_projector.linear_2.weight", "multi_modal_projector.linear_2.bias"])
def test_the_identity_beside_a_linear_projector_has_no_name_there(name: str) -> None:
    assert original_name(name, connector="linear") is None
    assert original_name(name, connector="mlp2x_gelu") is not None


@pytest.mark.parametrize("name", ["model.mm_projector.1.weight", "model.mm_projector.0.gain", "model.mm_projector.x"])
def test_what_the_original_does_not_have_gets_a_name_that_no_model_has(name: str) -> None:
    assert our_name(name, vision_type="clip_vision_model") == f"language_model.{name}"


def test_settings_go_there_and_back() -> None:
    settings = OriginalSettings(
        tower="openai/clip", connector="mlp2x_gelu", layer=-1, select="cls_patch", image_policy="pad", max_length=512
    )
    config = write_config(settings, {"model_type": "mistral", "hidden_size": 8}, vision_width=4)
    assert config["model_type"] == "llava_mistral"
    assert config["architectures"] == ["LlavaMistralForCausalLM"]
    assert read_settings(config, where="x") == settings
    assert text_settings(config, where="x")["model_type"] == "mistral"


def test_what_old_configs_leave_out_is_the_originals_default() -> None:
    found = read_settings({"mm_vision_tower": "tower", "mm_vision_select_layer": -2}, where="x")
    assert found == OriginalSettings(tower="tower", connector="linear", image_policy="crop", max_length=2048)
    assert read_settings({"mm_projector_type": "mlp1x_gelu"}, where="x").connector == "linear"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mm_patch_merge_type": "spatial_unpad"}, "mm_patch_merge_type is spatial_unpad: LLaVA-NeXT"),
        ({"image_aspect_ratio": "anyres"}, "image_aspect_ratio is anyres: LLaVA-NeXT"),
        ({"image_grid_pinpoints": [[336, 672]]}, "image_grid_pinpoints is set: LLaVA-NeXT"),
        ({"s2": True}, "s2 is true"),
        ({"image_aspect_ratio": "round"}, "image_aspect_ratio is 'round', expected square or pad"),
        ({"mm_projector_type": "resampler"}, 'mm_projector_type: connector "resampler"'),
        ({"mm_projector_type": 7}, "mm_projector_type is 7, expected a text"),
        ({"mm_vision_select_layer": "-2"}, "mm_vision_select_layer is '-2', expected a whole number"),
        ({"mm_vision_tower": ["a"]}, "mm_vision_tower is ['a'], expected a text"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_settings({"mm_vision_tower": "tower", **change}, where="config.json")
    assert str(caught.value).startswith(f"config.json: {message}")


def test_language_models_without_a_class_there_are_refused_both_ways() -> None:
    with pytest.raises(CheckpointError, match="model_type is 'llava_mpt', expected one of llava, llava_llama"):
        text_settings({"model_type": "llava_mpt"}, where="x")
    with pytest.raises(CheckpointError, match="no class for qwen2"):
        write_config(OriginalSettings(tower=None, connector="linear"), {"model_type": "qwen2"}, vision_width=4)
