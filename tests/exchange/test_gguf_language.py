"""A language model in llama.cpp's words and back."""

from __future__ import annotations

import pytest
import torch

from sightline.exchange.gguf_language import (
    extra_tensors,
    interleave,
    language_config,
    language_keys,
    language_tensor,
    our_language_tensor,
    plain_frequencies,
    separate,
)
from tests.exchange.ours import LLAMA3_ROPE
from tests.fakes import tiny_language


@pytest.mark.parametrize(
    ("rows", "heads", "interleaved"),
    [
        ([0, 1, 2, 3], 1, [0, 2, 1, 3]),
        ([0, 1, 2, 3, 4, 5], 1, [0, 3, 1, 4, 2, 5]),
        ([0, 1, 2, 3, 4, 5, 6, 7], 2, [0, 2, 1, 3, 4, 6, 5, 7]),
        ([0, 1, 2, 3], 2, [0, 1, 2, 3]),
    ],
)
def test_rows_of_a_head_go_from_halves_to_pairs_and_back(rows: list[int], heads: int, interleaved: list[int]) -> None:
    biases = torch.tensor(rows)
    assert interleave(biases, heads).tolist() == interleaved
    assert separate(torch.tensor(interleaved), heads).tolist() == rows
    matrix = biases[:, None] * 10 + torch.arange(3)
    assert interleave(matrix, heads)[:, 0].tolist() == [row * 10 for row in interleaved]
    assert torch.equal(separate(interleave(matrix, heads), heads), matrix)


@pytest.mark.parametrize("family", ["llama", "llama_tied", "mistral", "qwen2", "qwen3"])
def test_names_go_there_and_back(family: str) -> None:
    model = tiny_language(family)
    for name, tensor in model.state_dict().items():
        theirs, changed = language_tensor(f"language_model.{name}", tensor, model.config)
        ours, back = our_language_tensor(theirs, changed, model.config)
        assert ours == f"language_model.{name}"
        assert torch.equal(back, tensor)


def test_only_llamas_queries_and_keys_are_interleaved() -> None:
    for family, changes in (("llama", True), ("mistral", True), ("qwen2", False), ("qwen3", False)):
        model = tiny_language(family)
        for name, tensor in model.state_dict().items():
            _, changed = language_tensor(f"language_model.{name}", tensor, model.config)
            is_changed = not torch.equal(changed, tensor)
            assert is_changed == (changes and name.endswith(("q_proj.weight", "k_proj.weight"))), (family, name)


def test_names_are_llama_cpps() -> None:
    """Those of gguf-py for the same tensors."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    for family, architecture in (("llama", "LLAMA"), ("qwen2", "QWEN2"), ("qwen3", "QWEN3")):
        model = tiny_language(family)
        known = get_tensor_name_map(MODEL_ARCH[architecture], model.config.num_hidden_layers)
        for name, tensor in model.state_dict().items():
            theirs, _ = language_tensor(f"language_model.{name}", tensor, model.config)
            assert theirs == known.get_name(name, try_suffixes=(".weight", ".bias"))


def test_the_context_of_a_window_ends_with_it() -> None:
    config = tiny_language("mistral", sliding_window=32).config
    assert language_keys(config, rows=96)["llama.context_length"] == 32
    assert language_keys(tiny_language("mistral").config, rows=96)["llama.context_length"] == 256


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_configuration_comes_back(family: str) -> None:
    config = tiny_language(family).config
    keys = language_keys(config, rows=config.vocab_size)
    architecture = "llama" if family == "mistral" else family
    found = language_config({"general.architecture": architecture, **keys}, tied=False, biases=[])
    for name in ("hidden_size", "num_key_value_heads", "rms_norm_eps", "vocab_size", "intermediate_size"):
        assert getattr(found, name) == getattr(config, name)
    assert found.rope_parameters["rope_theta"] == config.rope_parameters["rope_theta"]


def test_llama_3s_frequencies_are_a_tensor_of_divisors() -> None:
    model = tiny_language("llama", rope_parameters=LLAMA3_ROPE)
    ((name, factors),) = extra_tensors(model.config)
    assert name == "rope_freqs.weight"
    assert factors[0] == 1  # the fastest is left as it is
    assert factors[-1] == pytest.approx(8)  # the slowest by the whole factor
    torch.testing.assert_close(plain_frequencies(model.config) / factors, model.model.rotary_emb.inv_freq)
    assert list(extra_tensors(tiny_language("llama").config)) == []
