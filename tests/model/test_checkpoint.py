import json
import multiprocessing
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline import atomic
from sightline.errors import CheckpointError
from sightline.model.checkpoint import load_checkpoint, meta_checkpoint, read_info, save_checkpoint
from sightline.model.vlm import VisionLanguageModel
from tests.fakes import tiny_model, tiny_pixels, tiny_prompt
from tests.model.conftest import INFO


def logits(model: VisionLanguageModel) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(tiny_prompt(model), pixels=tiny_pixels(1))
    return result


def test_a_checkpoint_comes_back_as_it_was_saved(pristine: Path) -> None:
    model, info = load_checkpoint(pristine)
    assert info == INFO
    assert not model.training
    torch.testing.assert_close(logits(model), logits(tiny_model()), rtol=0, atol=0)
    expected = tiny_model().state_dict()
    assert set(model.state_dict()) == set(expected)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_info_is_read_without_the_weights(saved: Path) -> None:
    for path in saved.glob("*.safetensors"):
        path.unlink()
    assert read_info(saved) == INFO


def test_the_shapes_are_read_without_the_weights(pristine: Path) -> None:
    expected = tiny_model()
    model = meta_checkpoint(pristine)
    assert {name: p.shape for name, p in model.named_parameters()} == {
        name: p.shape for name, p in expected.named_parameters()
    }
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.vision.tokens_per_image == expected.vision.tokens_per_image


def test_a_checkpoint_explains_itself(pristine: Path) -> None:
    content = json.loads((pristine / "sightline.json").read_text())
    assert content["format_version"] == 1
    assert content["parts"] == {"vision": "clip_vision_model", "connector": "mlp2x_gelu", "language": "llama"}
    assert content["not_standard"] is None
    config = json.loads((pristine / "config.json").read_text())
    assert (config["image_token_index"], config["image_seq_length"], config["vision_feature_layer"]) == (90, 16, -2)
    assert config["text_config"]["architectures"] == ["LlamaForCausalLM"]
    assert json.loads((pristine / "generation_config.json").read_text()) == {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    assert "tokenizer.json" in atomic.read_manifest(pristine)
    assert len(list(pristine.glob("model-*.safetensors"))) > 1


def test_the_type_of_the_weights_is_said_once_and_truly(tmp_path: Path) -> None:
    save_checkpoint(tiny_model().to(torch.bfloat16), tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert "dtype" not in config["text_config"]
    assert {tensor.dtype for tensor in load_file(tmp_path / "saved" / "model.safetensors").values()} == {torch.bfloat16}


def test_weights_may_be_loaded_in_another_type(pristine: Path) -> None:
    model, _ = load_checkpoint(pristine, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    rotary = model.language.model.rotary_emb.inv_freq
    assert rotary.dtype == torch.float32


def test_a_loaded_model_can_be_trained_and_saved_again(saved: Path, tmp_path: Path) -> None:
    model, info = load_checkpoint(saved)
    model(tiny_prompt(model), pixels=tiny_pixels(1)).square().mean().backward()
    assert all(p.grad is not None for p in model.connector.parameters())
    save_checkpoint(model, saved, info=info)
    torch.testing.assert_close(logits(load_checkpoint(saved)[0]), logits(model), rtol=0, atol=0)
    assert [path.name for path in saved.glob("model*")] == ["model.safetensors"]


def test_a_run_directory_keeps_its_other_files(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("{}")
    with pytest.raises(CheckpointError, match=r"log\.jsonl"):
        save_checkpoint(tiny_model(), tmp_path)
    save_checkpoint(tiny_model(), tmp_path, in_place=True)
    save_checkpoint(tiny_model(seed=5), tmp_path, in_place=True)
    assert (tmp_path / "log.jsonl").exists()
    torch.testing.assert_close(logits(load_checkpoint(tmp_path)[0]), logits(tiny_model(seed=5)), rtol=0, atol=0)


def test_a_failing_save_leaves_the_old_checkpoint(saved: Path) -> None:
    def fail(directory: Path) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tiny_model(seed=5), saved, extra_files=fail)
    torch.testing.assert_close(logits(load_checkpoint(saved)[0]), logits(tiny_model()), rtol=0, atol=0)
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_info_that_is_no_json_fails_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="info"):
        save_checkpoint(tiny_model(), tmp_path / "saved", info={"path": Path("x")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fault", "seed"),
    [("file:2", 0), ("before_manifest", 0), ("before_rename", 0), ("between_renames", 0), ("after_rename", 5)],
)
def test_a_kill_during_a_save_leaves_a_whole_checkpoint(
    fault: str, seed: int, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(seed=5)
    monkeypatch.setenv(atomic.FAULT_VARIABLE, fault)
    process = multiprocessing.get_context("fork").Process(target=save_checkpoint, args=(model, saved))
    process.start()
    process.join(timeout=30)
    assert process.exitcode == -signal.SIGKILL
    torch.testing.assert_close(logits(load_checkpoint(saved)[0]), logits(tiny_model(seed=seed)), rtol=0, atol=0)
