"""The plan of a recipe: parts, memory by item, time, and what to change so that it fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, MambaConfig, MambaForCausalLM

from sightline.errors import ConfigError
from sightline.recipe import Recipe
from sightline.train.advise import calibrated, measured_holes, plan_recipe, with_advice
from sightline.train.describe import describe_recipe
from sightline.train.devices import GIB, GPUS, device_named
from sightline.train.measure import Measured
from sightline.train.plan import NF4_BYTES, UPDATE_BYTES, Memory, Plan, make_plan
from sightline.train.plan_table import table, to_json
from sightline.train.rates import stated_rates
from sightline.train.roofline import Rates
from sightline.train.setting import Setting, look
from sightline.train.survey import Length, assumed, survey
from tests.fakes import language_config
from tests.train.small_run import STEPS, align_recipe, instruct_recipe

GPU = GPUS["a100-40g"]
STAGE_2 = {"lr": {"connector": 1e-3, "language": 1e-3}}


def stage_2(world: Path, **train: Any) -> Recipe:
    return instruct_recipe(world, world / "never", start=None, train={**STAGE_2, **train})


def planned(recipe: Recipe) -> tuple[Setting, Plan]:
    setting = look(recipe, GPU)
    return setting, make_plan(recipe, setting)


def test_parts_are_those_of_describe(world: Path) -> None:
    for changes in ({}, {"lora": {"rank": 4}}, {"lr": {"vision": 1e-4, "connector": 1e-4}}):
        recipe = stage_2(world, **changes)
        plan = make_plan(recipe, replace(look(recipe, GPU), vocabulary=None))
        described = describe_recipe(recipe)["parts"]
        assert {name: part.trained for name, part in plan.parts.items()} == {
            name: part["trained"] for name, part in described.items()
        }
        assert plan.parts["vision"].parameters == described["vision"]["parameters"]
        assert plan.parts["language"].lr == recipe.train.lr.get("language")


def test_rows_for_new_tokens_are_counted(world: Path) -> None:
    setting, plan = planned(stage_2(world))
    assert setting.vocabulary is not None
    fewer = make_plan(stage_2(world), replace(setting, vocabulary=None))
    added = plan.parts["language"].parameters - fewer.parts["language"].parameters
    assert added in range(2 * 32, 2 * 32 * 65)


def test_memory_is_of_what_trains(world: Path) -> None:
    _, plan = planned(stage_2(world))
    trained = plan.parts["connector"].trained + plan.parts["language"].trained
    assert plan.memory.gradients == 4 * trained
    assert plan.memory.optimizer == 8 * trained
    assert plan.memory.weights == 4 * trained + 2 * plan.parts["vision"].parameters
    assert plan.memory.total == sum(plan.memory.by_item().values())
    assert (plan.memory.program, plan.memory.pictures) == (0, 0)


def test_four_bits_are_counted_for_the_layers_alone(world: Path) -> None:
    recipe = stage_2(world, lora={"rank": 4})
    setting, plain = planned(recipe)
    quantised = make_plan(
        recipe.model_copy(update={"train": recipe.train.model_copy(update={"quantize": "nf4"})}), setting
    )
    layers = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
    assert plain.memory.weights - quantised.memory.weights == pytest.approx(layers * (2 - NF4_BYTES), abs=1)


def test_devices_that_share_the_layers_hold_their_part(world: Path) -> None:
    setting = replace(look(stage_2(world), GPU), devices=3)
    whole, shared = (make_plan(stage_2(world, shard=shard), setting) for shard in (False, True))
    thirds = 2 * (2 * 11 * 32 + 2 * 6 * 32 + 2 * 16 * 32 + 11 * 48)  # rows of the first of three
    elsewhere = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48) - thirds
    assert whole.memory.weights - shared.memory.weights == 4 * elsewhere
    assert whole.memory.gradients - shared.memory.gradients == 4 * elsewhere
    assert whole.memory.optimizer - shared.memory.optimizer == 8 * elsewhere
    layer = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48
    assert shared.memory.working >= (3 * 2 + 2 + 4) * layer
    assert (whole.sharded, shared.sharded) == (False, True)
    assert "share the language model's layers" in table(shared, price=None, measured=None)
    assert "holds the whole model" in table(whole, price=None, measured=None)


def test_frozen_layers_are_shared_too(world: Path) -> None:
    recipe = align_recipe(world, world / "never", train={"shard": True})
    setting = look(recipe, GPU)
    one, two = (make_plan(recipe, replace(setting, devices=devices)).memory for devices in (1, 2))
    assert one.weights - two.weights == 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48)  # half of two layers, in bf16
    assert one.gradients == two.gradients


def test_sharing_the_layers_is_advised_before_adapters(world: Path) -> None:
    recipe = stage_2(world, gradient_checkpointing=True, row_length=256)
    setting = replace(long_samples(look(recipe, GPU)), devices=8)
    needed = make_plan(recipe, setting).memory.total
    small = replace(setting, device=replace(GPU, memory=int(needed * 0.9 / 0.92)))
    assert with_advice(recipe, small, make_plan(recipe, small)).advice == ("train.shard=true",)
    alone = replace(small, devices=1)
    assert with_advice(recipe, alone, make_plan(recipe, alone)).advice != ("train.shard=true",)


def test_on_a_cpu_the_program_and_the_pictures_count(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Rates(matmul=1e9, attention=1e9, bandwidth=1e9)
    monkeypatch.setattr("sightline.train.setting.measured_rates", lambda **shapes: slow)
    plan, measured = plan_recipe(stage_2(world), device="cpu")
    assert measured is None
    assert plan.memory.program > 100 * 2**20
    assert plan.memory.pictures in (4 * 4 * 3 * 32**2, 5 * 4 * 3 * 32**2)  # one sample has two
    assert (plan.mfu, plan.device.name) == (None, "cpu")


def test_lengths_are_those_of_the_data(world: Path) -> None:
    setting, plan = planned(stage_2(world))
    assert (plan.samples, plan.steps) == (11, STEPS)
    assert setting.lengths == "all samples of the recipe's data"
    assert len(setting.steps) == STEPS
    assert all(len(step) == 4 for step in setting.steps)
    assert {one.pictures for step in setting.steps for one in step} == {0, 1, 2}


@pytest.mark.parametrize(("recipe_of", "words"), [(stage_2, "665K mixture"), (None, "558K captions")])
def test_without_data_lengths_are_assumed_and_said_to_be(world: Path, recipe_of: Any, words: str) -> None:
    recipe = align_recipe(world, world / "never") if recipe_of is None else recipe_of(world)
    missing = recipe.model_copy(update={"data": (recipe.data[0].model_copy(update={"path": "none.json"}),)})
    found = survey(missing, None, picture_tokens=16)
    assert found.source.startswith("assumed, as none.json is not here: ")
    assert words in found.source
    assert found == assumed(missing, 16, why="none.json is not here")
    assert max(one.positions for one in found.seen) <= recipe.max_length


def test_epochs_are_turned_into_steps(world: Path) -> None:
    _, plan = planned(stage_2(world, steps=None, epochs=4))
    assert plan.steps == 11  # 44 samples, 4 at a time


def test_a_mixture_counts_as_often_as_its_samples_come(world: Path) -> None:
    recipe = stage_2(world, steps=None, epochs=2)
    (source,) = recipe.data
    captions = source.model_copy(update={"path": str(world / "align.json"), "count": 2})
    mixed = recipe.model_copy(update={"data": (source.model_copy(update={"weight": 3.0}), captions)})
    setting, plan = planned(mixed)
    assert (plan.samples, plan.steps) == (35, 18)
    shown = [one.pictures for step in setting.steps[:8] for one in step]
    assert shown.count(0) >= 3, "two samples without pictures, three times each"


def test_devices_share_the_samples_but_each_updates_all_weights(world: Path) -> None:
    setting = long_samples(look(stage_2(world), GPU))
    slow = replace(setting, rates=replace(setting.rates, bandwidth=setting.rates.bandwidth / 100))
    one, four = (make_plan(stage_2(world), replace(slow, devices=devices)) for devices in (1, 4))
    trained = sum(part.trained for part in one.parts.values())
    update = trained * UPDATE_BYTES / slow.rates.bandwidth
    assert four.step_seconds >= one.step_seconds / 4 + 0.75 * update
    assert (sum(one.row.lengths), sum(four.row.lengths)) == (16 * 250, 4 * 250)
    assert one.hours == pytest.approx(STEPS * one.step_seconds / 3600)
    assert to_json(four, price=3.0, measured=None)["cost"] == pytest.approx(4 * four.hours * 3)
    assert four.mfu == pytest.approx((one.mfu or 0) * one.step_seconds / four.step_seconds / 4)


def test_a_device_waits_for_the_one_with_the_longest_sample(world: Path) -> None:
    short, long = Length(positions=20, trained=5, pictures=0), Length(positions=200, trained=50, pictures=0)
    setting = replace(look(stage_2(world), GPU), steps=((long, short, short, short),), count=4, devices=4)
    alone = make_plan(stage_2(world), replace(setting, steps=((long,),), devices=1))
    assert make_plan(stage_2(world), setting).step_seconds == pytest.approx(alone.step_seconds)


def test_more_devices_than_a_step_has_samples_are_refused_as_a_run_refuses_them(world: Path) -> None:
    with pytest.raises(ConfigError, match=r"^train\.batch: found 4, expected at least one sample for each of the 5 "):
        plan_recipe(stage_2(world), device="h100-80g", devices=5)


def test_a_gpu_that_nobody_knows_does_not_matter_where_one_is_named(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown() -> None:
        raise ConfigError("the GPU here, NVIDIA T4, is not known")

    monkeypatch.setattr("sightline.train.advise.present", unknown)
    plan, _ = plan_recipe(stage_2(world), device="h100-80g")
    assert plan.device.name == "h100-80g"
    with pytest.raises(ConfigError, match="--measure: h100-80g is not here, another GPU is"):
        plan_recipe(stage_2(world), device="h100-80g", measured=True)


def test_where_the_encoder_trains_a_row_of_many_pictures_may_decide(world: Path) -> None:
    words, picture = Length(positions=250, trained=60, pictures=0), Length(positions=100, trained=20, pictures=4)
    recipe = stage_2(world, lr={"vision": 1e-4, "connector": 1e-3}, row_length=250)
    setting = replace(look(recipe, GPU), steps=((words, picture, picture),), count=3)
    assert make_plan(recipe, setting).row.pictures == 8


@pytest.mark.parametrize("family", ["stablelm", "gemma2"])
def test_families_that_are_trained_otherwise_are_planned_as_they_are_trained(
    world: Path, tmp_path: Path, family: str
) -> None:
    """Without packing; and with all logits at once, which weigh more than a few pieces of them."""
    tiny_of(family).save_pretrained(tmp_path / family)
    recipe = stage_2(world)
    model = recipe.model.model_copy(update={"language": str(tmp_path / family), "tokenizer": str(world / "language")})
    plan, _ = plan_recipe(recipe.model_copy(update={"model": model}), device="h100-80g")
    assert plan.memory.total > 0
    if family == "stablelm":
        assert plan.row.padded
    else:
        logits = 4 * plan.row.trained * 4096
        assert plan.memory.logits + plan.memory.working > 2 * logits


def test_a_family_whose_work_cannot_be_followed_is_one_line(world: Path, tmp_path: Path) -> None:
    tiny_of("mamba").save_pretrained(tmp_path / "mamba")
    recipe = stage_2(world)
    model = recipe.model.model_copy(update={"language": str(tmp_path / "mamba"), "tokenizer": str(world / "language")})
    with pytest.raises(ConfigError, match=r"^MambaForCausalLM cannot be planned .*train\.steps=3") as caught:
        plan_recipe(recipe.model_copy(update={"model": model}), device="h100-80g")
    assert "\n" not in str(caught.value)


def tiny_of(family: str) -> Any:
    """A language model of a family with 4,096 rows."""
    if family == "mamba":
        return MambaForCausalLM(MambaConfig(vocab_size=4096, hidden_size=32, num_hidden_layers=2, state_size=4))
    options = {"gemma2": {"head_dim": 8}}.get(family, {})
    config = language_config("llama", vocab_size=4096) | {"model_type": family} | options
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))


def test_a_run_that_fits_is_left_alone(world: Path) -> None:
    setting, plan = planned(stage_2(world))
    assert plan.fits
    assert with_advice(stage_2(world), setting, plan).advice == ()


def test_recomputing_without_need_is_told(world: Path) -> None:
    recipe = stage_2(world, gradient_checkpointing=True)
    setting, plan = planned(recipe)
    assert with_advice(recipe, setting, plan).advice == ("train.gradient_checkpointing=false",)


def long_samples(setting: Setting) -> Setting:
    """A step of samples that fill rows of 2,048."""
    return replace(setting, steps=((Length(positions=250, trained=60, pictures=1),) * 16,), count=16)


@pytest.mark.parametrize(
    ("spare", "advice"),
    [
        (0.9, "train.gradient_checkpointing=true"),
        (0.3, "train.row_length=512 train.gradient_checkpointing=true"),
        (0.001, "a device with more memory, or a smaller model"),
    ],
)
def test_advice_is_the_cheapest_change_that_fits(world: Path, spare: float, advice: str) -> None:
    recipe = stage_2(world, row_length=2048)
    setting = long_samples(look(recipe, GPU))
    needed = make_plan(recipe, setting).memory.total
    small = replace(setting, device=replace(GPU, memory=int(needed * spare / 0.92)))
    plan = make_plan(recipe, small)
    assert not plan.fits
    found = with_advice(recipe, small, plan)
    assert " ".join(found.advice) == advice


def test_measured_steps_set_the_pace_but_for_the_first(world: Path) -> None:
    _, plan = planned(stage_2(world))
    first, second, third = plan.first_seconds
    taken = Measured(seconds=(99.0, 3 * second, 3 * third), waited=(0.0,) * 3, peak_memory=None)
    found = calibrated(plan, plan, taken, holes=0.0)
    assert found.step_seconds == pytest.approx(3 * plan.step_seconds)
    assert found.first_seconds == pytest.approx((3 * first, 3 * second, 3 * third))
    assert found.mfu == pytest.approx((plan.mfu or 0) / 3)


def test_steps_of_one_device_set_the_pace_of_several(world: Path) -> None:
    setting, alone = planned(stage_2(world))
    several = make_plan(stage_2(world), replace(setting, devices=4))
    twice = tuple(2 * seconds for seconds in alone.first_seconds)
    found = calibrated(several, alone, Measured(seconds=twice, waited=(0.0,) * 3, peak_memory=None), holes=0.5)
    assert found.step_seconds == pytest.approx(2 * several.step_seconds)
    assert found.memory.holes == pytest.approx(several.memory.passing / 2, abs=1)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_of_fewer_steps_than_are_measured_has_their_pace(world: Path, steps: int) -> None:
    _, plan = planned(stage_2(world, steps=steps))
    taken = Measured(seconds=(9.0, 2 * plan.first_seconds[-1], 7.0), waited=(0.0,) * 3, peak_memory=None)
    assert calibrated(plan, plan, taken, holes=0.0).step_seconds == pytest.approx(2 * plan.step_seconds)


def test_steps_of_one_process_say_nothing_of_layers_that_are_shared(world: Path) -> None:
    with pytest.raises(ConfigError, match=r"--measure takes its steps in one process, which train\.shard does not cut"):
        plan_recipe(stage_2(world, shard=True), device="cpu", devices=2, measured=True)


def test_the_heap_of_a_cpu_has_holes_unless_large_tensors_have_their_own_pages(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    memory = plan_recipe(stage_2(world), device="cpu")[0].memory
    assert memory.passing == memory.gradients + memory.activations + memory.logits + memory.working > 0
    assert memory.holes == pytest.approx(0.65 * memory.passing, abs=1)
    assert planned(stage_2(world))[1].memory.holes == 0
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1048576")
    assert plan_recipe(stage_2(world), device="cpu")[0].memory.holes == 0


@pytest.mark.parametrize(("peak", "share"), [(170, 1.0), (110, 0.0), (60, 0.0), (140, 0.5)])
def test_what_steps_held_beside_a_plans_tensors_is_a_share_of_the_passing_ones(peak: int, share: float) -> None:
    planned = Memory(
        weights=30, gradients=10, optimizer=20, activations=30, logits=15, working=5, pictures=0, program=0, holes=40
    )
    assert measured_holes(planned, peak) == share


def test_the_peak_of_measured_steps_is_the_plans(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = stage_2(world)
    usual, _ = plan_recipe(recipe, device="cpu")
    found = planned_with_peak(recipe, usual.memory.total + GIB, monkeypatch)
    assert found.memory.total == usual.memory.total + GIB
    assert "holes " in table(found, price=None, measured=None)
    unknown = planned_with_peak(recipe, None, monkeypatch)
    assert unknown.memory.holes == usual.memory.holes


def test_a_run_that_fits_but_for_the_measured_holes_is_advised(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = stage_2(world, row_length=2048)
    plan, _ = plan_recipe(recipe, device="cpu")
    found = planned_with_peak(recipe, plan.usable + 1, monkeypatch)
    assert plan.fits
    assert not found.fits
    assert found.advice == ("train.gradient_checkpointing=true",)


def test_what_would_not_fit_beside_the_measured_holes_is_not_advised(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = stage_2(world, row_length=2048, gradient_checkpointing=True)
    plan, _ = plan_recipe(recipe, device="cpu")
    assert plan.advice == ("train.gradient_checkpointing=false",)
    found = planned_with_peak(recipe, plan.usable, monkeypatch)
    assert found.fits
    assert found.advice == ()


def planned_with_peak(recipe: Recipe, peak: int | None, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan after three steps that held so many bytes."""
    taken = Measured(seconds=(1.0,) * 3, waited=(0.0,) * 3, peak_memory=peak)
    monkeypatch.setattr("sightline.train.advise.measure", lambda recipe, device: taken)
    return plan_recipe(recipe, device="cpu", measured=True)[0]


