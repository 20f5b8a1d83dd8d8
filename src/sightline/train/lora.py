"""Low-rank adapters on the language model, through peft (Hu et al. 2021): put on, saved, melted in.

Comes in: a model, the recipe's `lora`. Goes out: the same model, whose language model is frozen and adapted, or plain
again. Of peft's own arithmetic one sum is replaced: see `_AddedInPlace`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear, LoraLayer
from peft.tuners.lora.layer import LoraVariant
from torch import Tensor
from torch.nn import functional

from sightline.errors import ConfigError
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import LoraSpec


class _AddedInPlace(LoraVariant):  # type: ignore[misc]
    """x W + s (x A) B, added up where x W lies.

    peft makes three more tensors of that size, and its backward pass one (0.21, `lora.Linear.forward`): at rank 32 they
    cost more time than the products of the adapter, and the heap keeps their places (docs/performance.md).
    """

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """x and result: [B, T, in] and [B, T, out]."""
        low: Tensor = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))
        up: Tensor = module.lora_B[active_adapter].weight
        scaling: float = module.scaling[active_adapter]
        if low.dtype != result.dtype or low.ndim != 3:
            return result + functional.linear(low, up) * scaling
        factor = up.to(low.dtype).t().expand(len(low), -1, -1)
        return result.baddbmm_(low, factor, alpha=scaling)


def add_lora(model: VisionLanguageModel, spec: LoraSpec) -> None:
    """Wraps the language model: its own weights are frozen, the adapters train."""
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=spec.targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        model.language = get_peft_model(model.language, config)
    except (ValueError, re.error) as error:
        raise ConfigError(f"train.lora.targets: {spec.targets!r} matches no module of the language model") from error
    for module in model.language.modules():
        if type(module) is Linear:  # those of quantised matrices have their own way
            module.lora_variant.update(dict.fromkeys(module.active_adapters, _AddedInPlace()))


def merge_lora(model: VisionLanguageModel, adapter: Path) -> None:
    """Saves the adapter in peft's format, then melts it into the language model, whose names are plain again."""
    assert isinstance(model.language, PeftModel)
    for module in model.language.modules():
        if isinstance(module, LoraLayer):
            module.lora_variant.clear()  # merging knows peft's own alone
    model.language.save_pretrained(str(adapter))
    model.language = model.language.merge_and_unload()
