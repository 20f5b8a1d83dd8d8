"""The mean and standard deviation that an encoder's pixels are normalised with.

Comes in: where an encoder lies, and its model type. Goes out: two triples. Reads the encoder's own
`preprocessor_config.json`; knows the published values for encoders that come without one.
"""

from __future__ import annotations

from typing import Any

from transformers.models.auto.image_processing_auto import get_image_processor_config

from sightline.errors import ConfigError

Triple = tuple[float, float, float]

CLIP: tuple[Triple, Triple] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""OpenAI's CLIP (`clip/clip.py`, `_transform`)."""
HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""SigLIP and ViT (big_vision's `value_range(-1, 1)`)."""
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""DINOv2 (`dinov2/data/transforms.py`)."""

PUBLISHED = {
    "clip_vision_model": CLIP,
    "siglip_vision_model": HALF,
    "vit": HALF,
    "dinov2": IMAGENET,
    "dinov2_with_registers": IMAGENET,
}


def image_normalisation(source: str | None, *, model_type: str) -> tuple[Triple, Triple]:
    """Mean and standard deviation per channel, of pixels from 0 to 1.

    Args:
        source: directory or hub id of the encoder, or None when it is built from a configuration.
        model_type: what transformers calls the encoder; decides when there is no `preprocessor_config.json`. An
            unknown type is normalised as CLIP is.
    """
    published = PUBLISHED.get(model_type, CLIP)
    if source is None:
        return published
    try:
        settings: dict[str, Any] = get_image_processor_config(source)
    except (OSError, ValueError):
        settings = {}
    return (
        _triple(settings.get("image_mean"), published[0], source=source, key="image_mean"),
        _triple(settings.get("image_std"), published[1], source=source, key="image_std"),
    )


def _triple(found: Any, published: Triple, *, source: str, key: str) -> Triple:
    if found is None:
        return published
    if not isinstance(found, list) or len(found) != 3 or not all(isinstance(item, int | float) for item in found):
        raise ConfigError(f"{source}/preprocessor_config.json: {key}: found {found!r}, expected three numbers")
    return float(found[0]), float(found[1]), float(found[2])
