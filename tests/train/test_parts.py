"""Which weights change: those of the parts with a rate, and no others."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from sightline.errors import ConfigError
from sightline.infer.load import load
from sightline.recipe import PARTS
from sightline.train.loop import train
from sightline.train.parts import freeze
from tests.fakes import hashes, tiny_model
from tests.train.small_run import instruct_recipe, prepared

SUBSETS = [subset for length in (1, 2, 3) for subset in itertools.combinations(PARTS, length)]


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_a_part_changes_if_and_only_if_it_has_a_rate(subset: tuple[str, ...], world: Path, tmp_path: Path) -> None:
    rates = dict.fromkeys(subset, 1e-3)
    run = prepared(instruct_recipe(world, tmp_path / "run", start=None, train={"lr": rates, "steps": 3}))
    parts = run.model.parts()
    before = {name: (hashes(part, trained=False), hashes(part, trained=True)) for name, part in parts.items()}
    train(run, quiet=True)
    for name, part in parts.items():
        frozen, moved = before[name]
        assert hashes(part, trained=False) == frozen
        assert bool(moved) == (name in subset)
        after = hashes(part, trained=True)
        assert all(after[parameter] != moved[parameter] for parameter in moved), name
    # and the same on disk, read back by other code
    found, _ = load(run.directory)
    for name, part in found.parts().items():
        if name not in subset:
            for parameter, value in part.state_dict().items():
                assert torch.equal(value, parts[name].state_dict()[parameter])


def test_of_a_trained_encoder_everything_moves_that_the_features_depend_on(world: Path, tmp_path: Path) -> None:
    run = prepared(instruct_recipe(world, tmp_path / "run", start=None, train={"lr": {"vision": 1e-3}}))
    trained_names = {name for name, parameter in run.model.vision.named_parameters() if parameter.requires_grad}
    assert trained_names == {f"backbone.{name}" for name in run.model.vision.used_parameters}
    assert not any(".layers.2." in name for name in trained_names)  # layer -2 of three: the last is never run


def test_a_part_without_parameters_cannot_have_a_rate() -> None:
    model = tiny_model(connector="identity")
    with pytest.raises(ConfigError, match=r"train\.lr\.connector: .*no parameters to train"):
        freeze(model, {"connector": 1e-3})
    freeze(model, {"language": 1e-3})
