"""What `torchrun` starts for the tests of `train.shard`: several runs in turn, to start the processes once.

    torchrun -m tests.train.shard_ranks FOLDER

Trains every recipe `FOLDER/*.yaml`, that of `full_disk` with a disk that is full once, that of `stopped` up to a
signal, and takes `uneven_steps`. Each rank writes `facts-RANK.json` there.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.config import load_recipe
from sightline.data.batch import Batch
from sightline.model.vlm import VisionLanguageModel
from sightline.train import loop, state
from sightline.train.optim import build_optimizer, parameter_groups
from sightline.train.parts import freeze
from sightline.train.pieces import gathered, own
from sightline.train.ranks import ALONE, Ranks, join
from sightline.train.shard import decoder_layers, matrices, shard_layers
from sightline.train.step import StepResult, take_step
from tests.fakes import tiny_model
from tests.train.conftest import _without_plot
from tests.train.small_run import prepared
from tests.train.test_step import batches_of

CPU = torch.device("cpu")


def main(folder: Path) -> None:
    _without_plot(pytest.MonkeyPatch())
    ranks = join()
    facts: dict[str, Any] = {"steps": uneven_steps(ranks)}
    for path in sorted(folder.glob("*.yaml")):
        run = prepared(load_recipe(path))
        trouble = {("full_disk", 0): full_once, ("stopped", 1): stop_at_5}.get((path.stem, ranks.rank), nullcontext)
        try:
            with trouble():
                loop.train(run, quiet=True)
            facts[path.stem] = held(run.model.language, run.optimizer)
        except loop.Stopped as stopped:
            facts[path.stem] = {"exit": stopped.code, "step": run.state.step}
        run.release()
    (folder / f"facts-{ranks.rank}.json").write_text(json.dumps(facts))


@contextmanager
def full_once() -> Iterator[None]:
    """In the block the first file of a state finds no room, in the middle of it."""
    with pytest.MonkeyPatch.context() as patch:

        def full(path: Path, planned: Mapping[str, Tensor], content: Iterator[tuple[str, Tensor]]) -> None:
            patch.undo()
            next(content)
            raise OSError(28, "No space left on device")

        patch.setattr(state, "stream_file", full)
        yield


@contextmanager
def stop_at_5() -> Iterator[None]:
    """In the block this process alone is sent a signal in the fifth step."""
    real, steps = loop.take_step, 0

    def take(*arguments: Any, **others: Any) -> StepResult:
        nonlocal steps
        steps += 1
        if steps == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "take_step", take)
        yield


def held(language: Any, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Numbers of the layers' matrices, and of their moments, that lie in this process's memory."""
    cut = [each for layer in decoder_layers(language) for each in matrices(layer)]
    moments = [optimizer.state.get(each, {}).get(slot) for each in cut for slot in ("exp_avg", "exp_avg_sq")]
    return {"weights": sum(map(stored, cut)), "moments": sum(stored(each) for each in moments if each is not None)}


def stored(tensor: Tensor) -> int:
    """Numbers in the memory behind a tensor, padding included."""
    return own(tensor).untyped_storage().nbytes() // tensor.element_size()


def uneven_steps(ranks: Ranks) -> dict[str, Any]:
    """Three steps of which the first rank has more micro-batches than the others and the last has none.

    The first is clipped, the second has a picture that is not a number, the third follows on it. Beside them the same
    steps by one process.
    """
    cut, whole = trainable(), trainable()
    shard_layers(cut, ranks, device=CPU, dtype=torch.float32)
    optimizers = optimizer_of(cut), optimizer_of(whole)
    found: dict[str, Any] = {"losses": [], "norms": [], "suspects": []}
    for number in range(3):
        batches = batches_of(8, size=2, seed=number)
        if number == 1:
            assert batches[1].pixels is not None
            batches[1].pixels[0, 0, 0, 0] = math.nan
        shares = [batches[:3], batches[3:], *[[]] * (ranks.size - 2)]
        pair = step(cut, optimizers[0], shares[ranks.rank], ranks), step(whole, optimizers[1], batches, ALONE)
        found["losses"].append([result.loss for result in pair])
        found["norms"].append([result.gradient_norm for result in pair])
        found["suspects"].append([result.suspects for result in pair])
    found["apart"] = apart(cut, whole)
    return found


def trainable() -> VisionLanguageModel:
    model = tiny_model()
    freeze(model, {"connector": 1e-2, "language": 1e-2})
    return model


def optimizer_of(model: VisionLanguageModel) -> torch.optim.AdamW:
    groups = parameter_groups(model.parts(), {"connector": 1e-2, "language": 1e-2}, weight_decay=0.1)
    optimizer = build_optimizer(groups, betas=(0.9, 0.999), eps=1e-8)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"]
    return optimizer


def step(
    model: VisionLanguageModel, optimizer: torch.optim.Optimizer, batches: Sequence[Batch], ranks: Ranks
) -> StepResult:
    return take_step(model, optimizer, batches, clip=0.5, dtype=torch.float32, ranks=ranks)


def apart(cut: nn.Module, whole: nn.Module) -> float:
    """The largest difference of a weight."""
    same = dict(whole.named_parameters())
    return max(
        float((tensor - same[name]).abs().max()) for name, tensor in gathered(dict(cut.named_parameters()), first=True)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
