"""What the original loads: its names, its settings, its rows; and from there back to us, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from sightline.errors import CheckpointError, ConfigError
from sightline.exchange.export import export
from sightline.exchange.import_checkpoint import import_checkpoint
from sightline.exchange.pickled import read_pickled
from sightline.infer.load import load
from tests.exchange.ours import same_weights, save_ours, weights
from tests.train.small_run import instruct_recipe, make_world, trained

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"


@pytest.fixture(scope="module")
def original(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("original") / "llava-tiny"
    export(ours, target, format_name="llava")
    return target


def test_settings_are_the_originals(ours: Path, original: Path) -> None:
    config = json.loads((original / "config.json").read_text())
    assert {key: value for key, value in config.items() if key.startswith("mm_") or "image" in key} == {
        "image_aspect_ratio": "pad",
        "mm_hidden_size": 32,
        "mm_patch_merge_type": "flat",
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": str(original / "vision_tower"),
    }
    assert (config["model_type"], config["architectures"]) == ("llava_llama", ["LlavaLlamaForCausalLM"])
    assert (config["rope_theta"], config["rope_scaling"]) == (10000.0, None)
    assert "rope_parameters" not in config
    assert config["torch_dtype"] == "float32"


def test_the_image_token_leaves_vocabulary_and_tokenizer(ours: Path, original: Path) -> None:
    model, processor = load(ours)
    rows = model.image_token_id
    found = weights(original)
    assert found["model.embed_tokens.weight"].shape == found["lm_head.weight"].shape == (rows, 32)
    assert json.loads((original / "config.json").read_text())["vocab_size"] == rows
    tokenizer = AutoTokenizer.from_pretrained(original)
    assert len(tokenizer) == rows
    for text in ("USER: Is it safe? </s>", "two\n\n  lines ", "naïve 日本"):
        assert tokenizer(text)["input_ids"] == processor.tokenizer(text)["input_ids"]


def test_names_are_the_originals(original: Path) -> None:
    found = weights(original)
    assert {name for name in found if "mm_projector" in name} == {
        f"model.mm_projector.{index}.{kind}" for index in (0, 2) for kind in ("weight", "bias")
    }
    assert not any(name.startswith(("language_model.", "vision_tower.")) for name in found)
    tower = weights(original / "vision_tower")
    assert all(name.startswith("vision_model.") for name in tower)
    assert "vision_model.pre_layrnorm.weight" in tower


def test_ours_to_original_to_ours_is_bit_equal_but_for_the_rows_of_the_image(
    ours: Path, original: Path, tmp_path: Path
) -> None:
    import_checkpoint(str(original), tmp_path / "back", say=lambda line: None)
    before, after = weights(ours), weights(tmp_path / "back")
    rows = len(AutoTokenizer.from_pretrained(original))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        known = slice(rows) if "embed_tokens" in name or "lm_head" in name else slice(None)
        assert torch.equal(tensor[known], after[name][known]), name


@pytest.mark.skipif(not PARITY.exists(), reason="no checkpoint of the original's: ../shared/parity is absent")
def test_original_to_ours_to_original_is_bit_equal(tmp_path: Path) -> None:
    source = PARITY / "llava-tiny-original"
    import_checkpoint(str(source), tmp_path / "ours", vision=str(PARITY / "tiny-clip"), say=lambda line: None)
    export(tmp_path / "ours", tmp_path / "llava", format_name="llava")
    assert same_weights(source, tmp_path / "llava")
    assert same_weights(PARITY / "tiny-clip", tmp_path / "llava" / "vision_tower")
    before = json.loads((source / "config.json").read_text())
    after = json.loads((tmp_path / "llava" / "config.json").read_text())
    changed = {key for key, value in before.items() if after.get(key) != value}
    assert changed == {"mm_vision_tower", "transformers_version"}


def test_a_linear_connector_is_a_bare_layer(tmp_path: Path) -> None:
    export(save_ours(tmp_path / "run", connector="linear"), tmp_path / "llava", format_name="llava")
    assert {name for name in weights(tmp_path / "llava") if "mm_projector" in name} == {
        "model.mm_projector.weight", "model.mm_projector.bias",
    }  # fmt: skip


def test_a_named_tower_is_not_written(ours: Path, tmp_path: Path) -> None:
    export(ours, tmp_path / "llava", format_name="llava", tower="openai/clip-vit-large-patch14-336")
    assert json.loads((tmp_path / "llava" / "config.json").read_text())["mm_vision_tower"].startswith("openai/")
    assert not (tmp_path / "llava" / "vision_tower").exists()


def test_the_original_is_told_by_the_directorys_name_and_so_is_the_user(ours: Path, tmp_path: Path) -> None:
    assert any("put llava into it" in note for note in export(ours, tmp_path / "x", format_name="llava").notes)
    assert not any("into it" in note for note in export(ours, tmp_path / "llava-x", format_name="llava").notes)


def test_a_language_that_the_original_has_not_is_refused(tmp_path: Path) -> None:
    path = save_ours(tmp_path / "run", family="qwen2.5", language="qwen2")
    with pytest.raises(CheckpointError, match=r"none for qwen2; formats that can: hf, gguf, mlx"):
        export(path, tmp_path / "llava", format_name="llava")


def test_the_projector_alone_is_what_stage_one_leaves(ours: Path, tmp_path: Path) -> None:
    export(ours, tmp_path / "stage-1", format_name="projector")
    found = read_pickled(tmp_path / "stage-1" / "mm_projector.bin")
    model, _ = load(ours)
    assert {name: tensor.shape for name, tensor in found.items()} == {
        f"model.mm_projector.{name}": tensor.shape for name, tensor in model.connector.state_dict().items()
    }
    for name, tensor in model.connector.state_dict().items():
        assert torch.equal(found[f"model.mm_projector.{name}"], tensor)
    assert json.loads((tmp_path / "stage-1" / "config.json").read_text())["mm_projector_type"] == "mlp2x_gelu"


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    world = make_world(folder / "world")
    train = {"lr": {"connector": 1e-3, "language": 1e-3}, "lora": {"rank": 4, "alpha": 8}}
    return trained(instruct_recipe(world, folder / "run", start=None, train=train))


def test_a_lora_run_leaves_as_adapter_and_trained_projector(lora_run: Path, tmp_path: Path) -> None:
    target = tmp_path / "llava-lora"
    done = export(lora_run, target, format_name="llava", lora=True)
    assert done.difference < 1e-5
    beside = read_pickled(target / "non_lora_trainables.bin")
    assert set(beside) == {
        f"base_model.model.model.mm_projector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")
    }
    settings = json.loads((target / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["peft_type"]) == (4, 8, "LORA")
    assert "use_dora" not in settings  # peft of the original's time refuses settings that it does not know
    assert not (target / "model.safetensors").exists()


def test_a_lora_folder_on_its_base_is_the_merged_model(lora_run: Path, tmp_path: Path) -> None:
    export(lora_run, tmp_path / "llava-lora", format_name="llava", lora=True)
    base = lora_run.parent / "world" / "language"
    import_checkpoint(str(tmp_path / "llava-lora"), tmp_path / "back", base=str(base), say=lambda line: None)
    merged, back = weights(lora_run), weights(tmp_path / "back")
    rows = min(merged["language_model.lm_head.weight"].shape[0], 64)
    for name, tensor in merged.items():
        known = slice(rows) if "embed_tokens" in name or "lm_head" in name else slice(None)
        torch.testing.assert_close(back[name][known], tensor[known], atol=1e-6, rtol=0)


def test_a_run_without_an_adapter_has_none_to_give(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no adapter in lora/"):
        export(ours, tmp_path / "llava-lora", format_name="llava", lora=True)
