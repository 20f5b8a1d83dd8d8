"""A sharded run trains what one process does, holds its share of the layers alone, and goes on anywhere."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sightline.config import dump_recipe, parse_recipe
from sightline.data.batch import Batch
from sightline.errors import ConfigError
from sightline.recipe import Recipe
from sightline.train import run as run_module
from sightline.train.ranks import ALONE
from sightline.train.shard import decoder_layers, passes
from tests.fakes import tiny_language, tiny_model
from tests.train.conftest import _without_plot
from tests.train.small_run import align_recipe, instruct_recipe, trained
from tests.train.test_ranks import assert_alike, environment, rows, validation_losses
from tests.train.test_step import batches_of

ROOT = Path(__file__).parents[2]
LAYERS = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
"""Numbers in the matrices of the small language model's two layers."""
CPU = torch.device("cpu")
SAVED = {"save_every": 4, "keep": 9}
SHARD = {"shard": True}
LORA = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.0}}


def recipe_of(kind: str, world: Path, output: Path, **train: Any) -> Recipe:
    """Rows are short, so that a step has several and the processes not equally many."""
    source = {"path": str(world / "instruct.jsonl"), "images": str(world / "pictures")}
    if kind == "stage_1":  # some samples without a picture
        both = [{"path": str(world / "align.json"), "images": str(world / "pictures")}, source]
        return align_recipe(world, output, data=both, template="own", train={"row_length": 64, **train})
    changes: dict[str, Mapping[str, Any]] = {
        "full": SAVED,
        "full_disk": SAVED,
        "stopped": SAVED,
        "lora": {**LORA, "gradient_checkpointing": True},
        "padded": {"packing": False, "micro_batch": 1, "gradient_checkpointing": True},
        "bf16": {"precision": "bf16"},
        "bf16_lora": {"precision": "bf16", **LORA},
    }
    given = {"row_length": 64, **changes[kind], **train}
    return instruct_recipe(world, output, start=None, train=given, validation=[source] if kind == "full" else [])


KINDS = ("stage_1", "full", "lora", "padded", "bf16", "bf16_lora")


