"""A language model in eight or four bits: what is packed, and how far it stays the same. Needs the extra `qlora`."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from torch import nn

from sightline.errors import ConfigError
from sightline.model.quantize import SCHEMES, Scheme, full_size, import_bitsandbytes, quantize_language, scheme_of
from tests.fakes import tiny_language

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes (the extra qlora) is not installed"
)
CPU = torch.device("cpu")


@needs_library
@pytest.mark.parametrize("language_family", ["llama", "qwen2"])
@pytest.mark.parametrize(("scheme", "kept", "far"), [("int8", torch.int8, 0.05), ("nf4", torch.uint8, 0.5)])
def test_linear_layers_are_packed_and_nothing_else(
    scheme: Scheme, kept: torch.dtype, far: float, language_family: str
) -> None:
    language, plain = tiny_language(language_family), tiny_language(language_family)
    quantize_language(language, scheme, device=CPU, dtype=torch.float32, key="--quantize")
    sizes = {name: full_size(parameter) for name, parameter in language.named_parameters()}
    assert sizes == {name: parameter.numel() for name, parameter in plain.named_parameters()}
    packed = {name for name, parameter in language.named_parameters() if parameter.dtype == kept}
    linear = {f"{name}.weight" for name, module in plain.named_modules() if isinstance(module, nn.Linear)}
    assert packed == linear - {"lm_head.weight"}
    ids = torch.tensor([[1, 5, 6, 7]])
    with torch.inference_mode():
        found, wanted = language(ids).logits, plain(ids).logits
    assert found.dtype == torch.float32
    assert 0 < (found - wanted).abs().max() < far * wanted.abs().max()


@needs_library
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_model_without_linear_layers_is_refused(scheme: Scheme) -> None:
    class Nothing(nn.Module):
        def get_output_embeddings(self) -> None:
            return None

    with pytest.raises(ConfigError, match=r"train\.quantize: Nothing has no linear layers"):
        quantize_language(Nothing(), scheme, device=CPU, dtype=torch.float32, key="train.quantize")


def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"^--quantize: bitsandbytes is not installed; .*\[qlora\]"):
        import_bitsandbytes("--quantize")


def test_a_scheme_is_known_by_its_name_and_a_typo_gets_a_hint() -> None:
    assert [scheme_of(name, key="--quantize") for name in SCHEMES] == list(SCHEMES)
    with pytest.raises(ConfigError, match=r'^--quantize: "nf5" is none of int8, nf4; did you mean "nf4"\?$'):
        scheme_of("nf5", key="--quantize")
