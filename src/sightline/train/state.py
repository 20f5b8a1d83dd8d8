"""The training state on disk: what a run needs to go on as if it had never stopped.

Comes in: the trained parameters, the optimizer, a step. Goes out: `step-N/` directories that are whole or absent, and
the newest of them that verifies. No pickle. Frozen weights are not in it (the recipe names their source), nor
is any random state: batches and dropout are functions of seed and step.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sightline.atomic import new_directory, read_json, readable_directory, verify_manifest, write_atomic
from sightline.errors import CheckpointError
from sightline.model.weights import stream_file
from sightline.train.pieces import gathered, is_cut, own, place_of
from sightline.train.ranks import ALONE, Ranks

STATE_VERSION = 1
_NAME = re.compile(r"step-(\d{8})")


@dataclass(kw_only=True, slots=True)
class TrainState:
    """Where a run stands.

    Attributes:
        step: optimizer steps done, skipped ones included.
        bad_steps: skipped steps in a row up to now; `bad_steps_total` since the start.
        tokens, trained_tokens, samples: seen since the start.
        lost: samples that were due and could not be used, since the start.
        seconds: spent in steps since the start.
        fingerprint: of the recipe and the data; a state continues only the run it belongs to.
    """

    fingerprint: str
    step: int = 0
    bad_steps: int = 0
    bad_steps_total: int = 0
    samples: int = 0
    lost: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    seconds: float = 0.0


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_state(
    directory: Path,
    state: TrainState,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    keep: int,
    ranks: Ranks = ALONE,
) -> None:
    """Writes `directory/step-N`, then removes all but the `keep` newest up to it; a failed removal is no matter.

    Of several ranks the first writes; all must call, since each gives its rows of what is cut, tensor by tensor. The
    files are the same however many there are.
    """
    trained: dict[str, Tensor] = dict(trained_parameters(model))
    moments = _optimizer_tensors(model, optimizer)
    content = gathered(trained | moments, first=ranks.first)
    try:
        if ranks.first:
            _write_state(directory, state, trained, moments, content, keep=keep)
    finally:
        deque(content, maxlen=0)  # the other ranks must not wait for one whose disk is full


def _write_state(
    directory: Path,
    state: TrainState,
    trained: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
    content: Iterator[tuple[str, Tensor]],
    *,
    keep: int,
) -> None:
    target = directory / f"step-{state.step:08d}"
    directory.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)  # it is damaged, or the run would have gone on from there
    with new_directory(target, info={"step": state.step}) as staging:
        stream_file(staging / "trained.safetensors", trained, content)
        stream_file(staging / "optimizer.safetensors", moments, content)
        write_atomic(staging / "state.json", _to_json({"state_version": STATE_VERSION, **asdict(state)}))
    found = _found(directory)
    place = found.index(target)  # what is newer is damaged, too, and must not push out the whole ones
    for old in found[:place] + found[place + keep :]:
        shutil.rmtree(old, ignore_errors=True)


def resume(
    directory: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fingerprint: str,
    warn: Callable[[str], None],
) -> TrainState:
    """Loads the newest state that verifies into model and optimizer; a fresh state when there is none at all.

    Raises:
        CheckpointError: states are there but none is whole, or the newest whole one belongs to another run.
    """
    found = _found(directory)
    for path in found:
        try:
            verify_manifest(path)
        except CheckpointError as error:
            warn(f"skipped a damaged training state: {error}")
            continue
        return _load(path, model=model, optimizer=optimizer, fingerprint=fingerprint)
    if found:
        raise CheckpointError(
            f"{directory}: none of the {len(found)} training states is whole; restore one, or start over with --new"
        )
    return TrainState(fingerprint=fingerprint)


def _found(directory: Path) -> list[Path]:
    """Paths of the states, newest first."""
    if not directory.is_dir():
        return []
    names = {match.group(0) for path in directory.iterdir() if (match := _NAME.search(path.name))}
    return [
        readable_directory(directory / name)
        for name in sorted(names, reverse=True)
        if readable_directory(directory / name).is_dir()
    ]


def _load(path: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer, fingerprint: str) -> TrainState:
    content = read_json(path / "state.json")
    assert isinstance(content, dict)
    version = content.pop("state_version", None)
    if version != STATE_VERSION:
        raise CheckpointError(
            f"{path}: training state of version {version}, this program reads {STATE_VERSION}: update it"
        )
    state = TrainState(**content)
    if state.fingerprint != fingerprint:
        raise CheckpointError(
            f"{path}: belongs to a run of another recipe or other data; give another output, or start over with --new"
        )
    parameters = trained_parameters(model)
    _fill(path / "trained.safetensors", dict(parameters))
    slots = {
        f"{slot}/{name}": torch.empty_like(parameter, dtype=torch.float32)
        if slot != "step"
        else torch.zeros((), device=parameter.device)
        for name, parameter in parameters.items()
        for slot in ("exp_avg", "exp_avg_sq", "step")
    }
    with safe_open(path / "optimizer.safetensors", framework="pt") as file:
        stepped = {name.partition("/")[2] for name in file.keys()}  # noqa: SIM118  not a dict
    slots = {key: value for key, value in slots.items() if key.partition("/")[2] in stepped}
    _fill(path / "optimizer.safetensors", slots)
    for name, parameter in parameters.items():
        if name in stepped:
            optimizer.state[parameter] = {slot: slots[f"{slot}/{name}"] for slot in ("step", "exp_avg", "exp_avg_sq")}
    return state


def _fill(path: Path, targets: dict[str, Tensor]) -> None:
    """Copies a file's tensors into the targets of the same names; both sides must agree in names and shapes."""
    with safe_open(path, framework="pt") as file, torch.no_grad():
        names = set(file.keys())
        if names != targets.keys():
            odd = sorted(names ^ targets.keys())[0]
            raise CheckpointError(f"{path}: {odd} is on one side only, in the file or in this run's trained parameters")
        for name, target in targets.items():
            stored = file.get_slice(name)
            if stored.get_shape() != list(target.shape):
                raise CheckpointError(
                    f"{path}: {name} has shape {stored.get_shape()}, this run's has {list(target.shape)}"
                )
            if not is_cut(target):
                target.copy_(file.get_tensor(name))
            elif len(own(target)):
                own(target).copy_(stored[place_of(target)])


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts as `slot/parameter name`."""
    return {
        f"{slot}/{name}": value
        for name, parameter in trained_parameters(model).items()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def _to_json(content: dict[str, object]) -> str:
    return json.dumps(content, indent=2) + "\n"
