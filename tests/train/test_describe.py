"""What `describe` counts: LLaVA's published numbers, without a byte of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.config import parse_recipe
from sightline.errors import ConfigError
from sightline.recipe import Recipe
from sightline.train.assemble import assemble_parts_on_meta
from sightline.train.describe import describe_recipe, lora_parameters, table
from tests.fakes import tiny_language
from tests.train.small_run import align_recipe, instruct_recipe, prepared

CLIP_L_336 = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
LLAMA: dict[str, dict[str, Any]] = {
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "13b": {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
}
LLAMA_SIZE = {"7b": 6_738_415_616, "13b": 13_015_864_320}
CLIP_SIZE = 303_507_456


def published(directory: Path, *, size: str, connector: str, **train: Any) -> Recipe:
    """LLaVA-1.5's align recipe over directories that hold a `config.json` each, and nothing else."""
    configs = {"vision": CLIP_L_336, "language": {"model_type": "llama", "vocab_size": 32000, **LLAMA[size]}}
    for name, config in configs.items():
        (directory / name).mkdir()
        (directory / name / "config.json").write_text(json.dumps(config))
    parts = {name: str(directory / name) for name in configs}
    tree = {
        "name": "llava",
        "output": str(directory / "run"),
        "model": {**parts, "connector": connector, "fresh_connector": True},
        "data": [{"path": "none.json"}],
        "train": {"lr": {"connector": 1e-3}, "epochs": 1, **train},
    }
    return parse_recipe(tree, where="test")


@pytest.mark.parametrize(
    ("size", "connector", "parameters"),
    [
        ("7b", "linear", 4_198_400),
        ("7b", "mlp2x_gelu", 20_979_712),
        ("13b", "mlp2x_gelu", 31_467_520),
    ],
)
def test_published_counts_come_out_without_weights(size: str, connector: str, parameters: int, tmp_path: Path) -> None:
    recipe = published(tmp_path, size=size, connector=connector)
    found = describe_recipe(recipe)
    assert found["parts"] == {
        "vision": {"parameters": CLIP_SIZE, "trained": 0, "lr": None},
        "connector": {"parameters": parameters, "trained": parameters, "lr": 1e-3},
        "language": {"parameters": LLAMA_SIZE[size], "trained": 0, "lr": None},
    }
    assert found["tokens_per_image"] == 576
    assert not (tmp_path / "run").exists()


def test_nothing_is_allocated(tmp_path: Path) -> None:
    parts = assemble_parts_on_meta(published(tmp_path, size="7b", connector="mlp2x_gelu"))
    tensors = [tensor for part in parts.values() for tensor in (*part.parameters(), *part.buffers())]
    assert {tensor.device.type for tensor in tensors if tensor.numel() > 10_000} == {"meta"}


def test_lora_of_the_published_rank(tmp_path: Path) -> None:
    """Seven linear layers a block: 128 x (4 x (4096 + 4096) + 3 x (4096 + 11008)) x 32 blocks."""
    recipe = published(
        tmp_path, size="7b", connector="mlp2x_gelu", lr={"connector": 2e-5, "language": 2e-4}, lora={"rank": 128}
    )
    found = describe_recipe(recipe)["parts"]
    assert found["language"]["trained"] == 128 * (4 * 8192 + 3 * 15104) * 32 == 319_815_680
    assert found["language"]["parameters"] == LLAMA_SIZE["7b"]
    assert found["connector"]["trained"] == 20_979_712


@pytest.mark.parametrize(
    "train",
    [
        {"lr": {"connector": 1e-3}},
        {"lr": {"vision": 1e-4, "connector": 1e-4}},
        {"lr": {"connector": 1e-3, "language": 1e-4}, "lora": {"rank": 4}},
        {"lr": {"language": 1e-4}, "lora": {"rank": 3, "targets": r".*\.(q|v)_proj"}},
    ],
    ids=["align", "vision", "lora", "lora-targets"],
)
def test_what_is_said_to_train_is_what_trains(train: dict[str, Any], world: Path, tmp_path: Path) -> None:
    recipe = instruct_recipe(world, tmp_path / "run", start=None, train=train)
    run = prepared(recipe)
    for name, part in run.model.parts().items():
        trained = sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad)
        assert describe_recipe(recipe)["parts"][name]["trained"] == trained


def test_a_finished_run_is_described_as_a_start(world: Path, aligned: Path, tmp_path: Path) -> None:
    from_parts = describe_recipe(align_recipe(world, tmp_path / "a"))
    found = describe_recipe(instruct_recipe(world, tmp_path / "b", start=aligned))
    assert found["tokens_per_image"] == from_parts["tokens_per_image"] == 16
    for name in ("vision", "connector"):
        assert found["parts"][name]["parameters"] == from_parts["parts"][name]["parameters"]
    # 64 rows more, in and out: training added <image>
    assert found["parts"]["language"]["parameters"] - from_parts["parts"]["language"]["parameters"] in range(
        2 * 32, 2 * 32 * 65
    )


def test_table_is_for_people(tmp_path: Path) -> None:
    text = table(describe_recipe(published(tmp_path, size="7b", connector="mlp2x_gelu")))
    lines = text.splitlines()
    assert lines[0] == "llava: 576 tokens per picture"
    assert [line.split() for line in lines[2:]] == [
        ["vision", "303,507,456", "0", "frozen"],
        ["connector", "20,979,712", "20,979,712", "0.001"],
        ["language", "6,738,415,616", "0", "frozen"],
    ]


def test_targets_that_are_no_pattern_are_one_line() -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=r"train\.lora\.targets: '\(' is no regular expression"):
        lora_parameters(tiny_language("llama"), rank=4, targets="(")
