"""Freezes and adapts the parts as the recipe says.

Comes in: a model, learning rates by part, perhaps a LoRA. Goes out: the same model, in which exactly the parts with a
rate train. Does not know stages: a part without a rate is frozen, that is all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model

from sightline.errors import ConfigError
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import LoraSpec, PartName, TrainSpec


def freeze(model: VisionLanguageModel, rates: Mapping[PartName, float]) -> None:
    """Parameters of a part require gradients if and only if the part has a rate."""
    for name, part in model.parts().items():
        part.requires_grad_(name in rates)
        if name in rates and not any(True for _ in part.parameters()):
            raise ConfigError(f"train.lr.{name}: the {name} has no parameters to train; remove it")


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


def merge_lora(model: VisionLanguageModel, adapter: Path) -> None:
    """Saves the adapter in peft's format, then melts it into the language model, whose names are plain again."""
    assert isinstance(model.language, PeftModel)
    model.language.save_pretrained(str(adapter))
    model.language = model.language.merge_and_unload()


def set_modes(model: VisionLanguageModel, settings: TrainSpec) -> None:
    """Training mode for what trains; a frozen part answers as it will later, without dropout.

    A frozen language model is in training mode all the same when it recomputes activations: transformers recomputes in
    that mode alone.
    """
    for name, part in model.parts().items():
        part.train(name in settings.lr or (name == "language" and settings.gradient_checkpointing))
