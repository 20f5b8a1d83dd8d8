"""Which formats a model allows, told from its parts without weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.config import parse_recipe
from sightline.exchange.formats import FORMATS, Parts, obstacles_of_parts, possible_formats
from sightline.train.assemble import assemble_parts_on_meta, tokenizer_of
from sightline.train.describe import describe_recipe, table
from tests.data.toy_tokenizers import FAMILIES
from tests.fakes import tiny_model
from tests.train.small_run import make_world


@pytest.mark.parametrize(
    ("vision", "language", "connector", "formats"),
    [
        ("clip", "llama", "mlp2x_gelu", ["hf", "llava", "projector", "gguf", "mlx"]),
        ("clip", "llama", "linear", ["hf", "llava", "projector", "gguf"]),
        ("clip", "llama", "mlp4x_gelu", ["llava", "projector"]),
        ("clip", "llama", "identity", ["hf", "llava"]),
        ("clip", "mistral", "mlp2x_gelu", ["hf", "llava", "projector", "gguf"]),
        ("clip", "qwen2", "mlp2x_gelu", ["hf", "gguf", "mlx"]),
        ("clip", "phi3", "mlp2x_gelu", ["hf"]),
        ("siglip", "qwen3", "mlp2x_gelu", ["hf", "gguf"]),
        ("siglip", "gemma2", "mlp2x_gelu", []),
        ("dinov2", "llama", "mlp2x_gelu", ["hf"]),
    ],
)
def test_formats_by_parts(vision: str, language: str, connector: str, formats: list[str]) -> None:
    model = tiny_model(vision, language, connector=connector)
    parts = Parts(vision=model.vision, connector=connector, language=model.language)
    assert possible_formats(parts) == formats


def test_the_tokenizer_decides_over_gguf() -> None:
    model = tiny_model()
    known = Parts(vision=model.vision, connector="linear", language=model.language, tokenizer=FAMILIES["qwen3"]())
    assert "gguf" in possible_formats(known)


def test_describe_says_which_exports_a_recipe_allows(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world")
    tree = {
        "name": "x",
        "output": str(tmp_path / "run"),
        "model": {"vision": str(world / "vision"), "language": str(world / "language"), "connector": "linear"},
        "data": [{"path": "none.json"}],
        "train": {"lr": {"connector": 1e-3}, "epochs": 1},
    }
    recipe = parse_recipe(tree, where="test")
    tokenizer = tokenizer_of(recipe)
    found = describe_recipe(recipe, exports=lambda parts: obstacles_of_parts(parts, tokenizer))
    assert set(found["exports"]) == set(FORMATS)
    assert found["exports"]["hf"] is None
    lines = table(found).splitlines()
    assert "exports to: hf, llava, projector, gguf" in lines
    assert "not to mlx: mlx-vlm's projector is mlp2x_gelu, not linear" in lines
    assert obstacles_of_parts(assemble_parts_on_meta(recipe), None)["gguf"] is None
