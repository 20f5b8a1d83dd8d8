"""Freezes the parts as the recipe says.

Comes in: a model, learning rates by part. Goes out: the same model, in which exactly the parts with a rate train. Does
not know stages: a part without a rate is frozen, that is all.
"""

from __future__ import annotations

from collections.abc import Mapping

from sightline.errors import ConfigError
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import PartName, TrainSpec


def freeze(model: VisionLanguageModel, rates: Mapping[PartName, float]) -> None:
    """Parameters of a part require gradients if and only if the part has a rate."""
    for name, part in model.parts().items():
        part.requires_grad_(name in rates)
        if name in rates and not any(True for _ in part.parameters()):
            raise ConfigError(f"train.lr.{name}: the {name} has no parameters to train; remove it")


def set_modes(model: VisionLanguageModel, settings: TrainSpec) -> None:
    """Training mode for what trains; a frozen part answers as it will later, without dropout.

    A frozen language model is in training mode all the same when it recomputes activations: transformers recomputes in
    that mode alone.
    """
    for name, part in model.parts().items():
        part.train(name in settings.lr or (name == "language" and settings.gradient_checkpointing))
