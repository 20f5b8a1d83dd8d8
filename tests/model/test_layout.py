from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from sightline.model.checkpoint import load_checkpoint, save_checkpoint
from sightline.model.layout import (
    STANDARD_LANGUAGES,
    projector_fillers,
    select_strategy,
    standard_obstacle,
    tensor_name,
)
from sightline.model.vlm import VisionLanguageModel
from tests.fakes import LANGUAGE_FAMILIES, tiny_model, tiny_pixels, tiny_prompt


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    ("name", "vision_type", "expected"),
    [
        (
            "vision.backbone.encoder.layers.0.mlp.fc1.weight",
            "clip_vision_model",
            "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
        ),
        ("vision.backbone.post_layernorm.bias", "siglip_vision_model", "vision_tower.vision_model.post_layernorm.bias"),
        ("vision.backbone.layernorm.weight", "dinov2", "vision_tower.layernorm.weight"),
        ("connector.0.weight", "clip_vision_model", "multi_modal_projector.linear_1.weight"),
        ("connector.2.bias", "clip_vision_model", "multi_modal_projector.linear_2.bias"),
        ("connector.4.bias", "clip_vision_model", "multi_modal_projector.linear_3.bias"),
        ("language.model.embed_tokens.weight", "dinov2", "language_model.model.embed_tokens.weight"),
        ("language.lm_head.weight", "dinov2", "language_model.lm_head.weight"),
    ],
)
def test_tensors_carry_the_standard_names(name: str, vision_type: str, expected: str) -> None:
    assert tensor_name(name, vision_type=vision_type) == expected


@pytest.mark.parametrize(
    ("select", "prefix_tokens", "expected"),
    [
        ("patch", 1, "default"),
        ("cls_patch", 1, "full"),
        ("patch", 0, "full"),  # SigLIP: "default" would drop a real patch
        ("patch", 5, None),
        ("cls_patch", 5, "full"),
    ],
)
def test_the_selection_is_said_in_llavas_words(select: str, prefix_tokens: int, expected: str | None) -> None:
    assert select_strategy(select, prefix_tokens=prefix_tokens) == expected


@pytest.mark.parametrize(("connector", "filled"), [("mlp2x_gelu", []), ("linear", [2]), ("identity", [1, 2])])
def test_shorter_connectors_are_filled_up_with_identities(connector: str, filled: list[int]) -> None:
    fillers = projector_fillers(connector, vision_width=4, language_width=4)
    assert set(fillers) == {f"multi_modal_projector.linear_{i}.{kind}" for i in filled for kind in ("weight", "bias")}
    for name, tensor in fillers.items():
        torch.testing.assert_close(tensor, torch.eye(4) if name.endswith("weight") else torch.zeros(4))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"connector": "linear"}, None),
        ({"connector": "mlp3x_gelu"}, "mlp3x_gelu has more"),
        ({"prefix_tokens": 5}, "this encoder has 5"),
        ({"prefix_tokens": 5, "select": "cls_patch"}, None),
        ({"language_type": "gemma2"}, "type gemma2"),
        ({"image_token_id": 31999}, None),
        ({"image_token_id": 32000}, "no row in the vocabulary of 32000"),
    ],
)
def test_what_the_standard_layout_cannot_express_is_told(change: dict[str, object], reason: str | None) -> None:
    model: dict[str, object] = {"connector": "mlp2x_gelu", "select": "patch", "prefix_tokens": 1}
    model |= {"language_type": "llama", "image_token_id": 0, "rows": 32000}
    obstacle = standard_obstacle(**{**model, **change})  # type: ignore[arg-type]
    assert obstacle is None if reason is None else reason in str(obstacle)


def logits(model: VisionLanguageModel) -> torch.Tensor:
    return model(tiny_prompt(model, images=2), pixels=tiny_pixels(2))


def transformers_logits(model: VisionLanguageModel, directory: Path) -> torch.Tensor:
    """What transformers' own class computes from the directory; no tensor may be missing or left over."""
    other, report = AutoModelForImageTextToText.from_pretrained(directory, output_loading_info=True)
    assert not any(report.values()), report
    result: torch.Tensor = other.eval()(input_ids=tiny_prompt(model, images=2), pixel_values=tiny_pixels(2)).logits
    return result


