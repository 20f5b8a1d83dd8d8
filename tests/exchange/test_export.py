"""An export is there when it was read back and says what the checkpoint says, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline.cli import app, run
from sightline.errors import CheckpointError, ConfigError
from sightline.exchange import export_hf
from sightline.exchange.export import compare, export
from sightline.exchange.import_checkpoint import import_checkpoint
from sightline.exchange.source import fixed_picture, fixed_prompt
from sightline.infer.load import load
from tests.exchange.ours import same_weights, save_ours
from tests.tiny_checkpoint import save_assistant


@pytest.fixture(scope="module")
def hub(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("hf") / "exported"
    export(ours, target, format_name="hf")
    return target


def test_transformers_loads_it_without_an_argument_and_agrees(ours: Path, hub: Path) -> None:
    model, processor = load(ours)
    theirs = AutoModelForImageTextToText.from_pretrained(hub).eval()
    their_processor = AutoProcessor.from_pretrained(hub)
    picture = fixed_picture()
    seen = their_processor(images=picture, text="USER: <image>\nWhat is it? ASSISTANT:", return_tensors="pt")
    pixels = processor.pixels([picture])
    std = torch.tensor(processor.settings.image_std)[:, None, None]
    assert ((seen["pixel_values"] - pixels) * std).abs().max() <= 1 / 255
    with torch.no_grad():
        found = theirs(**seen).logits
        expected = model(seen["input_ids"], pixels=pixels)
    assert (found - expected).abs().max() < 1e-5


def test_what_other_software_looks_for_is_there_and_what_only_we_read_is_not(hub: Path) -> None:
    names = {path.name for path in hub.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "chat_template.jinja"}
    assert names >= {"processor_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert "sightline.json" not in names


def test_ours_to_hf_to_ours_is_bit_equal(ours: Path, hub: Path, tmp_path: Path) -> None:
    import_checkpoint(str(hub), tmp_path / "back", say=lambda line: None)
    assert same_weights(ours, tmp_path / "back")


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_another_type_is_verified_against_the_rounded_checkpoint(dtype: str, ours: Path, tmp_path: Path) -> None:
    done = export(ours, tmp_path / "small", format_name="hf", dtype=dtype)
    assert done.difference < 1e-5
    name = {"bf16": "bfloat16", "fp16": "float16"}[dtype]
    assert json.loads((tmp_path / "small" / "config.json").read_text())["dtype"] == name
    assert done.files["model.safetensors"] < 0.6 * (ours / "model.safetensors").stat().st_size


def test_a_value_that_fp16_cannot_hold_is_named(tmp_path: Path) -> None:
    path = save_ours(tmp_path / "run")
    model, processor = load(path)
    with torch.no_grad():
        model.language.lm_head.weight[3, 3] = 1e6
    save_assistant(path, model, processor)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight has values beyond the range of torch\.float16"):
        export(path, tmp_path / "out", format_name="hf", dtype="fp16")
    assert not (tmp_path / "out").exists()


def test_a_connector_that_the_format_lacks_is_refused_with_those_that_have_it(tmp_path: Path) -> None:
    path = save_ours(tmp_path / "run", connector="mlp3x_gelu")
    with pytest.raises(CheckpointError, match=r"hf: .*mlp3x_gelu has more; formats that can: llava, projector"):
        export(path, tmp_path / "out", format_name="hf")
    assert export(path, tmp_path / "deep-llava", format_name="llava").difference < 1e-5


def test_an_export_that_says_something_else_is_not_there(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(tensors: dict[str, Any], directory: Path) -> None:
        first, second = "multi_modal_projector.linear_2.weight", "multi_modal_projector.linear_2.bias"
        export_hf_write(tensors | {first: tensors[first].T.contiguous(), second: tensors[second]}, directory)

    export_hf_write = export_hf.write_weights
    monkeypatch.setattr(export_hf, "write_weights", swapped)
    with pytest.raises(CheckpointError, match="read back, its logits differ by"):
        export(ours, tmp_path / "out", format_name="hf")
    assert list(tmp_path.iterdir()) == []


def test_logits_are_compared_as_far_as_a_format_has_rows() -> None:
    table = torch.arange(12.0).reshape(3, 4)
    assert compare(table, table[:, :3], what="x") == 0
    with pytest.raises(CheckpointError, match=r"logits of shape \[2, 4\], not \[3, 4\]"):
        compare(table, table[:2], what="x")
    for wrong in (1e-3, float("nan")):
        with pytest.raises(CheckpointError, match="differ by"):
            compare(table, table + torch.tensor([0, 0, wrong, 0]), what="x")


def test_a_directory_that_holds_something_is_left_alone(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there and not empty"):
        export(ours, tmp_path, format_name="hf")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format_name": "ggfu"}, r'format "ggfu" is none of hf, llava, projector, gguf, mlx; did you mean "gguf"'),
        ({"format_name": "hf", "dtype": "fp8"}, r'--dtype "fp8" is none of fp32, fp16, bf16'),
        ({"format_name": "hf", "lora": True}, "--lora belongs to --format llava, not to hf"),
        ({"format_name": "gguf", "tower": "x"}, "--vision-tower belongs to --format llava, not to gguf"),
    ],
    ids=["format", "dtype", "lora", "tower"],
)
def test_options_are_checked_before_anything_is_read(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        export(tmp_path / "none", tmp_path / "out", **options)


def test_the_picture_and_the_prompt_never_change(ours: Path) -> None:
    """Another picture or prompt would make yesterday's verified exports incomparable with today's."""
    picture = fixed_picture()
    assert picture.size == (96, 64)
    assert [picture.getpixel(place) for place in ((0, 0), (95, 0), (0, 63), (95, 63))] == [
        (0, 0, 0), (255, 0, 153), (0, 255, 181), (255, 255, 78),
    ]  # fmt: skip
    _, processor = load(ours)
    ids = fixed_prompt(processor)
    assert (ids == processor.image_token_id).sum() == processor.settings.image_tokens
    assert processor.tokenizer.decode(ids[0][-4:]) in "What is in the picture?"


def test_the_command_says_what_was_written_and_how_far_it_is_off(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(ours), str(tmp_path / "out"), "--format", "hf", "--json"]
    assert run(lambda standalone_mode: app(args=arguments, standalone_mode=standalone_mode)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["format"] == "hf"
    assert printed["difference"] < 1e-5
    assert printed["files"]["model.safetensors"] > 1000
