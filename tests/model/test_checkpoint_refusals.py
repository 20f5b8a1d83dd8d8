"""What `load_checkpoint` refuses: damage by accident, and files that were made to fit by an attacker."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline import atomic
from sightline.errors import CheckpointError
from sightline.model.checkpoint import load_checkpoint
from tests.fakes import language_config


def seal(directory: Path) -> None:
    """Give a tampered directory a manifest that fits, as an attacker would."""
    (directory / "manifest.json").unlink()
    atomic.write_manifest(directory)


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the weights, as one file, and seal again."""
    tensors: dict[str, torch.Tensor] = {}
    for path in directory.glob("*.safetensors"):
        tensors |= load_file(path)
        path.unlink()
    (directory / "model.safetensors.index.json").unlink(missing_ok=True)
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    seal(directory)


def refused(directory: Path, *, verify: bool = True) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(directory, verify=verify)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- damage: the manifest no longer fits


def largest_shard(directory: Path) -> Path:
    return max(directory.glob("model-*.safetensors"), key=lambda path: path.stat().st_size)


def flip_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 0b100
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_one_bit, "damaged: its content does not match its checksum"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "damaged: .* bytes, .* expected"),
        (lambda path: path.write_bytes(b""), "damaged: 0 bytes"),
        (Path.unlink, "missing"),
    ],
)
def test_a_damaged_shard_is_named(damage: Callable[[Path], object], message: str, saved: Path) -> None:
    shard = largest_shard(saved)
    damage(shard)
    with pytest.raises(CheckpointError, match=f"{shard.name}: {message}"):
        load_checkpoint(saved)


def test_without_checksums_sizes_are_still_compared(saved: Path) -> None:
    flip_one_bit(largest_shard(saved))
    load_checkpoint(saved, verify=False)
    largest_shard(saved).write_bytes(b"")
    assert "0 bytes" in refused(saved, verify=False)


def test_a_directory_without_a_manifest_was_never_finished(saved: Path) -> None:
    (saved / "manifest.json").unlink()
    assert "not a finished checkpoint" in refused(saved)


def test_what_is_no_checkpoint_is_told_apart(saved: Path, tmp_path: Path) -> None:
    assert "no such checkpoint directory" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "not a Sightline checkpoint; nothing to load" in refused(tmp_path / "empty")
    (saved / "sightline.json").unlink()
    assert "sightline import" in refused(saved)


def test_a_file_added_after_the_save_is_not_read(saved: Path) -> None:
    index = json.loads((saved / "model.safetensors.index.json").read_text())
    tensors: dict[str, torch.Tensor] = {}
    for file in set(index["weight_map"].values()):
        tensors |= load_file(saved / file)
    save_file(tensors, saved / "model.safetensors")
    assert "model.safetensors: not in manifest.json" in refused(saved)


# ---- attacks: the manifest fits, the content does not


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format_version=2, new_setting=1), "format version 2, this program reads 1"),
        (lambda c: c.update(new_setting=1), "new_setting"),
        (lambda c: c.pop("connector"), "connector: Field required"),
        (lambda c: c.update(image_token_id="90"), "image_token_id"),
        (lambda c: c.update(connector="mlp2x_relu"), 'connector "mlp2x_relu"'),
        (lambda c: c.update(connector="mlp3x_gelu"), "2 tensors are missing, such as multi_modal_projector.linear_3"),
        (lambda c: c.update(connector="mlp999999999x_gelu"), "N from 2 to 32"),
        (lambda c: c.update(connector="mlp" + 5000 * "9" + "x_gelu"), "N from 2 to 32"),
        (lambda c: c.update(connector="linear"), "is no identity: the connector is not linear any more"),
        (lambda c: c.update(vision_layer=4), "3 layers"),
        (lambda c: c.update(vision_select="cls"), 'vision_select "cls"'),
        (lambda c: c.update(tokens_per_image=576), "576 tokens per image, but the encoder gives 16"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, saved: Path
) -> None:
    edit_json(saved / "sightline.json", change)
    seal(saved)
    assert message in refused(saved)