STANDARD = [
    ("clip", "llama", "mlp2x_gelu", -2, "patch"),
    ("clip", "llama", "mlp2x_gelu", -1, "cls_patch"),
    ("clip", "llama_tied", "mlp2x_gelu", -2, "patch"),
    ("clip", "llama_tied", "linear", 1, "cls_patch"),
    ("clip", "mistral", "identity", -2, "patch"),
    ("siglip", "qwen2", "mlp2x_gelu", -2, "patch"),
    ("siglip", "qwen2", "linear", -1, "patch"),
    ("dinov2", "qwen3", "mlp2x_gelu", -2, "patch"),
    ("dinov2", "qwen3", "identity", -1, "patch"),
    ("dinov2_registers", "llama", "mlp2x_gelu", -2, "cls_patch"),
    ("vit", "phi3", "mlp2x_gelu", -1, "patch"),
    *(("clip", family, "mlp2x_gelu", -2, "patch") for family in ("gemma", "olmo2", "smollm3", "starcoder2")),
]


def test_every_language_model_called_standard_is_compared_below() -> None:
    assert {str(LANGUAGE_FAMILIES[family]["model_type"]) for _, family, *_ in STANDARD} == STANDARD_LANGUAGES


@pytest.mark.parametrize(("vision", "language", "connector", "layer", "select"), STANDARD)
def test_transformers_computes_the_same_from_our_files(
    vision: str, language: str, connector: str, layer: int, select: str, tmp_path: Path
) -> None:
    model = tiny_model(vision, language, connector=connector, layer=layer, select=select)
    save_checkpoint(model, tmp_path / "saved")
    assert logits(model).std() > 0.1
    torch.testing.assert_close(transformers_logits(model, tmp_path / "saved"), logits(model), rtol=0, atol=1e-5)
    again, _ = load_checkpoint(tmp_path / "saved")
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=0)
    assert (again.connector.kind, again.vision.layer, again.vision.select) == (connector, layer, select)


@pytest.mark.parametrize(
    ("vision", "language", "connector", "image_token_id"),
    [
        ("clip", "llama", "mlp3x_gelu", 90),
        ("dinov2_registers", "llama", "mlp2x_gelu", 90),
        ("clip", "gemma2", "mlp2x_gelu", 90),
        ("clip", "llama", "linear", 5000),
    ],
)
def test_what_is_not_standard_is_refused_by_other_software_and_read_by_us(
    vision: str, language: str, connector: str, image_token_id: int, tmp_path: Path
) -> None:
    model = tiny_model(vision, language, connector=connector, image_token_id=image_token_id)
    save_checkpoint(model, tmp_path / "saved")
    with pytest.raises(ValueError, match="model type `sightline`"):
        AutoModelForImageTextToText.from_pretrained(tmp_path / "saved")
    again, _ = load_checkpoint(tmp_path / "saved")
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=0)


def test_the_files_have_the_classic_layout(tmp_path: Path) -> None:
    save_checkpoint(tiny_model("clip", "llama"), tmp_path / "saved")
    names = set(load_file(tmp_path / "saved" / "model.safetensors"))
    assert {name.partition(".")[0] for name in names} == {"vision_tower", "multi_modal_projector", "language_model"}
    assert {
        "vision_tower.vision_model.embeddings.class_embedding",
        "vision_tower.vision_model.pre_layrnorm.weight",
        "vision_tower.vision_model.encoder.layers.2.self_attn.q_proj.weight",
        "multi_modal_projector.linear_2.bias",
        "language_model.model.layers.0.self_attn.q_proj.weight",
        "language_model.lm_head.weight",
    } <= names


def test_a_tied_head_is_written_once(tmp_path: Path) -> None:
    save_checkpoint(tiny_model("clip", "llama_tied"), tmp_path / "saved")
    names = set(load_file(tmp_path / "saved" / "model.safetensors"))
    assert "language_model.model.embed_tokens.weight" in names
    assert "language_model.lm_head.weight" not in names
    again, _ = load_checkpoint(tmp_path / "saved")
    assert again.language.lm_head.weight is again.language.model.embed_tokens.weight
