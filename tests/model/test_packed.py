"""Packed rows: a sample's logits, loss and gradient are those that it has alone, in every family that can."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from sightline.model.packed import (
    NAME,
    band,
    in_autocast_type,
    packed_attention,
    packing_arguments,
    use_packed_attention,
    usual_attention,
)
from tests.fakes import LANGUAGE_FAMILIES, VOCABULARY, distance, flat_gradient, language_config, tiny_language

LENGTHS = (7, 1, 130, 19)


def rows(lengths: tuple[int, ...]) -> tuple[Tensor, dict[str, Any]]:
    ids = torch.randint(3, VOCABULARY, (1, sum(lengths)), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    return ids, {"position_ids": positions, "use_cache": False, **packing_arguments(lengths)}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", [*LANGUAGE_FAMILIES, "sliding", "gemma3_text", "gpt2", "gpt_neox", "phi"])
def test_logits_and_gradients_of_a_row_are_those_of_its_samples_alone(family: str, checkpointing: bool) -> None:
    """One sample of 130 tokens is longer than gemma2's window of 64 and the sliding mistral's of 16."""
    packed, alone = made(family), made(family)
    assert use_packed_attention(packed) is None
    packed.train()
    alone.train()
    if checkpointing:
        packed.gradient_checkpointing_enable()
    ids, arguments = rows(LENGTHS)
    together = packed(input_ids=ids, **arguments).logits[0]
    separate = torch.cat([alone(input_ids=one, use_cache=False).logits[0] for one in ids.split(LENGTHS, dim=1)])
    torch.testing.assert_close(together, separate, rtol=1e-4, atol=1e-5)
    weights = torch.randn(together.shape, generator=torch.Generator().manual_seed(1))
    (together * weights).sum().backward()
    (separate * weights).sum().backward()
    assert distance(flat_gradient(packed), flat_gradient(alone)) < 1e-5


def made(family: str) -> Any:
    if family in LANGUAGE_FAMILIES:
        return tiny_language(family)
    if family == "sliding":
        return tiny_language("mistral", sliding_window=16)
    options = {"gemma3_text": {"head_dim": 8, "sliding_window": 16}, "phi": {"num_key_value_heads": 4}}.get(family, {})
    if family == "gpt2":
        options = {"n_embd": 32, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0}
    config = AutoConfig.for_model(**(language_config("llama") | {"model_type": family} | options))
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def test_a_neighbor_changes_nothing_even_where_it_is_changed_itself() -> None:
    model = tiny_language("llama")
    assert use_packed_attention(model) is None
    ids, arguments = rows((5, 6, 4))
    before = model(input_ids=ids, **arguments).logits[0]
    ids[0, 5:11] = 50
    after = model(input_ids=ids, **arguments).logits[0]
    assert torch.equal(before[:5], after[:5])
    assert torch.equal(before[11:], after[11:])
    assert not torch.allclose(before[5:11], after[5:11])


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("bloom", "samples in one row change each other's logits by "),
        ("mamba", "samples in one row change each other's logits by "),
        ("stablelm", "StableLmAttention is not given the samples' lengths"),
        ("gpt_oss", "GptOssAttention has an attention of its own (s_aux)"),
        ("qwen2_moe", "Qwen2MoeAttention has a window that its mask alone knows"),
        ("phimoe", "PhimoeAttention has a window that its mask alone knows"),
    ],
)
def test_a_model_that_cannot_is_found_out_and_left_as_it_was(family: str, why: str) -> None:
    experts = {"moe_intermediate_size": 16, "num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 1}
    options = {
        "gpt_oss": {"head_dim": 8},
        "qwen2_moe": {"use_sliding_window": True, "sliding_window": 16, **experts},
        "phimoe": {"sliding_window": 16, **experts},
    }.get(family, {})
    config = AutoConfig.for_model(**(language_config("llama") | {"model_type": family} | options))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ids = torch.arange(3, 9)[None]
    model.eval()
    before = model(input_ids=ids).logits
    fault = use_packed_attention(model)
    assert fault is not None
    assert fault.startswith(why)
    assert model.config._attn_implementation != NAME
    assert torch.equal(model(input_ids=ids).logits, before)


def test_a_model_whose_window_is_switched_off_is_packed() -> None:
    experts = {"moe_intermediate_size": 16, "num_experts": 2, "num_experts_per_tok": 1}
    config = AutoConfig.for_model(**(language_config("llama") | {"model_type": "qwen2_moe"} | experts))
    assert use_packed_attention(AutoModelForCausalLM.from_config(config)) is None


def test_queries_and_keys_of_full_precision_take_the_type_of_the_arithmetic() -> None:
    """As they are where the weights train, which are kept in fp32: kernels for rows take no such mixture."""
    query, key, value = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4, dtype=torch.bfloat16)
    assert [one.dtype for one in in_autocast_type(query, value)] == [torch.float32, torch.bfloat16]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {one.dtype for one in in_autocast_type(query, key, value)} == {torch.bfloat16}
        output, _ = packed_attention(torch.nn.Module(), query, key, value, None, segment_lengths=(1, 2))
    assert output.dtype == torch.bfloat16


def test_the_rounding_of_half_precision_is_no_neighbor() -> None:
    """Forty layers whose logits depend on the shape of their products by more than a hundredth."""
    model = tiny_language("llama", num_hidden_layers=40)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    model.to(torch.bfloat16)
    assert use_packed_attention(model) is None


def test_a_row_without_lengths_is_refused_not_mixed() -> None:
    model = tiny_language("llama")
    assert use_packed_attention(model) is None
    with pytest.raises(NotImplementedError, match="not given the samples' lengths"):
        model(input_ids=torch.arange(3, 9)[None])


@pytest.mark.parametrize("family", [*LANGUAGE_FAMILIES, "sliding", "gpt2"])
@pytest.mark.parametrize("adapted", [False, True])
def test_a_packed_model_can_answer_as_it_would_have_before(family: str, adapted: bool) -> None:
    model = made(family).eval()
    loaded_with = model.config._attn_implementation
    ids, arguments = rows((5, 9))
    expected = model(input_ids=ids, use_cache=True)
    if adapted:  # adapters begin as nothing
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).eval()
    with usual_attention(model):
        assert model.config._attn_implementation == loaded_with
    assert use_packed_attention(model) is None
    packed = model(input_ids=ids, **arguments).logits
    with usual_attention(model):
        assert model.config._attn_implementation == loaded_with
        found = model(input_ids=ids, use_cache=True)
        torch.testing.assert_close(found.logits, expected.logits)
        second = [model(input_ids=ids[:, :1], past_key_values=each.past_key_values) for each in (found, expected)]
    torch.testing.assert_close(second[0].logits, second[1].logits)
    assert model.config._attn_implementation == NAME
    assert torch.equal(model(input_ids=ids, **arguments).logits, packed)


def test_adapters_of_peft_are_packed_too() -> None:
    language = get_peft_model(tiny_language("llama"), LoraConfig(r=2, target_modules="all-linear", lora_dropout=0.0))
    assert use_packed_attention(language) is None
    ids, arguments = rows((4, 9))
    alone = get_peft_model(tiny_language("llama"), LoraConfig(r=2, target_modules="all-linear", lora_dropout=0.0))
    separate = torch.cat([alone(input_ids=one).logits[0] for one in ids.split((4, 9), dim=1)])
    torch.testing.assert_close(language(input_ids=ids, **arguments).logits[0], separate, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "window", "expected"),
    [
        (1, 1, [[1]]),
        (3, 3, [[1, 0, 0], [1, 1, 0], [1, 1, 1]]),
        (3, 9, [[1, 0, 0], [1, 1, 0], [1, 1, 1]]),
        (4, 2, [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]),
        (3, 1, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    ],
)
def test_a_query_sees_itself_and_the_window_before_it(length: int, window: int, expected: list[list[int]]) -> None:
    assert band(length, window, device=torch.device("cpu")).int().tolist() == expected


def test_no_mask_over_the_row_is_ever_built(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = torch.nn.functional.scaled_dot_product_attention

    def watch(query: Tensor, *others: Any, **options: Any) -> Tensor:
        seen.append((query.shape[2], options.get("attn_mask")))
        return original(query, *others, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
    model = tiny_language("llama")
    assert use_packed_attention(model) is None
    ids, arguments = rows(LENGTHS)
    seen.clear()
    model(input_ids=ids, **arguments)
    assert seen == [(length, None) for _ in range(2) for length in LENGTHS]


def test_a_bidirectional_attention_is_not_taken_for_a_causal_one() -> None:
    module = torch.nn.Module()
    module.is_causal = False  # type: ignore[assignment]
    tensor = torch.zeros(1, 2, 4, 8)
    with pytest.raises(NotImplementedError, match="an attention of its own"):
        packed_attention(module, tensor, tensor, tensor, None, segment_lengths=(4,))
