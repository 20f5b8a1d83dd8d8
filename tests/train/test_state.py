"""Training states: whole or absent, the newest whole one wins, and never a silent start from nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sightline import atomic
from sightline.errors import CheckpointError
from sightline.train import state as state_module
from sightline.train.state import TrainState, resume, save_state, trained_parameters

MARK = "recipe:data"
FILES = ["manifest.json", "optimizer.safetensors", "state.json", "trained.safetensors"]


class Small(nn.Module):
    """Some parameters that train, one that does not, and one that has not had a gradient yet."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(4, width)
        self.second = nn.Linear(width, 2)
        self.late = nn.Parameter(torch.zeros(5))
        self.frozen = nn.Parameter(torch.full((2,), 7.0), requires_grad=False)


def small(*, seed: int = 0, steps: int = 0, width: int = 3) -> tuple[Small, torch.optim.AdamW]:
    """A model and its optimizer after some steps."""
    torch.manual_seed(seed)
    model = Small(width)
    optimizer = torch.optim.AdamW(trained_parameters(model).values(), lr=1e-2, fused=True)
    advance(model, optimizer, steps)
    return model, optimizer


def advance(model: Small, optimizer: torch.optim.AdamW, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model.second(model.first(torch.linspace(-1, 2, 8).reshape(2, 4))).square().sum().backward()
        optimizer.step()


def saved(directory: Path, *steps: int, keep: int = 9) -> None:
    """States of one run, each after as many steps as its number."""
    model, optimizer = small()
    done = 0
    for step in steps:
        advance(model, optimizer, step - done)
        done = step
        save_state(directory, TrainState(fingerprint=MARK, step=step), model=model, optimizer=optimizer, keep=keep)


def resumed(directory: Path, *, fingerprint: str = MARK, width: int = 3) -> tuple[TrainState, Small, list[str]]:
    model, optimizer = small(seed=9, width=width)
    warnings: list[str] = []
    found = resume(directory, model=model, optimizer=optimizer, fingerprint=fingerprint, warn=warnings.append)
    advance(model, optimizer, 2)  # the moments count, too
    return found, model, warnings


def expected_after(steps: int) -> dict[str, torch.Tensor]:
    return small(steps=steps)[0].state_dict()


def assert_equal(model: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# ---- what is saved comes back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 5])
def test_weights_moments_and_counters_come_back_bit_for_bit(tmp_path: Path, step: int) -> None:
    model, optimizer = small(steps=step)
    given = TrainState(
        fingerprint=MARK, step=step, bad_steps=1, bad_steps_total=4, samples=31, tokens=77, trained_tokens=12,
        seconds=1.25,
    )  # fmt: skip
    save_state(tmp_path, given, model=model, optimizer=optimizer, keep=2)
    found, again, warnings = resumed(tmp_path)
    assert found == given
    assert_equal(again, expected_after_more(model, optimizer))
    assert warnings == []


def expected_after_more(model: Small, optimizer: torch.optim.AdamW) -> dict[str, torch.Tensor]:
    advance(model, optimizer, 2)
    return model.state_dict()


def test_the_trained_parameters_alone_are_written(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    listed = atomic.read_manifest(tmp_path / "step-00000003")
    assert sorted(listed) == [name for name in FILES if name != "manifest.json"]
    sizes = {name: record.bytes for name, record in listed.items()}
    numbers = sum(parameter.numel() for parameter in trained_parameters(Small()).values())
    assert numbers * 4 < sizes["trained.safetensors"] < numbers * 4 + 1000


def test_no_state_at_all_is_a_fresh_start(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        found, model, warnings = resumed(directory)
        assert found == TrainState(fingerprint=MARK)
        assert_equal(model, small(seed=9, steps=2)[0].state_dict())
        assert warnings == []


# ---- which are kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "expected"), [(1, [40]), (2, [30, 40]), (3, [20, 30, 40]), (9, [1, 20, 30, 40])])
def test_the_newest_states_are_kept(tmp_path: Path, keep: int, expected: list[int]) -> None:
    saved(tmp_path, 1, 20, 30, 40, keep=keep)
    assert names(tmp_path) == [f"step-{step:08d}" for step in expected]


def test_a_killed_save_is_no_state_and_is_in_nobodys_way(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    shutil.copytree(tmp_path / "step-00000002", tmp_path / ".step-00000004.tmp")
    assert resumed(tmp_path)[0].step == 2
    saved(tmp_path, 2, 4)
    assert names(tmp_path) == ["step-00000002", "step-00000004"]


def test_a_full_disk_leaves_the_older_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 2)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module, "write_atomic", full)
    model, optimizer = small(steps=4)
    with pytest.raises(OSError, match="No space"):
        save_state(tmp_path, TrainState(fingerprint=MARK, step=4), model=model, optimizer=optimizer, keep=1)
    assert names(tmp_path) == ["step-00000002"]
    assert resumed(tmp_path)[0].step == 2


def test_an_old_state_that_cannot_be_removed_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 2, 4)

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("unlink", "rmdir"):
        monkeypatch.setattr(f"shutil.os.{name}", refuse)
    saved(tmp_path, 6, keep=1)
    assert names(tmp_path) == ["step-00000002", "step-00000004", "step-00000006"]
    assert resumed(tmp_path)[0].step == 6


# ---- damage ----------------------------------------------------------------------------------------------------------


def flip_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0b1000
    path.write_bytes(bytes(data))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "empty": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "one-bit": flip_one_bit,
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_newest_state_is_named_and_the_next_older_used(
    tmp_path: Path, damage: Callable[[Path], object], file: str
) -> None:
    saved(tmp_path, 2, 4)
    damage(tmp_path / "step-00000004" / file)
    found, model, warnings = resumed(tmp_path)
    assert found.step == 2
    assert_equal(model, expected_after(4))
    (warning,) = warnings
    assert "step-00000004" in warning
    assert file in warning or damage is flip_one_bit  # a bit of the manifest may name any file
    assert "\n" not in warning


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_when_all_are_damaged_the_run_does_not_start_over(
    tmp_path: Path, damage: Callable[[Path], object], file: str
) -> None:
    saved(tmp_path, 2, 4)
    for step in ("step-00000002", "step-00000004"):
        damage(tmp_path / step / file)
    with pytest.raises(CheckpointError, match="none of the 2 training states is whole.*--new"):
        resumed(tmp_path)


def test_files_of_a_state_are_not_read_before_their_checksum_is(tmp_path: Path) -> None:
    saved(tmp_path, 2, 4)
    damaged = tmp_path / "step-00000004"
    flip_one_bit(damaged / "optimizer.safetensors")
    model, optimizer = small(seed=9)
    resume(tmp_path, model=model, optimizer=optimizer, fingerprint=MARK, warn=lambda message: None)
    assert_equal(model, expected_after(2))


@pytest.mark.parametrize("file", FILES)
def test_the_step_of_a_damaged_state_is_written_anew(tmp_path: Path, file: str) -> None:
    saved(tmp_path, 2, 4)
    DAMAGE["deleted"](tmp_path / "step-00000004" / file)
    saved(tmp_path, 4)
    found, _, warnings = resumed(tmp_path)
    assert (found.step, warnings) == (4, [])


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_state_never_pushes_out_a_whole_one(tmp_path: Path, keep: int) -> None:
    """The run goes on from step 2 and is stopped at step 3, before it is back at the damaged step 4."""
    saved(tmp_path, 2, 4)
    flip_one_bit(tmp_path / "step-00000004" / "trained.safetensors")
    model, optimizer = small(steps=3)
    save_state(tmp_path, TrainState(fingerprint=MARK, step=3), model=model, optimizer=optimizer, keep=keep)
    found, _, warnings = resumed(tmp_path)
    assert (found.step, warnings) == (3, [])
    assert len(names(tmp_path)) == keep


# ---- states of others ------------------------------------------------------------------------------------------------


def test_a_state_of_another_recipe_or_data_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    with pytest.raises(CheckpointError, match="another recipe or other data.*--new"):
        resumed(tmp_path, fingerprint="recipe:other")


def test_parameters_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    with pytest.raises(CheckpointError, match=r"first\.weight has shape \[3, 4\], this run's has \[5, 4\]"):
        resumed(tmp_path, width=5)


def test_other_trained_parameters_are_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    model, _ = small()
    model.frozen.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained_parameters(model).values())
    with pytest.raises(CheckpointError, match="frozen is on one side only"):
        resume(tmp_path, model=model, optimizer=optimizer, fingerprint=MARK, warn=lambda message: None)


def test_moments_of_other_parameters_are_refused_by_name(tmp_path: Path) -> None:
    model, _ = small(steps=2)
    other = Small()
    other.second = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.AdamW(model.parameters())
    save_state(tmp_path, TrainState(fingerprint=MARK, step=2), model=other, optimizer=optimizer, keep=1)
    with pytest.raises(CheckpointError, match=r"second\.bias is on one side only"):
        resumed(tmp_path)


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_another_version_is_refused_with_both_numbers(tmp_path: Path, version: object) -> None:
    saved(tmp_path, 2)
    directory = tmp_path / "step-00000002"
    content = json.loads((directory / "state.json").read_text())
    (directory / "state.json").write_text(json.dumps(content | {"state_version": version}))
    (directory / "manifest.json").unlink()
    atomic.write_manifest(directory)
    with pytest.raises(CheckpointError, match=f"version {version}, this program reads 1"):
        resumed(tmp_path)
