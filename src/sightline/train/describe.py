"""What a recipe is made of, in numbers.

Comes in: a recipe. Goes out: parameters per part, how many train, tokens per picture. Reads configurations alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from sightline.errors import ConfigError
from sightline.model.vision import VisionEncoder
from sightline.recipe import PARTS, Recipe
from sightline.train.assemble import assemble_parts_on_meta


def describe_recipe(
    recipe: Recipe, *, exports: Callable[[Mapping[str, nn.Module]], dict[str, str | None]] | None = None
) -> dict[str, Any]:
    """Counts without weights: the model is built on the meta device.

    Args:
        exports: says of the built parts, for each format of `sightline export`, why it cannot express them.

    Returns:
        `parts`: for each part its parameters, its rate (None: frozen), and what trains of it; `tokens_per_image`; and
        `exports`, if they were asked for.
    """
    built = assemble_parts_on_meta(recipe)
    rates = recipe.train.lr
    parts: dict[str, dict[str, Any]] = {}
    for name in PARTS:
        part = built[name]
        part.requires_grad_(name in rates)
        parts[name] = {
            "parameters": sum(parameter.numel() for parameter in part.parameters()),
            "trained": sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad),
            "lr": rates.get(name),
        }
    if recipe.train.lora is not None:
        parts["language"]["trained"] = lora_parameters(
            built["language"], rank=recipe.train.lora.rank, targets=recipe.train.lora.targets
        )
    encoder = built["vision"]
    assert isinstance(encoder, VisionEncoder)
    found = {"name": recipe.name, "parts": parts, "tokens_per_image": encoder.tokens_per_image}
    return found if exports is None else found | {"exports": exports(built)}


def table(found: dict[str, Any]) -> str:
    """The counts for people."""
    lines = [
        f"{found['name']}: {found['tokens_per_image']} tokens per picture",
        f"{'part':<12}{'parameters':>16}{'trained':>16}  lr",
    ]
    for name, part in found["parts"].items():
        rate = "frozen" if part["lr"] is None else f"{part['lr']:g}"
        lines.append(f"{name:<12}{part['parameters']:>16,}{part['trained']:>16,}  {rate}")
    if "exports" in found:
        obstacles = found["exports"]
        lines.append("exports to: " + ", ".join(name for name, reason in obstacles.items() if reason is None))
        lines += [f"not to {name}: {reason}" for name, reason in obstacles.items() if reason is not None]
    return "\n".join(lines)


def lora_parameters(language: Any, *, rank: int, targets: str) -> int:
    """Parameters of low-rank adapters: rank x (in + out) per adapted linear layer (Hu et al. 2021, section 4.1).

    Raises:
        ConfigError: `targets` is no regular expression.
    """
    head = language.get_output_embeddings()
    try:
        pattern = re.compile(targets)
    except re.error as error:
        raise ConfigError(f"train.lora.targets: {targets!r} is no regular expression: {error}") from error
    count = 0
    for name, module in language.named_modules():
        chosen = module is not head if targets == "all-linear" else pattern.fullmatch(name) is not None
        if isinstance(module, nn.Linear) and chosen:
            count += rank * (module.in_features + module.out_features)
    return count
