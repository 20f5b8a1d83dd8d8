"""`sightline import`: every kind of foreign checkpoint gives the logits that its own software gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlavaConfig, LlavaForConditionalGeneration

from sightline.errors import SightlineError
from sightline.exchange.import_checkpoint import Report, choose_template, import_checkpoint
from sightline.infer.load import load
from sightline.model.checkpoint import read_info
from sightline.model.vlm import VisionLanguageModel
from tests.data.toy_tokenizers import QWEN25, byte_level
from tests.exchange import foreign
from tests.exchange.foreign import (
    original_tensors,
    same_logits,
    tiny_llava,
    write_json,
    write_language,
    write_model,
    write_original,
    write_tower,
)

TOWER = 55
"""Tensors of the tiny tower."""


def imported(source: Path, target: Path, **options: Any) -> tuple[VisionLanguageModel, Report]:
    report = import_checkpoint(str(source), target, say=lambda line: None, **options)
    model, processor = load(target)
    assert processor.settings.template == report.template
    return model, report


def refusal(source: Path, target: Path, **options: Any) -> str:
    with pytest.raises(SightlineError) as caught:
        import_checkpoint(str(source), target, say=lambda line: None, **options)
    assert not target.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- full fine-tunes in the original's layout ------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "shards"), [("safetensors", 1), ("safetensors", 3), ("bin", 1), ("bin", 3)])
def test_every_kind_of_weight_file_is_read(kind: str, shards: int, tmp_path: Path) -> None:
    model = tiny_llava()
    source = write_original(tmp_path / "any name", model, kind=kind, shards=shards)
    found, report = imported(source, tmp_path / "ours")
    same_logits(found, model)
    assert (report.template, report.image_policy, report.unused, report.made) == ("vicuna_v1", "pad", {}, {})
    assert report.used == {"checkpoint": len(original_tensors(model)), "vision": TOWER}


@pytest.mark.parametrize(
    ("connector", "options", "made"),
    [
        ("linear", {}, 2),
        ("mlp3x_gelu", {"layer": -1}, 0),
        ("identity", {"select": "cls_patch"}, 4),
    ],
)
def test_connectors_layers_and_selections_are_kept(
    connector: str, options: dict[str, Any], made: int, tmp_path: Path
) -> None:
    model = tiny_llava(connector, **options)
    found, report = imported(write_original(tmp_path / "theirs", model), tmp_path / "ours")
    same_logits(found, model)
    assert found.connector.kind == connector
    assert len(report.made) == made


@pytest.mark.parametrize(
    ("language", "model_type", "template"),
    [("llama", "llava", "vicuna_v1"), ("llama", "llava_llama", "vicuna_v1"), ("mistral", "llava_mistral", None)],
)
def test_the_three_model_types_of_the_original(
    language: str, model_type: str, template: str | None, tmp_path: Path
) -> None:
    model = tiny_llava(language=language)
    source = write_original(tmp_path / "theirs", model, model_type=model_type, image_aspect_ratio=None)
    found, report = imported(source, tmp_path / "ours", template=None if template else "vicuna_v1")
    same_logits(found, model)
    assert (report.template, report.image_policy) == ("vicuna_v1", "crop")


def test_the_row_of_the_image_token_changes_no_other_logit_and_never_wins(tmp_path: Path) -> None:
    model = tiny_llava()
    found, _ = imported(write_original(tmp_path / "theirs", model), tmp_path / "ours")
    rows = len(foreign.tokenizer())
    assert found.image_token_id == rows
    assert found.language.get_output_embeddings().weight.shape[0] == rows + 1
    with torch.no_grad():
        logits = found(torch.tensor([[1, 5, 6, 7]]))
    torch.testing.assert_close(logits[..., rows], logits[..., :rows].mean(-1))
    assert read_info(tmp_path / "ours")["imported"]["vocab_size"] == rows


def test_the_tower_inside_a_checkpoint_is_the_one_that_was_trained(tmp_path: Path) -> None:
    model = tiny_llava()
    write_tower(tmp_path / "tower", tiny_llava(seed=7))
    found, report = imported(write_original(tmp_path / "theirs", model, tower=True), tmp_path / "ours")
    same_logits(found, model)
    assert report.used["vision"] == 0
    assert len(report.unused) == TOWER
    assert all("replaced by" in reason for reason in report.unused.values())


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_tower_may_be_given_and_may_be_half_of_a_clip(kind: str, tmp_path: Path) -> None:
    model = tiny_llava()
    source = write_original(tmp_path / "a" / "theirs", model, mm_vision_tower="/somewhere/else")
    shutil.rmtree(tmp_path / "a" / "tower")
    assert "its vision tower '/somewhere/else' is neither in it nor next to it" in refusal(source, tmp_path / "ours")
    tower = write_tower(tmp_path / "clip", model, kind=kind, whole=True)
    found, report = imported(source, tmp_path / "ours", vision=str(tower))
    same_logits(found, model)
    assert sorted(report.unused.values()) == [
        "the numbers 0, 1, 2, ..., made anew", *["the text side of the model that the encoder is from"] * 3
    ]  # fmt: skip


def test_buffers_of_old_checkpoints_are_listed_with_their_reason(tmp_path: Path) -> None:
    model = tiny_llava()
    source = write_original(tmp_path / "theirs", model)
    tensors = original_tensors(model) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    write_model(source, tensors)
    _, report = imported(source, tmp_path / "ours")
    assert list(report.unused.values()) == ["rotary frequencies, computed from the configuration"]
    assert any("rotary_emb.inv_freq: rotary frequencies" in line for line in report.lines())


def test_types_are_kept_tensor_by_tensor(tmp_path: Path) -> None:
    model = tiny_llava()
    source = write_original(tmp_path / "theirs", model)
    write_model(source, {name: tensor.bfloat16() for name, tensor in original_tensors(model).items()})
    imported(source, tmp_path / "ours")
    files = load_file(tmp_path / "ours" / "model.safetensors")
    assert files["language_model.model.norm.weight"].dtype == torch.bfloat16
    assert files["vision_tower.vision_model.pre_layrnorm.weight"].dtype == torch.float32
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_tokenizer_with_a_pad_of_its_own_means_v0(tmp_path: Path) -> None:
    model = tiny_llava()
    source = write_original(tmp_path / "theirs", model)
    tokenizer = foreign.tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(source)
    _, report = imported(source, tmp_path / "ours")
    assert report.template == "v0"


def test_pictures_between_tokens_of_their_own_are_mentioned(tmp_path: Path) -> None:
    source = write_original(tmp_path / "theirs", tiny_llava(), mm_use_im_start_end=True)
    _, report = imported(source, tmp_path / "ours")
    assert "<im_start>" in report.lines()[-1]


# ---- what leans on a base --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connector", ["linear", "mlp2x_gelu"])
@pytest.mark.parametrize("as_file", [True, False])
def test_a_projector_is_put_between_base_and_tower(connector: str, as_file: bool, tmp_path: Path) -> None:
    model = tiny_llava(connector)
    base = write_language(tmp_path / "base", model.language, kind="bin", shards=2)
    tower = write_tower(tmp_path / "tower", model)
    source = tmp_path / "stage1"
    source.mkdir()
    projector = {name: tensor for name, tensor in original_tensors(model).items() if "mm_projector" in name}
    path = source / ("checkpoint-7.bin" if as_file else "mm_projector.bin")
    torch.save(projector | {"model.embed_tokens.weight": torch.zeros(2, 32)}, path)
    if not as_file:
        write_json(source / "config.json", foreign.original_config(model))
    given = path if as_file else source
    assert "name the language model that it belongs to with --base" in refusal(given, tmp_path / "ours")
    found, report = imported(given, tmp_path / "ours", base=str(base), vision=str(tower))
    same_logits(found, model)
    assert (report.template, report.image_policy) == ("plain", "crop" if as_file else "pad")
    assert [reason.split(",")[0] for reason in report.unused.values()] == [
        "rows of <im_start> and <im_end> around a picture"
    ]


def adapted(model: VisionLanguageModel, directory: Path) -> VisionLanguageModel:
    """Trains nothing, but gives every matrix an adapter; writes the folder that the original's train.py leaves."""
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    torch.manual_seed(3)
    wrapped = get_peft_model(model.language, LoraConfig(r=4, lora_alpha=12, target_modules=names))
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.2)
    wrapped.save_pretrained(str(directory), safe_serialization=False)
    assert (directory / "adapter_model.bin").is_file()
    trained = {f"base_model.model.model.mm_projector.{name}": t for name, t in model.connector.state_dict().items()}
    torch.save(trained, directory / "non_lora_trainables.bin")
    model.language = wrapped.eval()
    return model


