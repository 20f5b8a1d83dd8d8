"""Adapters on a language model in four bits: what is packed, what trains, what is saved. Needs the extra `qlora`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from sightline.errors import ConfigError
from sightline.infer.load import load
from sightline.train import run as run_module
from sightline.train.loop import train
from tests.train.small_run import STEPS, instruct_recipe, prepared, result_hashes, trained

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes (the extra qlora) is not installed"
)
SETTINGS: dict[str, Any] = {"quantize": "nf4", "lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}


def test_a_missing_library_is_one_line_before_any_data_is_read(
    world: Path, aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr(run_module, "read_sources", lambda *arguments, **options: pytest.fail("data was read"))
    with pytest.raises(ConfigError, match=r"train\.quantize: bitsandbytes is not installed; .*\[qlora\]") as caught:
        prepared(instruct_recipe(world, tmp_path / "run", start=aligned, train=SETTINGS))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@needs_library
def test_adapters_and_connector_train_and_the_packed_weights_do_not(world: Path, aligned: Path, tmp_path: Path) -> None:
    run = prepared(instruct_recipe(world, tmp_path / "run", start=aligned, train={**SETTINGS, "steps": 3}))
    before = {name: value.detach().clone() for name, value in run.model.named_parameters()}
    assert {value.dtype for name, value in before.items() if "q_proj.base_layer" in name} == {torch.uint8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.train.loop.finish", lambda run, model: None)
        train(run, quiet=True)
    moved = {name for name, value in run.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if ".lora_" in name or name.startswith("connector.")}


@needs_library
def test_the_checkpoint_is_the_base_in_full_precision_with_the_adapters_merged(
    world: Path, aligned: Path, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "lr": {"language": 1e-2, "connector": 1e-2}, "gradient_checkpointing": True}
    found = trained(instruct_recipe(world, tmp_path / "run", start=aligned, train=settings))
    merged, processor = load(found)
    base, _ = load(aligned)
    ids = torch.tensor([processor.tokenizer("Is it safe?")["input_ids"]])
    with torch.no_grad():
        plain = base.language(ids).logits
        base.language = PeftModel.from_pretrained(base.language, str(found / "lora")).eval()
        torch.testing.assert_close(merged.language(ids).logits, base.language(ids).logits, rtol=1e-5, atol=1e-5)
        assert (merged.language(ids).logits - plain).abs().max() > 1e-3
    assert not torch.equal(merged.connector[0].weight, base.connector[0].weight)


@needs_library
def test_a_frozen_language_model_may_be_packed_while_the_connector_trains(
    world: Path, aligned: Path, tmp_path: Path
) -> None:
    settings = {"quantize": "nf4", "lr": {"connector": 1e-2}}
    merged, _ = load(trained(instruct_recipe(world, tmp_path / "run", start=aligned, train=settings)))
    base, _ = load(aligned)
    weights = base.language.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in merged.language.state_dict().items())
    assert not torch.equal(merged.connector[0].weight, base.connector[0].weight)


@needs_library
def test_a_resumed_run_ends_with_the_same_bytes(world: Path, aligned: Path, tmp_path: Path) -> None:
    whole = trained(instruct_recipe(world, tmp_path / "whole", start=aligned, train=SETTINGS))
    output = trained(instruct_recipe(world, tmp_path / "resumed", start=aligned, train=SETTINGS))
    for name in (f"checkpoints/step-{STEPS:08d}", "finished.json"):
        target = output / name
        if target.is_dir():
            for file in target.iterdir():
                file.unlink()
            target.rmdir()
        else:
            target.unlink()
    assert result_hashes(trained(instruct_recipe(world, output, start=aligned, train=SETTINGS))) == result_hashes(whole)
