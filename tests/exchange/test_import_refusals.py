"""Broken and hostile checkpoints: exit code 2, one line that names the culprit, nothing run and nothing written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.cli import app, run
from tests.exchange.foreign import edit_json, original_tensors, tiny_llava, write_model, write_original

NORM = "model.norm.weight"
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good checkpoint in two shards, and its tower; tests damage copies of both."""
    folder = tmp_path_factory.mktemp("foreign")
    write_original(folder / "theirs", tiny_llava(), kind="bin", shards=2)
    return folder


@pytest.fixture
def source(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy")) / "theirs"


def refusal(source: Path, target: Path, captured: Captured, *options: str) -> str:
    code = run(partial(app, args=["import", str(source), str(target), *options]))
    line = captured.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert line.startswith("sightline: ")
    assert not target.exists()
    assert not list(target.parent.glob(f".{target.name}.*"))
    return line


def shard(source: Path, number: int = 1) -> Path:
    return source / f"pytorch_model-{number:05d}-of-00002.bin"


def edit_shard(source: Path, change: Callable[[dict[str, Any]], object], holding: str = NORM) -> Path:
    """Changes the content of the shard that holds a tensor, and the index with it."""
    index = json.loads((source / "pytorch_model.bin.index.json").read_text())
    path = source / index["weight_map"][holding]
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)
    kept = {name: file for name, file in index["weight_map"].items() if file != path.name}
    edit_json(source / "pytorch_model.bin.index.json", weight_map=kept | dict.fromkeys(tensors, path.name))
    return path


class Runs:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_a_pickle_with_code_runs_nothing(source: Path, tmp_path: Path, capsys: Captured) -> None:
    path = edit_shard(source, lambda tensors: tensors.update({NORM: Runs(tmp_path / "canary")}))
    line = refusal(source, tmp_path / "ours", capsys)
    assert f"{path}: refused, and nothing of it was run: it names posix.mkdir" in line
    assert not (tmp_path / "canary").exists()


def test_a_shard_that_is_cut_short_is_named(source: Path, tmp_path: Path, capsys: Captured) -> None:
    shard(source, 2).write_bytes(shard(source, 2).read_bytes()[:-200])
    assert f"{shard(source, 2)}: damaged or cut short" in refusal(source, tmp_path / "ours", capsys)


def test_a_missing_shard_is_named(source: Path, tmp_path: Path, capsys: Captured) -> None:
    shard(source).unlink()
    assert f"{shard(source)}: cannot be read: No such file" in refusal(source, tmp_path / "ours", capsys)


PROJECTOR = "model.mm_projector.0.weight"


@pytest.mark.parametrize(
    ("holding", "change", "message"),
    [
        (NORM, lambda t: t.update({NORM: torch.ones(33)}), f"{NORM} has shape [33], the configuration needs [32]"),
        (
            "model.embed_tokens.weight",
            lambda t: t.update({"model.embed_tokens.weight": torch.ones(7, 32)}),
            "model.embed_tokens.weight has shape [7, 32], the configuration needs [ROWS, 32]",
        ),
        (PROJECTOR, lambda t: t.pop(PROJECTOR), f"{PROJECTOR} of shape [32, 32] is missing"),
        (NORM, lambda t: t.update(extra=torch.ones(2)), "extra of shape [2] does not belong to this model"),
        (NORM, lambda t: t[NORM].fill_(float("nan")), f"{NORM} has values that are not finite"),
        (PROJECTOR, lambda t: t[PROJECTOR][0].fill_(float("inf")), f"{PROJECTOR} has values that are not finite"),
        (NORM, lambda t: t.update({NORM: torch.ones(32).int()}), f"{NORM} has type I32, expected F64, F32"),
        (
            NORM,
            lambda t: t.update({NORM: torch.ones(32).to(torch.float8_e5m2)}),
            f"{NORM} is of type torch.float8_e5m2",
        ),
        (NORM, lambda t: t.update({NORM: torch.ones(1).expand(2**40)}), "fewer numbers than that in the file"),
        (
            NORM,
            lambda t: t.update({NORM: torch.ones(32).to_sparse()}),
            f"{NORM} is a tensor of layout torch.sparse_coo",
        ),
        (NORM, lambda t: t.update({NORM: "text"}), f"{NORM} is a str, expected a dense tensor"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    holding: str, change: Callable[[Any], object], message: str, source: Path, tmp_path: Path, capsys: Captured
) -> None:
    rows = json.loads((source / "config.json").read_text())["vocab_size"]
    edit_shard(source, change, holding)
    assert message.replace("ROWS", str(rows)) in refusal(source, tmp_path / "ours", capsys)


@pytest.mark.parametrize("file", ["../outside.bin", "/etc/passwd", "inner/x.bin", "model.safetensors", ""])
def test_an_index_that_points_elsewhere_is_refused(file: str, source: Path, tmp_path: Path, capsys: Captured) -> None:
    index = source / "pytorch_model.bin.index.json"
    places = json.loads(index.read_text())["weight_map"]
    edit_json(index, weight_map=places | {NORM: file})
    line = refusal(source, tmp_path / "ours", capsys)
    assert f"{index}: names a file that is no weight file beside it: {file!r}" in line


def test_an_index_that_disagrees_with_its_shards_is_refused(source: Path, tmp_path: Path, capsys: Captured) -> None:
    index = source / "pytorch_model.bin.index.json"
    places = json.loads(index.read_text())["weight_map"]
    del places[NORM]
    edit_json(index, weight_map=places)
    assert f"disagrees with the files it lists, about {NORM}" in refusal(source, tmp_path / "ours", capsys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModel": "evil.Evil"}}, "auto_map asks for code"),
        ({"vision": {"deep": [{"auto_map": {"AutoConfig": "evil.Evil"}}]}}, "auto_map asks for code"),
        ({"trust_remote_code": True}, "trust_remote_code asks for code"),
        ({"mm_projector_type": "resampler"}, 'mm_projector_type: connector "resampler"'),
        ({"mm_projector_type": "mlp3x_gelu"}, "model.mm_projector.4.weight of shape [32, 32] is missing"),
        ({"mm_projector_type": "linear"}, "model.mm_projector.2."),
        ({"mm_patch_merge_type": "spatial_unpad", "image_aspect_ratio": "anyres"}, "LLaVA-NeXT (v1.6)"),
        ({"model_type": "llava_mpt"}, "model_type is 'llava_mpt', expected one of llava, llava_llama, llava_mistral"),
        ({"model_type": "llava_next"}, "sees a picture in several views"),
        ({"quantization_config": {"bits": 4}}, "the weights are quantised"),
        ({"num_hidden_layers": 10**9}, "asks for 1000000000 layers, but there are"),
        ({"num_hidden_layers": 3}, "model.layers.2."),
        ({"num_hidden_layers": 1}, "model.layers.1."),
        ({"hidden_size": 2**40}, "config"),
        ({"mm_vision_select_layer": 40}, "vision_layer 40"),
        ({"mm_vision_tower": "../../etc"}, "its vision tower '../../etc' is neither in it nor next to it"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(
    changes: dict[str, Any], message: str, source: Path, tmp_path: Path, capsys: Captured
) -> None:
    edit_json(source / "config.json", **changes)
    assert message in refusal(source, tmp_path / "ours", capsys)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "preprocessor_config.json"])
def test_code_is_refused_in_every_file_of_settings(name: str, source: Path, tmp_path: Path, capsys: Captured) -> None:
    (source / name).write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    assert f"{source / name}: auto_map asks for code" in refusal(source, tmp_path / "ours", capsys)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "pytorch_model.bin.index.json", "tokenizer.json"])
