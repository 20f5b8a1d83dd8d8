import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, CLIPModel, SiglipModel

from sightline.errors import ConfigError
from sightline.model.build import (
    build_language,
    build_vision,
    count_parameters,
    meta_language,
    meta_vision,
    resize_vocabulary,
)
from tests.fakes import language_config, tiny_backbone, tiny_language, tiny_pixels, vision_config


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2"])
def test_an_encoder_is_read_from_its_directory(family: str, tmp_path: Path) -> None:
    backbone = tiny_backbone(family)
    backbone.save_pretrained(tmp_path)
    expected = backbone(tiny_pixels(1), output_hidden_states=True).hidden_states[-2]
    encoder = build_vision(str(tmp_path), layer=-2)
    torch.testing.assert_close(encoder(tiny_pixels(1)), expected[:, encoder.num_prefix_tokens :], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model_class", "family", "text"),
    [(CLIPModel, "clip", "clip_text_model"), (SiglipModel, "siglip", "siglip_text_model")],
)
def test_the_tower_of_a_full_model_is_taken_alone(model_class: type, family: str, text: str, tmp_path: Path) -> None:
    text_config = {**language_config("llama"), "model_type": text, "num_key_value_heads": None}
    full = model_class(model_class.config_class(vision_config=vision_config(family), text_config=text_config))
    full.save_pretrained(tmp_path)
    expected = full.vision_model(tiny_pixels(1), output_hidden_states=True).hidden_states[-1]
    encoder = build_vision(str(tmp_path), layer=-1)
    torch.testing.assert_close(encoder(tiny_pixels(1)), expected[:, encoder.num_prefix_tokens :], rtol=0, atol=0)
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in full.vision_model.parameters())


def test_a_pooling_head_may_be_absent_but_not_a_layer(tmp_path: Path) -> None:
    classifier = AutoModelForImageClassification.from_config(AutoConfig.for_model(**vision_config("vit")))
    classifier.save_pretrained(tmp_path)
    assert "pooler.dense.weight" in AutoModel.from_config(classifier.config).state_dict()
    encoder = build_vision(str(tmp_path), layer=-1)
    expected = classifier.vit(tiny_pixels(1), output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(encoder(tiny_pixels(1)), expected[:, 1:], rtol=0, atol=0)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["vit.layernorm.weight"], tensors[next(name for name in tensors if "layer" in name and ".1." in name)]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="lack 1 of the model's tensors, such as"):
        build_vision(str(tmp_path), layer=-1)