def test_a_lora_folder_melted_into_its_base_answers_as_with_its_adapters(tmp_path: Path) -> None:
    model = tiny_llava()
    base = write_language(tmp_path / "base", model.language, shards=2)
    write_tower(tmp_path / "tower", model)
    source = tmp_path / "theirs"
    config = foreign.original_config(model)
    with_adapters = adapted(model, source)
    write_json(source / "config.json", config)
    assert "is a LoRA folder" in refusal(source, tmp_path / "ours")
    found, report = imported(source, tmp_path / "ours", base=str(base))
    same_logits(found, with_adapters, tolerance=1e-5)
    assert report.used == {"checkpoint": 4, "base": 21, "vision": TOWER, "adapter": 28}
    merged = model.language.merge_and_unload().state_dict()
    assert all(
        torch.equal(tensor[: len(merged[name])], merged[name]) for name, tensor in found.language.state_dict().items()
    )
    kept = tiny_llava()
    kept.language = PeftModel.from_pretrained(kept.language, str(tmp_path / "ours" / "lora"))
    kept.connector.load_state_dict(with_adapters.connector.state_dict())
    same_logits(found, kept, tolerance=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora is set"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', expected LORA"),
        ({"lora_alpha": "much"}, "lora_alpha is 'much', expected a number"),
        ({"auto_map": {"base_model_class": "X"}}, "auto_map asks for code"),
    ],
)
def test_an_adapter_that_is_more_than_a_lora_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = tiny_llava()
    base = write_language(tmp_path / "base", model.language)
    write_tower(tmp_path / "tower", model)
    source = tmp_path / "theirs"
    config = foreign.original_config(model)
    adapted(model, source)
    write_json(source / "config.json", config)
    foreign.edit_json(source / "adapter_config.json", **change)
    assert message in refusal(source, tmp_path / "ours", base=str(base))