def test_a_file_that_is_no_json_object_is_named(
    name: str, content: str, source: Path, tmp_path: Path, capsys: Captured
) -> None:
    (source / name).write_text(content)
    assert name in refusal(source, tmp_path / "ours", capsys)


def test_safetensors_are_held_to_the_same(source: Path, tmp_path: Path, capsys: Captured) -> None:
    for path in source.glob("pytorch_model*"):
        path.unlink()
    tensors = original_tensors(tiny_llava())
    write_model(source, tensors | {NORM: tensors[NORM] / 0})
    assert f"{NORM} has values that are not finite" in refusal(source, tmp_path / "ours", capsys)
    write_model(source, tensors | {NORM: tensors[NORM].to(torch.float8_e4m3fn)})
    assert f"{NORM} has type F8_E4M3" in refusal(source, tmp_path / "ours", capsys)
    file = source / "model.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    assert f"{file}: not a readable safetensors file" in refusal(source, tmp_path / "ours", capsys)


def test_what_is_nothing_to_import_is_told_apart(source: Path, tmp_path: Path, capsys: Captured) -> None:
    ours = tmp_path / "ours"
    assert "SRC: no directory" in refusal(tmp_path / "nothing", ours, capsys)
    (tmp_path / "empty").mkdir()
    assert "holds no weights under a name that is known here" in refusal(tmp_path / "empty", ours, capsys)
    write_model(tmp_path / "empty", {"model.norm.weight": torch.ones(2)})
    assert "no config.json in it" in refusal(tmp_path / "empty", ours, capsys)
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "llama"}')
    assert "a llama model without a projector" in refusal(tmp_path / "empty", ours, capsys)
    (tmp_path / "empty" / "sightline.json").write_text("{}")
    assert "is a Sightline checkpoint already" in refusal(tmp_path / "empty", ours, capsys)
    assert 'template: found "nonsense"' in refusal(source, ours, capsys, "--template", "nonsense")
    assert "--vision: no directory /nowhere" in refusal(source, ours, capsys, "--vision", "/nowhere")


def test_a_directory_with_other_things_in_it_is_not_overwritten(source: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "diary.txt").write_text("dear")
    assert run(partial(app, args=["import", str(source), str(tmp_path / "ours")])) == 2
    assert "diary.txt" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["diary.txt"]


def test_the_account_is_printed_as_lines_and_as_json(source: Path, tmp_path: Path, capsys: Captured) -> None:
    assert run(partial(app, args=["import", str(source), str(tmp_path / "a")])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "tensors used: 25 from checkpoint, 55 from vision; made: 0; not used: 0"
    assert run(partial(app, args=["import", str(source), str(tmp_path / "b"), "--json"])) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["used"], found["template"]) == ({"checkpoint": 25, "vision": 55}, "vicuna_v1")
