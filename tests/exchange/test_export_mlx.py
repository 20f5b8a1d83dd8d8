"""mlx-vlm's layout: the names of llava-hf, channels last, nothing left to defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sightline.errors import CheckpointError
from sightline.exchange.export import export
from tests.exchange.ours import save_ours, weights

PATCHES = "vision_tower.vision_model.embeddings.patch_embedding.weight"


@pytest.mark.parametrize(
    ("family", "language"), [("llama-2", "llama"), ("qwen2.5", "qwen2"), ("qwen2.5", "llama_tied")]
)
def test_only_the_convolution_is_turned(family: str, language: str, tmp_path: Path) -> None:
    path = save_ours(tmp_path / "run", family=family, language=language)
    assert export(path, tmp_path / "mlx", format_name="mlx").difference < 1e-5
    before, after = weights(path), weights(tmp_path / "mlx")
    assert before.keys() == after.keys()
    assert after[PATCHES].shape == (32, 8, 8, 3)
    assert torch.equal(after[PATCHES].permute(0, 3, 1, 2), before[PATCHES])
    assert all(torch.equal(after[name], before[name]) for name in before if name != PATCHES)


def test_settings_that_mlx_vlm_has_other_defaults_for_are_said(tmp_path: Path) -> None:
    """Its defaults are LLaVA-1.5's; ours leave out what is a default of transformers."""
    path = save_ours(tmp_path / "run")
    export(path, tmp_path / "mlx", format_name="mlx")
    config = json.loads((tmp_path / "mlx" / "config.json").read_text())
    assert config["vision_config"]["hidden_act"] == "quick_gelu"
    assert config["vision_config"]["num_hidden_layers"] == 3
    assert (config["text_config"]["rope_theta"], config["text_config"]["rope_scaling"]) == (10000.0, None)
    assert (config["model_type"], config["image_token_index"] > 0) == ("llava", True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"connector": "linear"}, "projector is mlp2x_gelu, not linear"),
        ({"vision": "siglip"}, "quick_gelu"),
        ({"family": "mistral", "language": "mistral"}, "not mistral"),
        ({"vision_options": {"layer_norm_eps": 1e-6}}, "eps 1e-5"),
        ({"head_dim": 16}, "heads are 16 wide"),
    ],
    ids=["connector", "tower", "language", "eps", "heads"],
)
def test_what_mlx_vlm_computes_otherwise_is_refused(options: dict[str, object], reason: str, tmp_path: Path) -> None:
    path = save_ours(tmp_path / "run", **options)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=reason):
        export(path, tmp_path / "mlx", format_name="mlx")
