"""Adapters: what they train, that they answer and learn as peft's own, and their melting in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sightline.errors import ConfigError
from sightline.infer.load import load
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import PARTS, LoraSpec
from sightline.train.loop import train
from sightline.train.lora import add_lora, merge_lora
from tests.fakes import distance, flat_gradient, hashes, tiny_model, tiny_pixels, tiny_prompt
from tests.train.small_run import instruct_recipe, prepared, trained

LORA = LoraSpec(rank=4, alpha=8, dropout=0.0)
FAMILIES = ["llama", "llama_tied", "qwen2", "phi3", "gemma"]


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


def logits(model: VisionLanguageModel) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(tiny_prompt(model), pixels=tiny_pixels(1))
    return found


def moved(model: VisionLanguageModel) -> None:
    """Adapters as after some training: B starts at zero."""
    with torch.no_grad():
        for name, parameter in model.language.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))


def as_peft_does(model: VisionLanguageModel) -> None:
    for module in model.language.modules():
        if isinstance(module, LoraLayer):
            module.lora_variant.clear()


def learnt(model: VisionLanguageModel, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two rows' logits, and the gradient of a sum of them."""
    model.zero_grad(set_to_none=True)
    ids = torch.arange(24).view(2, 12)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        found: Tensor = model.language(input_ids=ids).logits
    (found.float() * torch.linspace(-1, 1, found.numel()).view_as(found)).sum().backward()  # type: ignore[no-untyped-call]
    return found.detach(), flat_gradient(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_answer_and_learn_as_pefts_own(family: str, dtype: torch.dtype) -> None:
    """Also where a projection has a bias (Qwen 2), and where the frozen weights are in half precision."""
    model = tiny_model("clip", family)
    model.language.to(dtype)
    add_lora(model, LORA)
    moved(model)
    for name, parameter in model.language.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
    ours = learnt(model, dtype)
    as_peft_does(model)
    theirs = learnt(model, dtype)
    allowed = 1e-6 if dtype == torch.float32 else 2e-2
    assert [distance(*pair) < allowed for pair in zip(ours, theirs, strict=True)] == [True, True]


def test_adapters_of_another_precision_than_the_activations_answer_as_pefts_own() -> None:
    model = tiny_model()
    model.language.to(torch.bfloat16)
    add_lora(model, LORA)
    moved(model)
    for name, parameter in model.language.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
    ids = torch.arange(12)[None]
    with torch.no_grad():
        ours = model.language(input_ids=ids).logits
        as_peft_does(model)
        assert torch.equal(ours, model.language(input_ids=ids).logits)


class Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Holds the storages of what operations give."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storages: dict[int, torch.UntypedStorage] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.storages[result.untyped_storage().data_ptr()] = result.untyped_storage()
        return result


def test_an_adapter_makes_no_tensor_of_the_size_of_what_it_is_added_to() -> None:
    model = tiny_model()
    add_lora(model, LoraSpec(rank=4, alpha=8, dropout=0.0, targets=r".*\.gate_proj"))
    adapted = next(module for module in model.language.modules() if isinstance(module, LoraLayer))
    hidden = torch.randn(1, 11, 32)
    with Made() as made:
        adapted(hidden)
    there = {value.untyped_storage().data_ptr() for value in (hidden, *adapted.parameters())}
    found = sorted(storage.nbytes() for place, storage in made.storages.items() if place not in there)
    assert found == [4 * 11 * 4, 4 * 11 * 48]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_model_answers_as_the_adapters_did(family: str, tmp_path: Path) -> None:
    model = tiny_model("clip", family)
    plain, names = logits(model), set(model.state_dict())
    add_lora(model, LORA)
    assert torch.equal(logits(model), plain)  # B starts at zero
    moved(model)
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
