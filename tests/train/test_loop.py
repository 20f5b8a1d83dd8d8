"""The loop: stopped anywhere and started again, a run ends with the same bits; and nothing not finite gets in."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from sightline import cli
from sightline.atomic import sha256_file
from sightline.config import dump_recipe
from sightline.data.tokens import IGNORE
from sightline.errors import TrainingError
from sightline.recipe import Recipe
from sightline.train import loop
from sightline.train.log import LOG_FILE, RunLog, read_log
from sightline.train.loop import Stopped, train, validate
from sightline.train.run import Run
from tests.train.small_run import STEPS, align_recipe, instruct_recipe, prepared, result_hashes, trained

WATCHED = int(os.environ.get("SIGHTLINE_STEPS", "30"))
"""Steps over which memory is watched."""
LORA = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.3}}


class Crash(BaseException):
    """Ends a run without a chance to save, as a kill does."""


@contextmanager
def every_step(action: Any) -> Iterator[None]:
    """Inside, `action` is called with each step's number when it is done and written to the log, and not yet saved."""
    original = RunLog.step

    def step(self: RunLog, row: Any, *, write: bool) -> None:
        original(self, row, write=write)
        action(row["step"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "step", step)
        yield


@contextmanager
def after_step(number: int, action: Any) -> Iterator[None]:
    """`every_step`, for one of them."""
    with every_step(lambda done: action() if done == number else None):
        yield


def crash() -> None:
    raise Crash


def crashed(recipe: Recipe, *, step: int) -> None:
    """Trains, dies in step `step` (counted from 1), and leaves the directory to the next."""
    run = prepared(recipe)
    with after_step(step, crash), pytest.raises(Crash):
        train(run, quiet=True)
    run.release()


def stopped(recipe: Recipe, *, step: int, number: signal.Signals = signal.SIGTERM) -> int:
    """Trains and gets a signal in step `step`; returns the exit code."""
    run = prepared(recipe)
    with after_step(step, lambda: os.kill(os.getpid(), number)), pytest.raises(Stopped) as caught:
        train(run, quiet=True)
    run.release()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def rows(directory: Path) -> list[dict[str, Any]]:
    return [dict(row) for row in read_log(directory / LOG_FILE)]


def losses(directory: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in rows(directory) if "loss" in row]


# ---- resuming --------------------------------------------------------------------------------------------------------


def recipe_of(kind: str, world: Path, aligned: Path, output: Path) -> Recipe:
    """Batches of 4 from 13 or 11 samples, so every stop is within an epoch."""
    everything = {"lr": {"vision": 1e-3, "connector": 1e-3, "language": 1e-3}, "gradient_checkpointing": True}
    settings: dict[str, dict[str, Any]] = {"instruct": {}, "lora": LORA, "all-parts": everything}
    if kind == "align":
        return align_recipe(world, output)
    if kind == "mixture":
        recipe = instruct_recipe(world, output, start=aligned)
        (source,) = recipe.data
        captions = {"path": str(world / "align.json"), "count": 20, "weight": None}
        sources = (source.model_copy(update={"weight": 0.5}), source.model_copy(update=captions))
        return recipe.model_copy(update={"data": sources})
    return instruct_recipe(world, output, start=aligned, train=settings[kind])


@pytest.fixture(scope="module", params=["align", "instruct", "lora", "all-parts", "mixture"])
def straight(
    request: pytest.FixtureRequest, world: Path, aligned: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A kind of run, and where one of it went through undisturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "plot_run", lambda rows, path, *, title: None)
        output = tmp_path_factory.mktemp("straight") / "run"
        return request.param, trained(recipe_of(request.param, world, aligned, output))


@pytest.mark.parametrize("stops", [(3,), (7,), (6, 11), (STEPS,)], ids=str)
def test_a_run_that_died_ends_with_the_bits_of_one_that_did_not(
    straight: tuple[str, Path], stops: tuple[int, ...], world: Path, aligned: Path, tmp_path: Path
) -> None:
    kind, expected = straight
    recipe = recipe_of(kind, world, aligned, tmp_path / "run")
    for step in stops:
        crashed(recipe, step=step)
    found = trained(recipe)
    assert result_hashes(found) == result_hashes(expected)
    assert losses(found) == losses(expected)
    assert [step for step, _ in losses(found)] == list(range(1, STEPS + 1))
    if kind == "lora":
        adapter = Path("lora") / "adapter_model.safetensors"
        assert sha256_file(found / adapter) == sha256_file(expected / adapter)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_after_its_step_with_the_state_saved(
    world: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    expected = trained(align_recipe(world, tmp_path / "straight"))
    recipe = align_recipe(world, tmp_path / "broken")
    before = signal.getsignal(number)
    assert stopped(recipe, step=4, number=number) == code
    assert signal.getsignal(number) is before
    assert [path.name for path in (tmp_path / "broken" / "checkpoints").iterdir()] == ["step-00000004"]
    assert [step for step, _ in losses(tmp_path / "broken")] == [1, 2, 3, 4]
    run = prepared(recipe)
    assert run.state.step == 4
    train(run, quiet=True)
    assert result_hashes(run.directory) == result_hashes(expected)
    assert losses(run.directory) == losses(expected)


def test_a_signal_in_the_last_step_lets_the_run_finish(world: Path, tmp_path: Path) -> None:
    run = prepared(align_recipe(world, tmp_path / "run"))
    with after_step(STEPS, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        assert train(run, quiet=True) == tmp_path / "run"
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_second_signal_does_not_wait(world: Path, tmp_path: Path) -> None:
    def twice() -> None:  # raised in this thread: two that are sent to the process may arrive as one
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    run = prepared(align_recipe(world, tmp_path / "run"))
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born deaf to it
    try:
        with after_step(4, twice), pytest.raises(KeyboardInterrupt):
            train(run, quiet=True)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, outside)
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_a_signal_is_never_obeyed_without_saving(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come at any moment: here, whenever the loop looks for the second time in a step."""

    class Late:
        looks = 0

        @property
        def received(self) -> int:
            self.looks += 1
            return int(signal.SIGTERM) if self.looks > 1 else 0

    @contextmanager
    def signals() -> Iterator[Late]:
        yield Late()

    monkeypatch.setattr(loop, "_stop_signal", signals)
    run = prepared(align_recipe(world, tmp_path / "run"))
    with pytest.raises(Stopped):
        train(run, quiet=True)
    assert (run.states / f"step-{run.state.step:08d}").is_dir()


def test_training_works_beside_the_main_thread(world: Path, tmp_path: Path) -> None:
    thread = threading.Thread(target=trained, args=(align_recipe(world, tmp_path / "run"),))
    thread.start()
    thread.join()
    assert result_hashes(tmp_path / "run") == result_hashes(trained(align_recipe(world, tmp_path / "again")))


def test_a_finished_run_is_left_as_it_is(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = align_recipe(world, tmp_path / "run")
    before = snapshot(trained(recipe))
    forbid(monkeypatch)
    assert snapshot(trained(recipe)) == before


def test_a_finished_run_stays_finished_when_its_states_are_deleted(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = align_recipe(world, tmp_path / "run")
    for state in (trained(recipe) / "checkpoints").iterdir():
        for file in state.iterdir():
            file.unlink()
        state.rmdir()
    forbid(monkeypatch)
    trained(recipe)


def test_a_finished_checkpoint_that_is_damaged_is_written_anew(world: Path, tmp_path: Path) -> None:
    recipe = align_recipe(world, tmp_path / "run")
    before = result_hashes(trained(recipe))
    (tmp_path / "run" / "model.safetensors").write_bytes(b"")
    assert result_hashes(trained(recipe)) == before


def forbid(patch: pytest.MonkeyPatch) -> None:
    """From here on, neither a step nor a last save happens."""
    for name in ("_one_step", "save_state", "finish"):
        patch.setattr(loop, name, lambda *arguments, **options: crash())


def snapshot(directory: Path) -> dict[str, tuple[int, str]]:
    """Every file that holds a result: when it was written, and what is in it."""
    ours = ("run.lock", "run.json", "recipe.yaml")  # who runs and what, written at each start
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, sha256_file(path))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ours
    }


# ---- how a run is cut up does not matter -----------------------------------------------------------------------------


def test_workers_and_saving_do_not_change_a_bit(world: Path, aligned: Path, tmp_path: Path) -> None:
    expected = result_hashes(trained(instruct_recipe(world, tmp_path / "a", start=aligned)))
    for name, settings in {"b": {"workers": 2}, "c": {"save_every": 1, "keep": 1, "log_every": 7}}.items():
        found = trained(instruct_recipe(world, tmp_path / name, start=aligned, train=settings))
        assert result_hashes(found) == expected
    assert [step for step, _ in losses(tmp_path / "c")] == [7, STEPS]


def test_rows_packed_or_padded_of_any_size_give_the_same_losses(world: Path, aligned: Path, tmp_path: Path) -> None:
    cuts = [{"packing": False, "micro_batch": size} for size in (1, 2, 4)]
    cuts += [{"row_length": length} for length in (1, 60, 4096)]
    curves = [
        [loss for _, loss in losses(trained(instruct_recipe(world, tmp_path / str(number), start=aligned, train=cut)))]
        for number, cut in enumerate(cuts)
    ]
    assert all(curve == pytest.approx(curves[0], rel=1e-4) for curve in curves)


def test_memory_is_flat_over_the_steps(world: Path, aligned: Path, tmp_path: Path) -> None:
    """No tensor outlives its step: the fewest alive in the last third are no more than in the first (after AdamW's).

    Their bytes are those of the batch at hand as well, which differ a little.
    """
    found: list[tuple[int, int]] = []
    run = prepared(instruct_recipe(world, tmp_path / "run", start=aligned, train={"steps": WATCHED, "save_every": 9}))
    with every_step(lambda done: found.append(alive())):
        train(run, quiet=True)
    run.release()
    assert len(found) == WATCHED
    counts, sizes = zip(*found, strict=True)
    assert min(counts[-WATCHED // 3 :]) <= min(counts[1 : WATCHED // 3])
    assert min(sizes[-WATCHED // 3 :]) <= 1.02 * min(sizes[1 : WATCHED // 3])


def alive() -> tuple[int, int]:
    """How many ordinary tensors there are in the process (other tests may have left others), and their bytes."""
    found: list[Any] = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    tensors = [thing for thing in found if thing.layout == torch.strided and thing.is_cpu and not thing.is_quantized]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return len(tensors), sum(storages.values())


def test_the_log_tells_how_long_data_was_waited_for(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = loop.steps

    def slow(*arguments: Any, **options: Any) -> Iterator[Any]:
        for made in quick(*arguments, **options):
            time.sleep(0.05)
            yield made

    monkeypatch.setattr(loop, "steps", slow)
    found = rows(trained(align_recipe(world, tmp_path / "run", train={"steps": 3})))
    for before, row in zip([{"seconds": 0.0}, *found[:-1]], found, strict=True):
        waited, worked = row["data_wait_seconds"], row["seconds"] - before["seconds"]
        assert waited >= 0.05
        assert row["data_wait"] == pytest.approx(waited / (waited + worked), abs=0.02)


def test_training_learns(world: Path, tmp_path: Path) -> None:
    curve = losses(trained(instruct_recipe(world, tmp_path / "run", start=None, train={"lr": {"language": 5e-3}})))
    assert curve[-1][1] < curve[0][1] - 0.5


# ---- not finite ------------------------------------------------------------------------------------------------------


def spoil(run: Run, *steps: int) -> Run:
    """The gradient is not a number in these steps (counted from 1)."""

    def hook(grad: torch.Tensor) -> torch.Tensor:
        return grad * math.nan if run.state.step + 1 in steps else grad

    next(run.model.connector.parameters()).register_hook(hook)
    return run


def test_a_bad_step_is_skipped_counted_and_its_samples_are_named(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = spoil(
        prepared(align_recipe(world, tmp_path / "run", train={"save_every": 1, "keep": 99, "log_every": 9})), 6, 8
    )
    ids = {step: {name for batch in run.make_step(step - 1).batches for name in batch.ids} for step in (6, 8)}
    train(run, quiet=True)
    assert (run.state.step, run.state.bad_steps, run.state.bad_steps_total) == (STEPS, 0, 2)
    skipped = {row["step"]: set(row["skipped"]) for row in rows(run.directory) if "skipped" in row}
    assert skipped == ids
    for before, after in ((5, 6), (7, 8)):
        hashes = [
            sha256_file(run.states / f"step-{step:08d}" / file)
            for file in ("trained.safetensors", "optimizer.safetensors")
            for step in (before, after)
        ]
        assert hashes[0] == hashes[1]
        assert hashes[2] == hashes[3]
    assert "not applied; samples: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limit", "bad", "ends_at"), [(3, (3, 4, 5, 6), 6), (0, (2,), 2), (1, (2, 4, 6, 7), 7), (2, (2, 3, 5, 6), None)]
)
def test_too_many_bad_steps_in_a_row_end_the_run(
    world: Path, tmp_path: Path, limit: int, bad: tuple[int, ...], ends_at: int | None
) -> None:
    run = spoil(prepared(align_recipe(world, tmp_path / "run", train={"max_bad_steps": limit})), *bad)
    if ends_at is None:
        train(run, quiet=True)
        return
    with pytest.raises(TrainingError, match=f"^step {ends_at}: .*{limit + 1} such steps in a row"):
        train(run, quiet=True)
    assert all(parameter.isfinite().all() for parameter in run.model.parameters())
    assert not (run.directory / "model.safetensors").exists()


def test_the_command_line_ends_with_exit_code_4_and_one_line(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sightline.train.run as module

    prepare = module.prepare
    monkeypatch.setattr(module, "prepare", lambda recipe, **options: spoil(prepare(recipe, **options), 2, 3, 4, 5))
    (tmp_path / "r.yaml").write_text(dump_recipe(align_recipe(world, tmp_path / "run")))
    assert cli.run(partial(cli.app, ["train", str(tmp_path / "r.yaml")])) == 4
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("sightline: step 5: ")


# ---- validation ------------------------------------------------------------------------------------------------------


def test_validation_loss_is_the_mean_over_all_trained_tokens(world: Path, tmp_path: Path) -> None:
    data = [{"path": str(world / "align.json"), "images": str(world / "pictures")}]
    run = prepared(align_recipe(world, tmp_path / "run", validation=data))
    found = validate(run)
    run.model.language.set_attn_implementation("eager")
    total, count = 0.0, 0
    with torch.no_grad():
        for index in range(len(run.validation)):
            example = run.validation.example(index)
            logits = run.model(example.input_ids[None], pixels=example.pixels)[0, :-1]
            total += functional.cross_entropy(logits, example.labels[1:], ignore_index=IGNORE, reduction="sum").item()
            count += int((example.labels != IGNORE).sum())
    assert found == pytest.approx(total / count, rel=1e-5)


def test_validation_is_logged_every_n_steps_and_at_the_end_and_changes_nothing(
    world: Path, aligned: Path, tmp_path: Path
) -> None:
    data = [{"path": str(world / "instruct.jsonl"), "images": str(world / "pictures")}]
    expected = trained(instruct_recipe(world, tmp_path / "a", start=aligned, train=LORA))
    recipe = instruct_recipe(world, tmp_path / "b", start=aligned, train={**LORA, "validate_every": 5}, validation=data)
    found = trained(recipe)
    measured = [row for row in rows(found) if "validation_loss" in row]
    assert [row["step"] for row in measured] == [5, 10, STEPS]
    assert measured[-1]["validation_loss"] < measured[0]["validation_loss"]
    assert losses(found) == losses(expected)
    assert sha256_file(found / "model.safetensors") == sha256_file(expected / "model.safetensors")


def test_validation_rows_are_not_doubled_by_a_death_at_the_very_end(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [{"path": str(world / "align.json"), "images": str(world / "pictures")}]
    recipe = align_recipe(world, tmp_path / "run", validation=data, train={"validate_every": 6})
    run = prepared(recipe)
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(loop, "finish", lambda run, model: crash())
        train(run, quiet=True)
    run.release()
    measured = [row["step"] for row in rows(trained(recipe)) if "validation_loss" in row]
    assert measured == [6, STEPS]


def test_without_validation_data_nothing_is_measured(world: Path, tmp_path: Path) -> None:
    found = trained(align_recipe(world, tmp_path / "run", train={"validate_every": 3}))
    assert not [row for row in rows(found) if "validation_loss" in row]
