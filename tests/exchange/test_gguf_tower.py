"""Tower and connector in llama.cpp's words and back."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import gelu, linear

from sightline.exchange.gguf_tower import our_projector, our_tower_tensor, through_gelu, tower_config, tower_keys
from sightline.exchange.gguf_tower import tower_tensors as written
from sightline.model.checkpoint import checkpoint_tensors
from tests.fakes import tiny_model

MEAN = STD = (0.5, 0.5, 0.5)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_a_linear_layer_passes_through_a_gelu_unchanged(approximate: str) -> None:
    noise = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(5, 3, generator=noise).double(), torch.randn(5, generator=noise).double()
    inputs = 4 * torch.randn(100, 3, generator=noise).double()
    layers = through_gelu(weight, bias)
    hidden = gelu(linear(inputs, layers["mm.0.weight"], layers["mm.0.bias"]), approximate=approximate)
    found = linear(hidden, layers["mm.2.weight"], layers["mm.2.bias"])
    torch.testing.assert_close(found, linear(inputs, weight, bias), atol=1e-12, rtol=0)


@pytest.mark.parametrize("connector", ["linear", "mlp2x_gelu"])
@pytest.mark.parametrize("vision", ["clip", "siglip"])
def test_tensors_go_there_and_back(vision: str, connector: str) -> None:
    model = tiny_model(vision, connector=connector)
    ours, _ = checkpoint_tensors(model)
    theirs = dict(written(ours.items(), model.vision, connector))
    projector = our_projector(theirs, connector)
    back = projector | dict(our_tower_tensor(name, t) for name, t in theirs.items() if not name.startswith("mm."))
    assert back.keys() <= ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in back)
    missing = {name for name in ours.keys() - back.keys() if not name.startswith("language_model.")}
    used = {f"vision_tower.vision_model.{name}" for name in model.vision.used_parameters}
    assert not missing & used
    assert all(name.startswith("vision_tower.") for name in missing)


@pytest.mark.parametrize(("layer", "blocks"), [(-2, 2), (-1, 3), (1, 1)])
def test_only_the_layers_that_run_are_written(layer: int, blocks: int) -> None:
    model = tiny_model("clip", layer=layer)
    ours, _ = checkpoint_tensors(model)
    names = dict(written(ours.items(), model.vision, "mlp2x_gelu"))
    assert {name.split(".")[2] for name in names if name.startswith("v.blk.")} == {str(i) for i in range(blocks)}
    keys = tower_keys(model.vision, language_width=32, mean=MEAN, std=STD)
    assert (keys["clip.vision.block_count"], keys["clip.vision.feature_layer"]) == (blocks, [blocks])


def test_the_activation_is_said_where_it_is_not_clips() -> None:
    def activation(vision: str) -> set[str]:
        keys = tower_keys(tiny_model(vision).vision, language_width=32, mean=MEAN, std=STD)
        return {key for key in keys if key.startswith("clip.use_")}

    assert activation("clip") == set()
    assert activation("siglip") == {"clip.use_gelu"}


@pytest.mark.parametrize("vision", ["clip", "siglip"])
def test_a_configuration_comes_back(vision: str) -> None:
    model = tiny_model(vision)
    ours, _ = checkpoint_tensors(model)
    names = dict(written(ours.items(), model.vision, "mlp2x_gelu"))
    keys = tower_keys(model.vision, language_width=32, mean=MEAN, std=STD)
    found, layer = tower_config(keys, names=names)
    config = model.vision.backbone.config
    for name in ("model_type", "hidden_size", "intermediate_size", "num_attention_heads", "image_size", "patch_size",
                 "layer_norm_eps", "hidden_act"):  # fmt: skip
        assert getattr(found, name) == getattr(config, name), name
    assert (layer, found.num_hidden_layers) == (2, 3)