def difference(model: VisionLanguageModel, base: Any) -> dict[str, Tensor]:
    """As the original's make_delta.py: the projector as it is, everything else less the base, on the rows both have."""
    tensors = original_tensors(model)
    for name, tensor in base.state_dict().items():
        tensors[name][tuple(slice(length) for length in tensor.shape)] -= tensor
    return tensors


def test_a_delta_becomes_the_model_that_it_was_made_from(tmp_path: Path) -> None:
    model = tiny_llava()
    smaller = foreign.tiny_language("llama", seed=9, vocab_size=len(foreign.tokenizer()) - 3)
    smaller.model.norm.weight.data.fill_(1.05)
    model.language.model.norm.weight.data.fill_(1.04)
    base = write_language(tmp_path / "base", smaller)
    source = write_original(tmp_path / "theirs", model)
    assert "is a whole model, which needs no base; remove --base" in refusal(source, tmp_path / "ours", base=str(base))
    write_model(source, difference(model, smaller))
    assert "name the original LLaMA with --base" in refusal(source, tmp_path / "ours")
    found, report = imported(source, tmp_path / "ours", base=str(base))
    same_logits(found, model, tolerance=1e-5)
    assert report.used == {"checkpoint": 25, "vision": TOWER, "base": 21}


def test_a_checkpoint_of_zeros_is_no_difference(tmp_path: Path) -> None:
    model = tiny_llava()
    source = write_original(tmp_path / "theirs", model)
    write_model(source, {name: torch.zeros_like(tensor) for name, tensor in original_tensors(model).items()})
    imported(source, tmp_path / "ours")


def test_a_delta_with_a_tensor_that_the_base_lacks_or_with_another_base_is_refused(tmp_path: Path) -> None:
    model = tiny_llava()
    base = foreign.tiny_language("llama", seed=9, vocab_size=len(foreign.tokenizer()))
    source = write_original(tmp_path / "theirs", model)
    tensors = difference(model, base)
    write_model(source, tensors | {"model.norm.weight": torch.zeros(32), "model.extra.weight": torch.zeros(2)})
    home = str(write_language(tmp_path / "base", base))
    assert "model.extra.weight is a difference to a tensor that the base does not have" in refusal(
        source, tmp_path / "ours", base=home
    )
    write_model(source, tensors | {"model.norm.weight": torch.zeros(32)})
    wide = foreign.tiny_language("llama", seed=9, vocab_size=len(foreign.tokenizer()), intermediate_size=64)
    other = str(write_language(tmp_path / "other", wide))
    message = refusal(source, tmp_path / "ours", base=other)
    assert "[64, 32], the difference to be added has [48, 32]" in message or "[32, 64]" in message


# ---- llava-hf --------------------------------------------------------------------------------------------------------