@pytest.mark.parametrize("family", ["llama", "llama_tied", "gemma2"])
def test_a_language_model_is_read_from_its_directory(family: str, tmp_path: Path) -> None:
    language = tiny_language(family)
    language.save_pretrained(tmp_path)
    ids = torch.tensor([[1, 5, 6]])
    torch.testing.assert_close(build_language(str(tmp_path))(ids).logits, language(ids).logits, rtol=0, atol=0)
    assert build_language(str(tmp_path), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_missing_weight_is_an_error_and_not_a_random_number(tmp_path: Path) -> None:
    tiny_language("llama").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 of the model's tensors, such as model\.layers\.1\.mlp\.up_proj"):
        build_language(str(tmp_path))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    tiny_language("llama").save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "intermediate_size": 64}))
    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        build_language(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_directory_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(language_config("llama")))
    with pytest.raises(ConfigError, match=r"holds no weights; model\.safetensors is needed"):
        build_language(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ConfigError, match=r"only pytorch_model\.bin, a pickle"):
        build_language(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        build_language(str(tmp_path))


def test_code_beside_the_weights_is_never_run(tmp_path: Path) -> None:
    tiny_language("llama").save_pretrained(tmp_path)
    marker = tmp_path / "ran"
    (tmp_path / "modeling_evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    content = json.loads((tmp_path / "config.json").read_text())
    content |= {
        "auto_map": {"AutoConfig": "modeling_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"},
        "trust_remote_code": True,
        "attn_implementation": "kernels-community/flash-attn",
    }
    (tmp_path / "config.json").write_text(json.dumps(content))
    build_language(str(tmp_path))
    assert not marker.exists()


def test_random_weights_come_from_a_configuration() -> None:
    encoder = build_vision({"config": vision_config("siglip")}, layer=2, dtype=torch.bfloat16)
    assert (encoder.layer, encoder.dtype) == (2, torch.bfloat16)
    torch.manual_seed(0)
    first = build_language({"config": language_config("qwen3")})
    torch.manual_seed(0)
    second = build_language({"config": language_config("qwen3")})
    ids = torch.tensor([[1, 5, 6]])
    torch.testing.assert_close(first(ids).logits, second(ids).logits, rtol=0, atol=0)
    assert first(ids).logits.std() > 0


def test_a_part_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="language: transformers has no class for clip_vision_model as a causal"):
        build_language({"config": vision_config("clip")})
    with pytest.raises(ConfigError, match="LlamaModel: image_size is None"):
        build_vision({"config": language_config("llama")})


@pytest.mark.parametrize("family", ["llama", "llama_tied", "gemma2"])
def test_new_rows_are_the_mean_of_the_old_and_come_in_64s(family: str) -> None:
    language = tiny_language(family)
    ids = torch.tensor([[1, 5, 6]])
    before = language(ids).logits
    old = language.get_input_embeddings().weight.clone()
    assert resize_vocabulary(language, 97) == 128
    assert language.config.vocab_size == 128
    rows = language.get_input_embeddings().weight
    torch.testing.assert_close(rows[:96], old, rtol=0, atol=0)
    torch.testing.assert_close(rows[96:], old.mean(dim=0).expand(32, -1))
    tied = language.get_output_embeddings().weight is rows
    assert tied == (family != "llama")
    after = language(ids).logits
    torch.testing.assert_close(after[..., :96], before, rtol=0, atol=1e-6)
    assert after.shape[-1] == 128
    output = language.get_output_embeddings().weight
    torch.testing.assert_close(output[96:], output[:96].mean(dim=0).expand(32, -1))


@pytest.mark.parametrize("needed", [1, 95, 96])
def test_a_vocabulary_that_is_large_enough_stays_as_it_is(needed: int) -> None:
    language = tiny_language("llama")
    assert resize_vocabulary(language, needed) == 96
    assert language.get_input_embeddings().weight.shape[0] == 96


def test_parameters_are_counted_without_weights(tmp_path: Path) -> None:
    vision, language = tiny_backbone("clip"), tiny_language("llama_tied")
    (tmp_path / "config.json").write_text(json.dumps(vision_config("clip")))
    counts = count_parameters(str(tmp_path), {"config": language_config("llama_tied")}, connector="linear")
    assert counts == {
        "vision": sum(parameter.numel() for parameter in vision.parameters()),
        "connector": 32 * 32 + 32,
        "language": sum(parameter.numel() for parameter in language.parameters()),
    }


def test_parts_without_weights_tell_their_shapes() -> None:
    encoder = meta_vision({"config": vision_config("siglip")}, layer=-1)
    assert (encoder.tokens_per_image, encoder.width, encoder.num_prefix_tokens) == (16, 32, 0)
    language = meta_language({"config": language_config("llama_tied")})
    assert resize_vocabulary(language, 100) == 128
    weights = {parameter.device.type for part in (encoder, language) for parameter in part.parameters()}
    assert weights == {"meta"}


def test_the_published_sizes_of_llava_15_7b_are_counted() -> None:
    """CLIP ViT-L/14-336 has 303.5 million parameters in its tower, Vicuna-7B 6.74 billion."""
    clip = {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    clip |= {"num_attention_heads": 16, "image_size": 336, "patch_size": 14}
    llama = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008}
    llama |= {"num_hidden_layers": 32, "num_attention_heads": 32}
    counts = count_parameters({"config": clip}, {"config": llama})
    assert counts == {"vision": 303_507_456, "connector": 20_979_712, "language": 6_738_415_616}
