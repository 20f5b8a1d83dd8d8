"""Benchmarks between two steps: asked when due, once, also after stops; and the run is as if nobody had asked.

Who asks is a stand-in that really has the model answer; `tests/evaluate/test_while_training.py` has the real one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.data.processor import Processor
from sightline.errors import ConfigError
from sightline.infer.chat import stop_rule
from sightline.infer.generate import Prompt, generate
from sightline.infer.sampling import Sampling
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import Recipe
from sightline.train import loop
from sightline.train.loop import Stopped, train
from tests.train.small_run import STEPS, align_recipe, instruct_recipe, prepared, result_hashes, trained
from tests.train.test_loop import LORA, Crash, crash, losses, rows

EVERY_FIVE = {"data": "nowhere", "tasks": ["pope"], "every": 5}


class Asker:
    """Has the model answer; the figure is of its logits. `on` is called before."""

    def __init__(self, on: Callable[[int], None] = lambda step: None) -> None:
        self.on = on
        self.names: list[str] = []
        self.autocast: list[bool] = []

    def check(self, model: VisionLanguageModel, processor: Processor) -> None:
        pass

    def figures(
        self,
        model: VisionLanguageModel,
        processor: Processor,
        *,
        folder: Path,
        name: str,
        stopping: Callable[[], bool],
        log: Any,
    ) -> Mapping[str, float | None] | None:
        self.on(int(folder.name.removeprefix("step-")))
        if stopping():
            return None
        torch.rand(3)
        self.autocast.append(torch.is_autocast_enabled("cpu"))
        side = processor.settings.image_size
        pixels = torch.linspace(-1, 1, 3 * side * side).view(1, 3, side, side)
        picture = [processor.image_token_id] * processor.settings.image_tokens
        prompts = [Prompt(ids=[5, *picture, *range(6, 6 + more)], pixels=pixels) for more in (2, 4, 4)]
        generate(model, prompts, sampling=Sampling(max_new_tokens=6), stop=stop_rule(processor))
        with torch.inference_mode():
            logits, _ = model.decode(model.embed(torch.tensor([prompts[0].ids]), pixels))
        log.doing("asked")
        self.names.append(name)
        return {"pope.mean_f1": float(logits.float().std()), "mme.perception": None}


def asked(recipe: Recipe, asker: Asker) -> Path:
    """Trains to the end, as `trained` does."""
    run = prepared(recipe)
    try:
        train(run, quiet=True, benchmarks=asker)
    finally:
        run.release()
    return run.directory


def figures(directory: Path) -> list[tuple[int, Any]]:
    return [(row["step"], row["benchmarks"]) for row in rows(directory) if "benchmarks" in row]


KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": LORA,
    "padded": {"packing": False},
    "recomputed": {"gradient_checkpointing": True, "lr": {"vision": 1e-3, "connector": 1e-3, "language": 1e-3}},
    "bf16": {"precision": "bf16"},
    "bf16-lora": {"precision": "bf16", **LORA},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_asked_when_due_and_trains_as_if_it_were_not(
    kind: str, world: Path, aligned: Path, tmp_path: Path
) -> None:
    expected = trained(instruct_recipe(world, tmp_path / "a", start=aligned, train=KINDS[kind]))
    asker = Asker()
    recipe = instruct_recipe(world, tmp_path / "b", start=aligned, train=KINDS[kind], benchmarks=EVERY_FIVE)
    found = asked(recipe, asker)
    assert [step for step, _ in figures(found)] == [5, 10, STEPS]
    assert asker.names == [f"small-instruct-{step}" for step in (5, 10, STEPS)]
    assert asker.autocast == [kind.startswith("bf16")] * 3
    assert len({row["pope.mean_f1"] for _, row in figures(found)}) == 3
    assert losses(found) == losses(expected)
    assert result_hashes(found) == result_hashes(expected)


def test_the_attention_of_packed_rows_is_there_again_after_an_error(world: Path, tmp_path: Path) -> None:
    run = prepared(align_recipe(world, tmp_path / "run", benchmarks=EVERY_FIVE))
    before = run.model.language.config._attn_implementation
    with pytest.raises(Crash):
        train(run, quiet=True, benchmarks=Asker(lambda step: crash()))
    assert run.packed
    assert run.model.language.config._attn_implementation == before


def test_without_every_it_is_asked_at_the_end_alone(world: Path, tmp_path: Path) -> None:
    found = asked(align_recipe(world, tmp_path / "run", benchmarks={**EVERY_FIVE, "every": 0}), Asker())
    assert [step for step, _ in figures(found)] == [STEPS]


@pytest.mark.parametrize("at", [5, 10, STEPS])
@pytest.mark.parametrize("how", ["killed", "told"])
def test_a_run_that_ends_while_it_asks_asks_again_and_has_the_same_rows(
    at: int, how: str, world: Path, tmp_path: Path
) -> None:
    expected = asked(align_recipe(world, tmp_path / "a", benchmarks=EVERY_FIVE), Asker())
    recipe = align_recipe(world, tmp_path / "b", benchmarks=EVERY_FIVE, train={"save_every": 3})

    def end(step: int) -> None:
        if step == at:
            if how == "killed":
                crash()
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises((Crash, Stopped)) as caught:
        asked(recipe, Asker(end))
    if how == "told":
        assert isinstance(caught.value, Stopped)
        assert caught.value.code == 143
        assert (tmp_path / "b" / "checkpoints" / f"step-{at:08d}").is_dir()
    assert not (tmp_path / "b" / "model.safetensors").exists()
    found = asked(recipe, Asker())
    assert figures(found) == figures(expected)
    assert losses(found) == losses(expected)


def test_a_signal_in_the_last_step_leaves_asking_to_the_next_start(world: Path, tmp_path: Path) -> None:
    """The state is safe at once; without benchmarks such a run would finish."""
    recipe = align_recipe(world, tmp_path / "run", benchmarks=EVERY_FIVE)
    asker = Asker()
    run = prepared(recipe)
    original = loop._one_step

    def step(*arguments: Any, **options: Any) -> None:
        original(*arguments, **options)
        if run.state.step == STEPS:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(loop, "_one_step", step)
        train(run, quiet=True, benchmarks=asker)
    run.release()
    assert len(asker.names) == 2
    assert [step for step, _ in figures(asked(recipe, asker))] == [5, 10, STEPS]


def test_a_death_at_the_very_end_does_not_ask_twice(world: Path, tmp_path: Path) -> None:
    recipe = align_recipe(world, tmp_path / "run", benchmarks=EVERY_FIVE)
    asker = Asker()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(loop, "finish", lambda *arguments: crash())
        asked(recipe, asker)
    assert [step for step, _ in figures(asked(recipe, asker))] == [5, 10, STEPS]
    assert len(asker.names) == 3


def test_what_is_asked_may_change_between_a_stop_and_the_next_start(world: Path, tmp_path: Path) -> None:
    with pytest.raises(Crash):
        asked(align_recipe(world, tmp_path / "run", benchmarks=EVERY_FIVE), Asker(lambda s: crash() if s > 5 else None))
    changed = {"data": "elsewhere", "tasks": ["gqa", "mme"], "every": 4}
    found = asked(align_recipe(world, tmp_path / "run", benchmarks=changed), Asker())
    assert [step for step, _ in figures(found)] == [5, 8, STEPS]


def test_what_cannot_be_asked_is_found_before_the_first_step(world: Path, tmp_path: Path) -> None:
    class Unfit(Asker):
        def check(self, model: VisionLanguageModel, processor: Processor) -> None:
            raise ConfigError("too long")

    with pytest.raises(ConfigError, match="too long"):
        asked(align_recipe(world, tmp_path / "run", benchmarks=EVERY_FIVE), Unfit())
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_figures_are_told_and_timed(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(align_recipe(world, tmp_path / "run", benchmarks={**EVERY_FIVE, "every": 0}), Asker())
    ((_, row),) = figures(found)
    assert f"step {STEPS}: pope.mean_f1 {row['pope.mean_f1']:.4g}, mme.perception - (0 s)" in capsys.readouterr().err
    assert rows(found)[-1]["benchmark_seconds"] > 0