@pytest.mark.parametrize("text", ["", "[]", '"x"', "{", "[" * 100_000, "\x00"])
@pytest.mark.parametrize("file", ["sightline.json", "config.json", "model.safetensors.index.json"])
def test_a_file_that_is_no_json_object_is_named(file: str, text: str, saved: Path) -> None:
    (saved / file).write_text(text)
    seal(saved)
    assert file in refused(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(auto_map={"AutoModel": "evil.Evil"}), 'unknown setting "auto_map"'),
        (lambda c: c.update(trust_remote_code=True), 'unknown setting "trust_remote_code"'),
        (lambda c: c["text_config"].update(auto_map={"AutoModel": "evil.Evil"}), 'no setting "auto_map"'),
        (lambda c: c["text_config"].update(attn_implementation="org/kernel"), 'no setting "attn_implementation"'),
        (lambda c: c["vision_config"].update(quantization_config={"bits": 4}), "quantised"),
        (lambda c: c["text_config"].update(model_type="evil"), "no model_type 'evil'"),
        (lambda c: c["text_config"].update(model_type="clip_vision_model"), "no setting"),
        (lambda c: c.pop("vision_config"), "no vision_config"),
        (lambda c: c["text_config"].update(num_hidden_layers=10**9), "asks for 1000000000 layers"),
        (lambda c: c.update(text_config={"model_type": "gpt2", "n_layer": 10**9}), "asks for 1000000000 layers"),
        (lambda c: c.update(text_config={"model_type": "bart", "decoder_layers": 10**9}), "asks for 1000000000 layers"),
        (lambda c: c["text_config"].update(num_hidden_layers=3), "tensors are missing"),
        (lambda c: c["text_config"].update(num_hidden_layers=1), "do not belong to this model"),
        (lambda c: c["text_config"].update(hidden_size=2**40), "tensors that cannot exist"),
        (lambda c: c["text_config"].update(hidden_size=64, head_dim=8), "has shape [32"),
        (lambda c: c["text_config"].update(vocab_size=2**40), "has shape [96, 32]"),
        (lambda c: c["text_config"].update(tie_word_embeddings=True), "such as language_model.lm_head.weight"),
        (lambda c: c["vision_config"].update(patch_size=0), "cannot be built"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_configuration_that_does_not_fit_is_refused_before_memory_is_taken(
    change: Callable[[dict[str, Any]], object], message: str, saved: Path
) -> None:
    edit_json(saved / "config.json", change)
    seal(saved)
    assert message in refused(saved)


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", "/etc/passwd", "inner/x.safetensors", "..", ""])
def test_an_index_that_points_outside_is_refused(name: str, saved: Path) -> None:
    index = saved / "model.safetensors.index.json"
    edit_json(index, lambda c: c["weight_map"].update({next(iter(c["weight_map"])): name}))
    seal(saved)
    assert "names a file that is no weight file beside it" in refused(saved)


def test_an_index_that_disagrees_with_its_files_is_refused(saved: Path) -> None:
    index = saved / "model.safetensors.index.json"
    edit_json(index, lambda c: c["weight_map"].pop("language_model.lm_head.weight"))
    seal(saved)
    assert "disagrees with the files it lists, about language_model.lm_head.weight" in refused(saved)
    edit_json(
        index, lambda c: c["weight_map"].update({"language_model.lm_head.weight": "model-00009-of-00009.safetensors"})
    )
    seal(saved)
    assert "model-00009-of-00009.safetensors" in refused(saved)


HEAD = "language_model.lm_head.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(HEAD), f"1 tensors are missing, such as {HEAD}"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 tensors do not belong to this model, such as extra"),
        (
            lambda t: t.update({HEAD: torch.zeros(96, 33)}),
            f"{HEAD} has shape [96, 33], the configuration needs [96, 32]",
        ),
        (lambda t: t.update({HEAD: torch.zeros(96, 32).int()}), f"{HEAD} has type I32"),
        (lambda t: t.update({HEAD: torch.zeros(96, 32).to(torch.float8_e4m3fn)}), f"{HEAD} has type F8_E4M3"),
        (lambda t: t.update({HEAD: torch.zeros(96, 32) / 0}), f"{HEAD} has values that are not finite"),
        (lambda t: t[HEAD].__setitem__((95, 31), float("inf")), f"{HEAD} has values that are not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    change: Callable[[dict[str, torch.Tensor]], object], message: str, saved: Path
) -> None:
    edit_tensors(saved, change)
    assert message in refused(saved)


def test_weights_too_large_for_the_wanted_type_are_named(saved: Path) -> None:
    edit_tensors(saved, lambda t: t[HEAD].__setitem__((0, 0), 1e6))
    load_checkpoint(saved)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight has values that are not finite in torch\.float16"):
        load_checkpoint(saved, dtype=torch.float16)


@pytest.mark.parametrize("data", [b"", b"1234567", b"\x80\x04\x95", (2**62).to_bytes(8, "little") + b"{}" * 20])
def test_a_file_that_is_no_safetensors_is_named(data: bytes, saved: Path) -> None:
    shard = largest_shard(saved)
    shard.write_bytes(data)
    seal(saved)
    assert f"{shard.name}: not a readable safetensors file" in refused(saved)


def test_pickles_are_never_read(saved: Path) -> None:
    for path in saved.glob("model*"):
        path.unlink()
    torch.save({HEAD: torch.zeros(96, 32)}, saved / "pytorch_model.bin")
    seal(saved)
    assert "neither model.safetensors nor" in refused(saved)


def test_another_language_model_under_the_same_header_is_refused(saved: Path) -> None:
    edit_json(saved / "config.json", lambda c: c.update(text_config=language_config("qwen2")))
    seal(saved)
    assert "tensors are missing, such as language_model.model.layers.0.self_attn.k_proj.bias" in refused(saved)
