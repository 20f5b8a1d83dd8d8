"""Which weights change: those of the parts with a rate, and no others; adapters and their melting in."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from sightline.errors import ConfigError
from sightline.infer.load import load
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import PARTS, LoraSpec
from sightline.train.loop import train
from sightline.train.parts import add_lora, freeze, merge_lora
from tests.fakes import tiny_model, tiny_pixels, tiny_prompt
from tests.train.small_run import instruct_recipe, prepared, trained

SUBSETS = [subset for length in (1, 2, 3) for subset in itertools.combinations(PARTS, length)]
LORA = LoraSpec(rank=4, alpha=8, dropout=0.0)


def hashes(module: nn.Module, *, trained: bool) -> dict[str, str]:
    """SHA-256 of each parameter (or buffer) that trains, or that does not."""
    wanted = {name for name, parameter in module.named_parameters() if parameter.requires_grad == trained}
    buffers = set() if trained else {name for name, _ in module.named_buffers()}
    return {
        name: hashlib.sha256(value.detach().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, value in module.state_dict().items()
        if name in wanted | buffers
    }


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_a_part_changes_if_and_only_if_it_has_a_rate(subset: tuple[str, ...], world: Path, tmp_path: Path) -> None:
    rates = dict.fromkeys(subset, 1e-3)
    run = prepared(instruct_recipe(world, tmp_path / "run", start=None, train={"lr": rates, "steps": 3}))
    parts = run.model.parts()
    before = {name: (hashes(part, trained=False), hashes(part, trained=True)) for name, part in parts.items()}
    train(run, quiet=True)
    for name, part in parts.items():
        frozen, moved = before[name]
        assert hashes(part, trained=False) == frozen
        assert bool(moved) == (name in subset)
        after = hashes(part, trained=True)
        assert all(after[parameter] != moved[parameter] for parameter in moved), name
    # and the same on disk, read back by other code
    found, _ = load(run.directory)
    for name, part in found.parts().items():
        if name not in subset:
            for parameter, value in part.state_dict().items():
                assert torch.equal(value, parts[name].state_dict()[parameter])


def test_of_a_trained_encoder_everything_moves_that_the_features_depend_on(world: Path, tmp_path: Path) -> None:
    run = prepared(instruct_recipe(world, tmp_path / "run", start=None, train={"lr": {"vision": 1e-3}}))
    trained_names = {name for name, parameter in run.model.vision.named_parameters() if parameter.requires_grad}
    assert trained_names == {f"backbone.{name}" for name in run.model.vision.used_parameters}
    assert not any(".layers.2." in name for name in trained_names)  # layer -2 of three: the last is never run


def test_lora_leaves_the_language_model_itself_alone(world: Path, aligned: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"lora": {"rank": 4, "dropout": 0.1}, "steps": 3}
    run = prepared(instruct_recipe(world, tmp_path / "run", start=aligned, train=settings))
    adapters = {name for name, parameter in run.model.language.named_parameters() if parameter.requires_grad}
    assert adapters
    assert all(".lora_A." in name or ".lora_B." in name for name in adapters)
    frozen = {name: hashes(run.model.parts()[name], trained=False) for name in PARTS}
    moving = {name: hashes(run.model.parts()[name], trained=True) for name in ("connector", "language")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.train.loop.finish", lambda run, model: None)
        train(run, quiet=True)
    assert {name: hashes(run.model.parts()[name], trained=False) for name in PARTS} == frozen
    for name, before in moving.items():
        after = hashes(run.model.parts()[name], trained=True)
        assert all(after[parameter] != before[parameter] for parameter in before)


def logits(model: VisionLanguageModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(tiny_prompt(model), pixels=tiny_pixels(1))
    return found


@pytest.mark.parametrize("family", ["llama", "llama_tied", "qwen2", "phi3", "gemma"])
def test_a_merged_model_answers_as_the_adapters_did(family: str, tmp_path: Path) -> None:
    model = tiny_model("clip", family)
    plain, names = logits(model), set(model.state_dict())
    add_lora(model, LORA)
    assert torch.equal(logits(model), plain)  # B starts at zero
    with torch.no_grad():
        for name, parameter in model.language.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    adapted = logits(model)
    assert (adapted - plain).abs().max() > 1e-2
    merge_lora(model, tmp_path / "lora")
    torch.testing.assert_close(logits(model), adapted, rtol=1e-5, atol=1e-5)
    assert set(model.state_dict()) == names
    assert not isinstance(model.language, PeftModel)


def test_the_saved_adapter_on_the_start_gives_the_merged_checkpoint(world: Path, aligned: Path, tmp_path: Path) -> None:
    settings = {"lora": {"rank": 4, "alpha": 8}, "lr": {"language": 1e-2}, "steps": 4}
    found = trained(instruct_recipe(world, tmp_path / "run", start=aligned, train=settings))
    merged, processor = load(found)
    base, _ = load(aligned)
    ids = torch.tensor([processor.tokenizer("Is it safe?")["input_ids"]])
    with torch.no_grad():
        plain = base.language(ids).logits
        base.language = PeftModel.from_pretrained(base.language, str(found / "lora")).eval()
        adapted = base.language(ids).logits
        torch.testing.assert_close(merged.language(ids).logits, adapted, rtol=1e-5, atol=1e-5)
    assert (adapted - plain).abs().max() > 1e-3
    assert all("lora" in name for name in load_file(found / "lora" / "adapter_model.safetensors"))


def test_a_part_without_parameters_cannot_have_a_rate() -> None:
    model = tiny_model(connector="identity")
    with pytest.raises(ConfigError, match=r"train\.lr\.connector: .*no parameters to train"):
        freeze(model, {"connector": 1e-3})
    freeze(model, {"language": 1e-3})


@pytest.mark.parametrize("targets", ["nothing_like_it", "(", "*"])
def test_lora_targets_that_match_nothing_are_one_line(targets: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.lora\.targets") as caught:
        add_lora(tiny_model(), LoraSpec(targets=targets))
    assert "\n" not in str(caught.value)


def test_lora_targets_choose_the_modules() -> None:
    model = tiny_model()
    add_lora(model, LoraSpec(rank=2, targets=r".*\.(q|v)_proj"))
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[1] for name, _ in model.named_parameters() if ".lora_" in name}
    assert adapted == {"q_proj", "v_proj"}