@pytest.fixture(scope="module")
def ones(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What one process trains."""
    folder = tmp_path_factory.mktemp("ones")
    with pytest.MonkeyPatch.context() as patch:
        _without_plot(patch)
        return {kind: trained(recipe_of(kind, world, folder / kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def twos(world: Path, ones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes train: every kind; one with a disk full once, one that is stopped, one begun by one."""
    folder = tmp_path_factory.mktemp("twos")
    recipes = {kind: recipe_of(kind, world, folder / kind, **SHARD) for kind in (*KINDS, "full_disk", "stopped")}
    recipes["from_one"] = begun(ones["full"], recipe_of("full", world, folder / "from_one", **SHARD))
    return launched(folder, recipes, ranks=2)


@pytest.fixture(scope="module")
def threes(world: Path, twos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What three processes train, and what two sharded ones have begun, by three with and without sharding."""
    folder = tmp_path_factory.mktemp("threes")
    recipes = {kind: recipe_of(kind, world, folder / kind, **SHARD) for kind in ("stage_1", "lora")}
    recipes["from_two"] = begun(twos / "full", recipe_of("full", world, folder / "from_two", **SHARD))
    recipes["unsharded"] = begun(twos / "full", recipe_of("full", world, folder / "unsharded"))
    return launched(folder, recipes, ranks=3)


def begun(source: Path, recipe: Recipe) -> Recipe:
    """The recipe, whose output holds what a kill had left of the run in `source` after four of its steps."""
    output = Path(recipe.output)
    shutil.copytree(source / "checkpoints" / "step-00000004", output / "checkpoints" / "step-00000004")
    for name in ("run.json", "log.jsonl"):
        shutil.copy(source / name, output / name)
    return recipe


def launched(folder: Path, recipes: Mapping[str, Recipe], *, ranks: int) -> Path:
    for name, recipe in recipes.items():
        (folder / f"{name}.yaml").write_text(dump_recipe(recipe))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    done = subprocess.run(
        [*start, "-m", "tests.train.shard_ranks", str(folder)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def facts(folder: Path) -> list[dict[str, Any]]:
    """What each process has written."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("facts-*.json"))]


def norms(directory: Path) -> list[float]:
    return [row["gradient_norm"] for row in rows(directory) if "gradient_norm" in row]


# ---- the same run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stage_1", "full", "lora", "padded"])
def test_two_processes_train_what_one_does(ones: dict[str, Path], twos: Path, kind: str) -> None:
    assert_alike(ones[kind], twos / kind)
    assert norms(twos / kind) == pytest.approx(norms(ones[kind]), rel=1e-3)
    assert validation_losses(twos / kind) == pytest.approx(validation_losses(ones[kind]), abs=1e-4)


@pytest.mark.parametrize("kind", ["stage_1", "lora"])
def test_three_processes_train_what_one_does(ones: dict[str, Path], threes: Path, kind: str) -> None:
    assert_alike(ones[kind], threes / kind)
    assert norms(threes / kind) == pytest.approx(norms(ones[kind]), rel=1e-3)


@pytest.mark.parametrize("kind", ["bf16", "bf16_lora"])
def test_in_bf16_a_run_is_that_of_one_process_within_rounding(ones: dict[str, Path], twos: Path, kind: str) -> None:
    paths = ones[kind], twos / kind, ones["full"]
    one, two, exact = ([row["loss"] for row in rows(path) if "loss" in row] for path in paths)
    assert two == pytest.approx(one, rel=2e-3)
    assert two != pytest.approx(exact, rel=1e-5)
    mine, theirs = (load_file(path / "model.safetensors") for path in paths[:2])
    assert {name: tensor.dtype for name, tensor in mine.items()} == {
        name: tensor.dtype for name, tensor in theirs.items()
    }


def test_each_process_holds_its_share_of_the_layers_alone(twos: Path, threes: Path) -> None:
    for fact in facts(twos):
        assert fact["full"] == {"weights": LAYERS // 2, "moments": LAYERS}
        assert fact["stage_1"] == {"weights": LAYERS // 2, "moments": 0}
        assert fact["lora"]["weights"] < 0.7 * LAYERS  # adapters included
        assert fact["lora"]["moments"] < 0.4 * LAYERS
    for fact in facts(threes):
        assert LAYERS / 3 < fact["from_two"]["weights"] < 1.1 * LAYERS / 3  # 32 rows in threes: 11, 11, 10
        assert fact["unsharded"] == {"weights": LAYERS, "moments": 2 * LAYERS}
    assert len(facts(twos)) == 2
    assert len(facts(threes)) == 3


def test_processes_with_fewer_batches_or_none_take_part(twos: Path, threes: Path) -> None:
    for found in (fact["steps"] for folder in (twos, threes) for fact in facts(folder)):
        for number in (0, 2):
            assert found["losses"][number][0] == pytest.approx(found["losses"][number][1], rel=1e-6)
            assert found["norms"][number][0] == pytest.approx(found["norms"][number][1], rel=1e-5)
            assert found["norms"][number][0] > 1  # and so was clipped
        assert found["apart"] < 2e-5


def test_a_step_that_is_not_finite_is_skipped_by_all(twos: Path, threes: Path) -> None:
    for found in (fact["steps"] for folder in (twos, threes) for fact in facts(folder)):
        assert not any(loss == loss for loss in found["losses"][1])
        assert found["suspects"][1][0] == found["suspects"][1][1] != []


# ---- states and checkpoints ------------------------------------------------------------------------------------------


def test_the_state_has_the_same_tensors_however_many_write_it(ones: dict[str, Path], twos: Path) -> None:
    for name in ("trained.safetensors", "optimizer.safetensors"):
        one, two = (load_file(path / "checkpoints" / "step-00000004" / name) for path in (ones["full"], twos / "full"))
        assert one.keys() == two.keys()
        for key, tensor in one.items():
            torch.testing.assert_close(tensor, two[key], rtol=1e-3, atol=2e-4, msg=key)


def test_a_run_of_one_goes_on_sharded(ones: dict[str, Path], twos: Path) -> None:
    assert_alike(ones["full"], twos / "from_one")


def test_a_sharded_run_goes_on_in_one_process(world: Path, ones: dict[str, Path], twos: Path, tmp_path: Path) -> None:
    assert_alike(ones["full"], trained(begun(twos / "full", recipe_of("full", world, tmp_path / "run"))))


@pytest.mark.parametrize("name", ["from_two", "unsharded"])
def test_a_sharded_run_goes_on_in_three_processes(ones: dict[str, Path], threes: Path, name: str) -> None:
    assert_alike(ones["full"], threes / name)


def test_a_save_that_fails_on_the_first_process_holds_nobody_up(ones: dict[str, Path], twos: Path) -> None:
    assert_alike(ones["full"], twos / "full_disk")
    assert sorted(path.name for path in (twos / "full_disk" / "checkpoints").iterdir()) == [
        "step-00000008",
        "step-00000012",
    ]


def test_the_adapters_of_a_sharded_run_are_saved_whole(ones: dict[str, Path], twos: Path) -> None:
    one, two = (load_file(path / "lora" / "adapter_model.safetensors") for path in (ones["lora"], twos / "lora"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-3, atol=2e-4, msg=name)


def test_a_sharded_run_that_a_signal_stopped_goes_on_in_one_process(
    world: Path, ones: dict[str, Path], twos: Path
) -> None:
    assert [fact["stopped"] for fact in facts(twos)] == [{"exit": 128 + signal.SIGTERM, "step": 5}] * 2
    assert_alike(ones["full"], trained(recipe_of("stopped", world, twos / "stopped")))


# ---- what is cut, and what may not be --------------------------------------------------------------------------------


def test_the_layers_are_the_heaviest_list_of_modules() -> None:
    language = tiny_language("llama")
    assert decoder_layers(language) == list(language.model.layers)
    language.model.layers = nn.Sequential(*language.model.layers)
    with pytest.raises(ConfigError, match="train.shard: LlamaForCausalLM has no list of layers"):
        decoder_layers(language)


def test_without_cut_layers_there_are_no_idle_passes() -> None:
    batches: list[Batch] = batches_of(4, size=2)
    assert list(passes(batches, tiny_model(), ALONE)) == batches


def test_a_model_that_cannot_take_packed_rows_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "use_packed_attention", lambda language: "an attention of its own")
    said: list[str] = []
    assert not run_module._pack(tiny_model(), device=CPU, dtype=torch.float32, say=said.append)
    assert "batches are padded" in said[0]
    monkeypatch.setattr(run_module, "any_cut", lambda model: True)
    with pytest.raises(ConfigError, match=r"train.shard: .*\(an attention of its own\); set train.packing: false"):
        run_module._pack(tiny_model(), device=CPU, dtype=torch.float32, say=said.append)


def test_four_bits_cannot_be_cut(world: Path) -> None:
    tree = instruct_recipe(world, world / "never", start=None, train=LORA).model_dump(exclude_unset=True)
    tree["train"] |= {"quantize": "nf4", "shard": True}
    with pytest.raises(ConfigError, match="quantize packs the layers in 4 bits, which cannot be cut over processes"):
        parse_recipe(tree, where="test")
