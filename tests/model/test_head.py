"""Between the last hidden states and the logits: which heads are plain products, and states at chosen positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from sightline.model.head import decoder, has_plain_head, states_at
from sightline.model.packed import use_packed_attention
from tests.fakes import LANGUAGE_FAMILIES, language_config, tiny_language


def made(family: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**(language_config("llama") | {"model_type": family} | options))
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", LANGUAGE_FAMILIES)
def test_a_head_is_plain_where_nothing_follows_the_product(family: str, packed: bool) -> None:
    model = tiny_language(family)
    if packed:
        assert use_packed_attention(model) is None
    assert has_plain_head(model.train()) is (family != "gemma2")
    assert model.training


@pytest.mark.parametrize(
    ("family", "options"), [("granite", {"logits_scaling": 1.001}), ("cohere", {"logit_scale": 0.999})]
)
def test_logits_that_are_scaled_however_little_are_not_plain(family: str, options: dict[str, float]) -> None:
    assert not has_plain_head(made(family, **options))


def test_a_head_with_a_bias_is_plain() -> None:
    model = made("phi", num_key_value_heads=4)
    assert model.lm_head.bias is not None
    assert has_plain_head(model)


def test_an_adapted_head_is_not_plain() -> None:
    assert not has_plain_head(get_peft_model(tiny_language("llama"), LoraConfig(r=2, target_modules=["lm_head"])))
    assert has_plain_head(get_peft_model(tiny_language("llama"), LoraConfig(r=2, target_modules="all-linear")))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", LANGUAGE_FAMILIES)
def test_states_at_chosen_positions_and_their_gradients_are_those_of_all(family: str, checkpointing: bool) -> None:
    ids = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(0))
    keep = torch.rand(2, 9, generator=torch.Generator().manual_seed(1)) < 0.4
    whole, chosen = tiny_language(family).train(), tiny_language(family).train()
    if checkpointing:
        chosen.gradient_checkpointing_enable()
    expected = decoder(whole)(input_ids=ids).last_hidden_state[keep]
    found = states_at(chosen, keep, input_ids=ids)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    for (name, one), (_, other) in zip(chosen.named_parameters(), whole.named_parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4, msg=name)


def test_the_last_layer_makes_keys_and_values_of_all_positions_and_all_else_of_the_chosen_alone() -> None:
    model = tiny_language("llama")
    seen: dict[str, list[int]] = {}
    for name, module in model.model.layers.named_modules():
        if isinstance(module, nn.Linear):
            found = seen.setdefault(name, [])
            module.register_forward_hook(lambda _, __, made, found=found: found.append(made.shape[:-1].numel()))
    keep = torch.tensor([[False, True, False, True, True]])
    states_at(model, keep, input_ids=torch.arange(5)[None])
    model(input_ids=torch.arange(5)[None])
    last = len(model.model.layers) - 1
    for name, (chosen, all_again) in seen.items():
        few = name.startswith(f"{last}.") and not name.endswith(("k_proj", "v_proj"))
        assert (chosen, all_again) == (3 if few else 5, 5), name


def test_a_layer_whose_mlp_gives_more_than_a_tensor_is_not_plain() -> None:
    class Routed(nn.Module):
        def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
            return hidden, hidden

    class Layer(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.mlp = inner, Routed()

        def forward(self, hidden: Tensor, *others: Any, **options: Any) -> Tensor:
            hidden, _ = self.mlp(self.inner(hidden, *others, **options))
            return hidden

    model = tiny_language("llama")
    model.model.layers[-1] = Layer(model.model.layers[-1])
    assert not has_plain_head(model)
