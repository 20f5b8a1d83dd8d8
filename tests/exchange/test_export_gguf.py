"""Two GGUF files that hold the checkpoint: read by ourselves, by `gguf`, and their text half by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from sightline.errors import CheckpointError
from sightline.exchange import export_gguf
from sightline.exchange.export import export
from sightline.exchange.gguf_file import check_keys, read_gguf, write_gguf
from sightline.infer.load import load
from tests.exchange.ours import LLAMA3_ROPE, save_ours


def files(directory: Path) -> tuple[Path, Path]:
    """The language model's and the tower's."""
    text, tower = sorted(directory.glob("*.gguf"), key=lambda path: path.name.startswith("mmproj-"))
    return text, tower


@pytest.mark.parametrize(
    "options",
    [
        {"family": "llama-2", "language": "llama"},
        {"family": "llama-2", "language": "llama", "connector": "linear"},
        {"family": "llama-3", "language": "llama", "rope_parameters": LLAMA3_ROPE},
        {"family": "mistral", "language": "mistral"},
        {"family": "qwen2.5", "language": "qwen2", "vision": "siglip", "layer": -1},
        {"family": "qwen3", "language": "qwen3", "vision": "siglip"},
        {"family": "qwen2.5", "language": "llama_tied", "attention_bias": True, "mlp_bias": True},
        {
            "family": "qwen2.5", "language": "llama", "vision_options": {"hidden_act": "gelu"},
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        },
    ],
    ids=["llama", "linear", "llama-3", "mistral", "qwen2-siglip", "qwen3-siglip", "tied-biases", "linear-rope"],
)  # fmt: skip
def test_a_model_made_from_the_files_alone_gives_the_checkpoints_logits(
    options: dict[str, Any], tmp_path: Path
) -> None:
    done = export(save_ours(tmp_path / "run", **options), tmp_path / "out", format_name="gguf")
    assert done.difference < 1e-5
    assert set(done.files) == {"out-f16.gguf", "mmproj-out-f16.gguf"}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_other_types(dtype: str, ours: Path, tmp_path: Path) -> None:
    assert export(ours, tmp_path / "out", format_name="gguf", dtype=dtype).difference < 1e-5


@pytest.fixture(scope="module")
def pair(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    target = tmp_path_factory.mktemp("gguf") / "tiny"
    export(ours, target, format_name="gguf")
    return files(target)


def test_matrices_are_fp16_and_the_rest_is_fp32(pair: tuple[Path, Path]) -> None:
    for path in pair:
        for tensor in GGUFReader(path).tensors:
            vector = len(tensor.shape) == 1 or tensor.name == "v.position_embd.weight"
            wanted = GGMLQuantizationType.F32 if vector else GGMLQuantizationType.F16
            assert tensor.tensor_type == wanted, tensor.name


def test_tensors_are_the_checkpoints(ours: Path, pair: tuple[Path, Path]) -> None:
    """By hand for one of each kind, so that a mistake made in both directions shows."""
    model, _ = load(ours)
    text = {tensor.name: tensor.data for tensor in GGUFReader(pair[0]).tensors}
    tower = {tensor.name: tensor.data for tensor in GGUFReader(pair[1]).tensors}
    block = model.language.model.layers[1]

    def same(found: Any, tensor: torch.Tensor) -> bool:
        return np.array_equal(found, tensor.detach().half().numpy())

    assert same(text["token_embd.weight"], model.language.get_input_embeddings().weight)
    assert same(text["output.weight"], model.language.lm_head.weight)
    assert same(text["blk.1.ffn_down.weight"], block.mlp.down_proj.weight)
    query = block.self_attn.q_proj.weight.detach()  # 4 heads of 8 rows: row 4 of a head is its second
    assert same(text["blk.1.attn_q.weight"][:8], query[[0, 4, 1, 5, 2, 6, 3, 7]])
    key = block.self_attn.k_proj.weight.detach()  # 2 heads of 8
    assert same(text["blk.1.attn_k.weight"][8:], key[8:][[0, 4, 1, 5, 2, 6, 3, 7]])
    encoder = model.vision.backbone
    assert same(tower["v.patch_embd.weight"], encoder.embeddings.patch_embedding.weight)
    assert same(tower["mm.0.weight"], model.connector[0].weight)
    assert same(tower["mm.2.weight"], model.connector[2].weight)
    layers = encoder.encoder.layers._modules
    assert same(tower["v.blk.1.ffn_up.weight"], layers["1"].mlp.fc1.weight)
    assert "v.blk.2.ln1.weight" not in tower  # the third of three layers is not run


def test_keys_are_what_llama_cpp_asks_for(ours: Path, pair: tuple[Path, Path]) -> None:
    _, processor = load(ours)
    text, tower = read_gguf(pair[0])[0], read_gguf(pair[1])[0]
    assert text["general.architecture"] == "llama"
    assert (text["llama.block_count"], text["llama.embedding_length"], text["llama.context_length"]) == (2, 32, 256)
    assert (text["llama.attention.head_count"], text["llama.attention.head_count_kv"]) == (4, 2)
    assert (text["llama.rope.dimension_count"], text["llama.rope.freq_base"]) == (8, 10000.0)
    assert text["tokenizer.chat_template"] == (ours / "chat_template.jinja").read_text()
    assert tower["general.architecture"] == "clip"
    assert (tower["clip.projector_type"], tower["clip.has_vision_encoder"]) == ("mlp", True)
    assert (tower["clip.vision.image_size"], tower["clip.vision.patch_size"]) == (32, 8)
    assert (tower["clip.vision.block_count"], tower["clip.vision.feature_layer"]) == (2, [2])
    assert tower["clip.vision.image_mean"] == pytest.approx(processor.settings.image_mean)
    assert "clip.vision.image_grid_pinpoints" not in tower


@pytest.mark.parametrize(
    ("family", "language"), [("llama-2", "llama"), ("qwen2.5", "qwen2"), ("qwen3", "qwen3"), ("mistral", "mistral")]
)
def test_transformers_reads_the_text_half_and_agrees(family: str, language: str, tmp_path: Path) -> None:
    """A reader that is not ours: its own names, its own way to undo the interleaving."""
    options = {"head_dim": 128} if language == "qwen3" else {}  # that reader knows no other for it
    path = save_ours(tmp_path / "run", family=family, language=language, **options)
    export(path, tmp_path / "out", format_name="gguf", dtype="fp32")
    file = files(tmp_path / "out")[0].name
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file=file, dtype=torch.float32).eval()
    model, _ = load(path)
    ids = torch.tensor([[1, 5, 6, 7, 8, 9, 10, 11]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model.language(ids).logits, atol=1e-5, rtol=0)


def test_transformers_reads_the_tokenizer_and_agrees(tmp_path: Path) -> None:
    path = save_ours(tmp_path / "run", family="qwen2.5", language="qwen2")
    export(path, tmp_path / "out", format_name="gguf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file=files(tmp_path / "out")[0].name)
    _, processor = load(path)
    for text in ("What is shown in this image?", "two lines,\n\n then  more", "naïve 日本 123"):
        assert theirs(text)["input_ids"] == processor.tokenizer(text)["input_ids"]


def test_a_key_that_comes_back_otherwise_is_named(tmp_path: Path) -> None:
    keys = {"general.architecture": "llama", "a": 1, "b": 0.1, "c": [1, 2], "d": True, "e": "text"}
    write_gguf(tmp_path / "x.gguf", keys, [("t.weight", torch.ones(2, 3))])
    found, tensors = read_gguf(tmp_path / "x.gguf")
    check_keys(found, keys, where=tmp_path / "x.gguf")
    assert [(name, tensor.shape) for name, tensor in tensors] == [("t.weight", (2, 3))]
    for changed in (keys | {"c": [1, 3]}, keys | {"b": 0.2}, keys | {"d": 1}, keys | {"f": 1}):
        with pytest.raises(CheckpointError, match=r"x\.gguf: read back, the key [bcdf] is not what was written"):
            check_keys(found, changed, where=tmp_path / "x.gguf")


def test_a_file_that_holds_another_matrix_is_not_kept(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(name: str, tensor: torch.Tensor, config: Any) -> tuple[str, torch.Tensor]:
        theirs, changed = right(name, tensor, config)
        return theirs, tensor if theirs == "blk.1.attn_k.weight" else changed

    right = export_gguf.gguf_language.language_tensor
    monkeypatch.setattr(export_gguf.gguf_language, "language_tensor", forgetful)
    with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.k_proj\.weight is not what was written"):
        export(ours, tmp_path / "out", format_name="gguf")
    assert not (tmp_path / "out").exists()


def test_what_llama_cpp_does_otherwise_is_said(ours: Path, tmp_path: Path) -> None:
    notes = " ".join(export(ours, tmp_path / "a", format_name="gguf").notes)
    assert "class token" in notes
    assert "pads" not in notes
    cropped = save_ours(tmp_path / "run", vision="siglip", processor_options={"image_policy": "crop"})
    notes = " ".join(export(cropped, tmp_path / "b", format_name="gguf").notes)
    assert "class token" not in notes
    assert "trained on cropped ones" in notes


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"connector": "mlp3x_gelu"}, "two linear layers"),
        ({"vision": "dinov2"}, "not patch of this tower"),
        ({"family": "qwen2.5", "language": "phi3"}, "type phi3 are not written here"),
        ({"family": "qwen2.5", "vision_options": {"intermediate_size": 32}}, "apart by their shapes"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "of type dynamic"),
    ],
    ids=["connector", "tower", "language", "shapes", "rope"],
)
def test_what_the_format_cannot_express_is_refused(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = save_ours(tmp_path / "run", **options)
    with pytest.raises(CheckpointError, match=rf"--format gguf: .*{reason}.*; formats that can: hf|--format gguf"):
        export(path, tmp_path / "out", format_name="gguf")
    assert not (tmp_path / "out").exists()
