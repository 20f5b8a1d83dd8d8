"""Which mean and standard deviation an encoder's pixels get: its own file's, else those published for its kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.data.normalisation import CLIP, HALF, IMAGENET, PUBLISHED, image_normalisation
from sightline.errors import ConfigError
from tests.fakes import VISION_FAMILIES

OWN = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 0.5, 0.25]}


def write(directory: Path, settings: Any) -> str:
    (directory / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(directory)


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("clip_vision_model", CLIP),
        ("siglip_vision_model", HALF),
        ("vit", HALF),
        ("dinov2", IMAGENET),
        ("dinov2_with_registers", IMAGENET),
        ("something_new", CLIP),
    ],
)
def test_an_encoder_without_a_file_gets_what_its_kind_was_trained_with(model_type: str, expected: object) -> None:
    assert image_normalisation(None, model_type=model_type) == expected


def test_the_published_numbers_are_those_of_the_original_code() -> None:
    assert CLIP[0] == (0.48145466, 0.4578275, 0.40821073)
    assert CLIP[1] == (0.26862954, 0.26130258, 0.27577711)
    assert HALF == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert IMAGENET == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert set(PUBLISHED) <= {options["model_type"] for options in VISION_FAMILIES.values()}


def test_the_encoders_own_file_decides(tmp_path: Path) -> None:
    found = image_normalisation(write(tmp_path, OWN), model_type="clip_vision_model")
    assert found == ((0.1, 0.2, 0.3), (1.0, 0.5, 0.25))


def test_what_the_file_leaves_out_is_the_published_value(tmp_path: Path) -> None:
    source = write(tmp_path, {"image_mean": OWN["image_mean"]})
    assert image_normalisation(source, model_type="siglip_vision_model") == ((0.1, 0.2, 0.3), HALF[1])


def test_a_directory_without_the_file_is_as_none(tmp_path: Path) -> None:
    assert image_normalisation(str(tmp_path), model_type="dinov2") == IMAGENET


@pytest.mark.parametrize("value", [[0.5, 0.5], [0.5, 0.5, "0.5"], 0.5, {"r": 1}, [0.5] * 4])
def test_a_value_that_is_no_triple_is_refused_with_its_key(tmp_path: Path, value: object) -> None:
    source = write(tmp_path, {**OWN, "image_std": value})
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json: image_std: found .*, expected three numbers"):
        image_normalisation(source, model_type="clip_vision_model")