def hf_tensors(model: VisionLanguageModel, *, prefixed: bool, nested: bool) -> dict[str, Tensor]:
    """The weights in one of the layouts that transformers has written."""
    front = "model." if prefixed else ""
    tower = f"{front}vision_tower." + ("vision_model." if nested else "")
    tensors = {f"{tower}{name}": tensor for name, tensor in model.vision.backbone.state_dict().items()}
    for name, tensor in model.connector.state_dict().items():
        index, kind = name.split(".")
        tensors[f"{front}multi_modal_projector.linear_{int(index) // 2 + 1}.{kind}"] = tensor
    for name, tensor in model.language.state_dict().items():
        if not prefixed:
            tensors[f"language_model.{name}"] = tensor
        else:
            tensors[name if name == "lm_head.weight" else f"model.language_model.{name[6:]}"] = tensor
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def write_hf(directory: Path, **options: Any) -> VisionLanguageModel:
    """Everything but the weights of a llava-hf checkpoint; returns the model."""
    directory.mkdir()
    tokenizer = foreign.tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(directory)
    model = tiny_llava()
    model.language = foreign.tiny_language("llama", vocab_size=len(tokenizer) + 5)
    write_json(
        directory / "config.json",
        {
            "model_type": "llava",
            "text_config": model.language.config.to_dict(),
            "vision_config": model.vision.backbone.config.to_dict(),
            "image_token_index": model.image_token_id,
            "projector_hidden_act": "gelu",
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            **options,
        },
    )
    return model


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_every_layout_of_transformers_is_read(prefixed: bool, nested: bool, tmp_path: Path) -> None:
    source = tmp_path / "theirs"
    model = write_hf(source)
    write_model(source, hf_tensors(model, prefixed=prefixed, nested=nested), shards=2)
    found, report = imported(source, tmp_path / "ours")
    same_logits(found, model)
    assert found.language.get_output_embeddings().weight.shape[0] == model.image_token_id + 6
    assert (report.template, report.image_policy) == ("vicuna_v1", "crop")
    assert report.used == {"checkpoint": TOWER + 25}


def test_what_transformers_itself_writes_is_read(tmp_path: Path) -> None:
    source = tmp_path / "theirs"
    model = write_hf(source)
    config = LlavaConfig.from_pretrained(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = LlavaForConditionalGeneration(config).eval()
    theirs.save_pretrained(source)
    write_json(source / "preprocessor_config.json", {"do_pad": True, "image_processor_type": "LlavaImageProcessor"})
    found, report = imported(source, tmp_path / "ours")
    ids = torch.tensor([[1, 5, *[found.image_token_id] * 16, 7, 8]])
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found(ids, pixels=pixels), theirs(input_ids=ids, pixel_values=pixels).logits)
    assert report.image_policy == "pad"
    assert found.image_token_id == model.image_token_id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "llava_next", "image_grid_pinpoints": [[336, 672]]}, "sees a picture in several views"),
        ({"model_type": "vipllava"}, "model_type is 'vipllava', expected llava"),
        ({"vision_feature_layer": [-2, -3]}, "vision_feature_layer is [-2, -3], expected one whole number"),
        ({"vision_feature_select_strategy": "mean"}, "vision_feature_select_strategy is 'mean'"),
        ({"projector_hidden_act": "relu"}, "projector_hidden_act is 'relu', expected gelu or linear"),
        ({"projector_hidden_act": "linear"}, "multi_modal_projector.linear_2 is no identity"),
        ({"multimodal_projector_bias": False}, "multimodal_projector_bias is false"),
        ({"image_token_index": 5}, "the image token is 5, the tokenizer's <image> is"),
        ({"text_config": None}, "no text_config"),
    ],
)
def test_a_llava_hf_configuration_that_is_not_read_is_named(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = tmp_path / "theirs"
    model = write_hf(source, **options)
    write_model(source, hf_tensors(model, prefixed=False, nested=True))
    assert message in refusal(source, tmp_path / "ours")


def test_our_own_linear_projector_comes_back_from_the_standard_layout(tmp_path: Path) -> None:
    source = tmp_path / "theirs"
    model = tiny_llava("linear")
    write_hf(source, projector_hidden_act="linear")
    tensors = hf_tensors(model, prefixed=False, nested=True)
    width = len(tensors["multi_modal_projector.linear_1.bias"])
    tensors |= {
        "multi_modal_projector.linear_2.weight": torch.eye(width),
        "multi_modal_projector.linear_2.bias": torch.zeros(width),
    }
    model.language = foreign.tiny_language("llama", vocab_size=model.image_token_id + 6)
    tensors |= {f"language_model.{name}": tensor for name, tensor in model.language.state_dict().items()}
    write_model(source, {name: tensor.detach().clone() for name, tensor in tensors.items()})
    found, _ = imported(source, tmp_path / "ours")
    assert found.connector.kind == "linear"
    same_logits(found, model)


@pytest.mark.parametrize(
    ("chat", "language", "template"),
    [
        (QWEN25, "llama", "own"),
        (QWEN25, "qwen2", "own"),
        ("{% for m in messages %}USER: {{ m['content'] }} ASSISTANT:{{ eos_token }}{% endfor %}", "llama", "vicuna_v1"),
        ("{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}", "mistral", "mistral_instruct"),
        (None, "llama", "vicuna_v1"),
    ],
)
def test_a_chat_template_with_markers_of_its_own_is_the_one_that_was_trained(
    chat: str | None, language: str, template: str
) -> None:
    tokenizer = byte_level(special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=chat)
    draft: Any = SimpleNamespace(template=None, text_config=SimpleNamespace(model_type=language))
    assert choose_template(draft, tokenizer) == template
