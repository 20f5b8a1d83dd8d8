"""A run's encoder apart from its steps: equal bits in any company, and an origin that tells all that matters apart."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest
import torch

from sightline.data.image import open_image
from sightline.data.processor import picture_name
from sightline.recipe import Recipe
from sightline.train.assemble import assemble_model, assemble_processor
from sightline.train.device import choose_dtype, place
from sightline.train.encoding import AT_ONCE, Encoding, Picture, median_seconds
from sightline.train.parts import freeze
from tests.train.small_run import align_recipe, instruct_recipe, make_world

CPU = torch.device("cpu")


def encoding_of(recipe: Recipe, *, workers: int = 0) -> Encoding:
    processor = assemble_processor(recipe)
    model = assemble_model(recipe, processor)
    freeze(model, recipe.train.lr)
    dtype = choose_dtype(recipe.train.precision, CPU)
    place(model, device=CPU, dtype=dtype)
    return Encoding(vision=model.vision, processor=processor, device=CPU, dtype=dtype, workers=workers)


def pictures_of(world: Path) -> list[Picture]:
    root = world / "pictures"
    return [Picture(picture_name(path.name, root), root, path.name) for path in sorted(root.iterdir())]


@pytest.fixture(scope="module")
def own_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("workers", [0, 1])
def test_each_picture_comes_with_its_digest_and_what_the_encoder_makes_of_it(own_world: Path, workers: int) -> None:
    encoding = encoding_of(align_recipe(own_world, own_world / "none"), workers=workers)
    pictures = pictures_of(own_world)
    gone = Picture("gone", own_world / "pictures", "gone.png")
    found = [
        (picture, digest, features)
        for some, digests, several in encoding.all_features([*pictures, gone])
        for picture, digest, features in zip(some, digests, several, strict=True)
    ]
    assert [picture for picture, _, _ in found] == pictures
    digests = encoding.digests([gone, *pictures])
    assert "gone" not in digests
    for picture, digest, features in found:
        content = (picture.root / picture.path).read_bytes()
        assert digest == hashlib.sha256(content).digest() == digests[picture.name]
        expected = encoding.vision(encoding.processor.pixels([open_image(content)]))[0]
        assert features.shape == expected.shape == encoding.shape
        assert torch.equal(features, expected)


def test_the_pictures_encoded_together_on_a_gpu_are_always_as_many(own_world: Path) -> None:
    encoding = encoding_of(align_recipe(own_world, own_world / "none"))
    assert encoding.at_once == 1
    shapes: list[torch.Size] = []

    class Gpu(Encoding):
        __slots__ = ()

        @property
        def at_once(self) -> int:
            return AT_ONCE

    def see(module: object, inputs: tuple[torch.Tensor]) -> None:
        shapes.append(inputs[0].shape)

    together = Gpu(vision=encoding.vision, processor=encoding.processor, device=CPU, dtype=torch.float32, workers=0)
    with torch.no_grad():
        encoding.vision.register_forward_pre_hook(see)  # type: ignore[arg-type]
    groups = list(together.all_features(pictures_of(own_world) * 3))
    assert [len(some) for some, _, _ in groups] == [16, 8]
    assert {tuple(shape) for shape in shapes} == {(AT_ONCE, 3, 32, 32)}
    assert torch.equal(groups[0][2][:8], groups[0][2][8:])
    assert torch.equal(groups[0][2][:8], groups[1][2])


def test_features_have_the_type_of_the_encoders_weights(own_world: Path) -> None:
    encoding = encoding_of(align_recipe(own_world, own_world / "none", train={"precision": "bf16"}))
    assert encoding.features(torch.zeros(1, 3, 32, 32)).dtype == torch.bfloat16


# ---- the origin ------------------------------------------------------------------------------------------------------


def test_the_same_encoder_has_the_same_origin_in_both_stages(own_world: Path, aligned: Path) -> None:
    first = encoding_of(align_recipe(own_world, own_world / "none"))
    second = encoding_of(instruct_recipe(own_world, own_world / "none", start=aligned, image_policy="crop"))
    assert first.origin() == second.origin()


def test_what_the_features_depend_on_changes_the_origin(own_world: Path) -> None:
    recipe = align_recipe(own_world, own_world / "none")
    parts = {"vision": str(own_world / "vision"), "language": str(own_world / "language")}
    origins = [
        encoding_of(changed).origin()
        for changed in (
            recipe,
            align_recipe(own_world, own_world / "none", image_policy="pad"),
            align_recipe(own_world, own_world / "none", model={**parts, "vision_layer": -1}),
            align_recipe(own_world, own_world / "none", model={**parts, "vision_select": "cls_patch"}),
            align_recipe(own_world, own_world / "none", train={"precision": "bf16"}),
        )
    ]
    trained = encoding_of(recipe)
    used = sorted(trained.vision.used_parameters)
    with torch.no_grad():
        trained.vision.backbone.get_parameter(used[0]).view(-1)[3].add_(1e-3)
    origins.append(trained.origin())
    for number, one in enumerate(origins):
        assert one not in origins[:number]


def test_weights_above_the_layer_do_not_change_the_origin(own_world: Path) -> None:
    encoding = encoding_of(align_recipe(own_world, own_world / "none"))
    before = encoding.origin()
    unused = [name for name, _ in encoding.vision.backbone.named_parameters()]
    unused = [name for name in unused if name not in encoding.vision.used_parameters]
    assert unused
    with torch.no_grad():
        for name in unused:
            encoding.vision.backbone.get_parameter(name).add_(1)
    assert encoding.origin() == before


# ---- times -----------------------------------------------------------------------------------------------------------


def test_a_median_of_many_trials_or_of_three_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def median(*seconds: float) -> float:
        def trial(number: int) -> None:
            clock[0] += seconds[number]

        return median_seconds(trial, range(len(seconds)))

    assert median(0.1, 0.5, 0.2, 0.2, 0.3) == pytest.approx(0.2)
    assert median(2, 1, 3, 9, 9, 9, 9) == pytest.approx(2)
    assert median(4, 2) == pytest.approx(3)


def test_each_time_is_of_a_picture_and_workers_share_the_opening(own_world: Path) -> None:
    encoding = encoding_of(align_recipe(own_world, own_world / "none"))
    hashing, encoded = encoding.seconds(pictures_of(own_world))
    assert 0 < hashing < encoded
