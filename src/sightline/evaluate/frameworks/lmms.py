"""What lmms-eval finds under the entry point `lmms_eval.models`.

Comes in: nothing. Goes out: the manifest that names our model class. Imports lmms-eval when it is asked, and no torch.
"""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """The `ModelManifest` of lmms-eval (0.7) for `--model sightline`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="sightline", simple_class_path="sightline.evaluate.frameworks.lmms_model.SightlineModel"
    )