def test_what_is_not_here_cannot_be_measured(world: Path) -> None:
    with pytest.raises(ConfigError, match="--measure: h200-141g is not here, "):
        plan_recipe(stage_2(world), device="h200-141g", measured=True)


def test_the_table_and_json_tell_the_same(world: Path) -> None:
    recipe = stage_2(world)
    plan, _ = plan_recipe(recipe, device="h100-80g", devices=4)
    taken = Measured(seconds=(3.0, 1.0, 1.0), waited=(0.0,) * 3, peak_memory=GIB)
    text = table(plan, price=2.0, measured=taken)
    content = json.loads(json.dumps(to_json(plan, price=2.0, measured=taken)))
    assert "small-instruct on 4 x h100-80g: 16 tokens per picture" in text
    assert f"{plan.parts['language'].trained:,}" in text
    assert "fits in" in text
    assert "measured: 3.00, 1.00, 1.00 s a step, peak 1.00 GiB" in text
    assert content["memory"]["total"] == plan.memory.total
    assert content["fits"] is True
    assert content["measured"]["peak_memory"] == GIB


def test_data_sheets_are_not_believed_to_the_last_flop() -> None:
    assert stated_rates(GPU, torch.bfloat16).matmul < (GPU.peak_flops or 0)
    assert stated_rates(GPU, torch.float32).matmul < stated_rates(GPU, torch.bfloat16).matmul / 10
    ada = GPUS["rtx4090-24g"]
    assert stated_rates(ada, torch.float32).matmul == stated_rates(ada, torch.bfloat16).matmul / 2


def test_rows_are_as_long_as_the_device_likes_them_unless_the_recipe_says(world: Path) -> None:
    """16 samples of 250 positions: a row of 4,096 on a GPU, two of 2,048 on a CPU."""
    on_gpu = long_samples(look(stage_2(world), GPU))
    on_cpu = replace(on_gpu, device=device_named("cpu"))
    assert sum(make_plan(stage_2(world), on_gpu).row.lengths) == 16 * 250
    assert sum(make_plan(stage_2(world), on_cpu).row.lengths) == 8 * 250
    assert sum(make_plan(stage_2(world, row_length=500), on_cpu).row.lengths) == 2 * 250
