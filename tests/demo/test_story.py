"""The demo as a whole, with parts and counts of the smallest kind, and how its scores are made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sightline.config import load_recipe
from sightline.data.normalisation import image_normalisation
from sightline.data.pixels import ImageTransform
from sightline.data.processor import load_tokenizer
from sightline.data.sample import ImageRef, Sample
from sightline.demo import report, story
from sightline.demo.coco import file_name
from sightline.demo.corpus import SPELT_FROM, map_words, write_document
from sightline.demo.dataset import Counts
from sightline.demo.official import TASKS
from sightline.demo.paint import paint
from sightline.demo.pretrain_language import answer_loss, collate, tokenize
from sightline.demo.story import Clock, objects_named, pair_scores, run_demo
from sightline.demo.teacher import description
from sightline.evaluate.short_answers import Answered
from sightline.evaluate.tasks.task import Question
from sightline.infer import load
from sightline.infer.chat import ChatSession
from sightline.model.build import build_language, build_vision
from sightline.train.assemble import assemble_processor
from tests.command_line import sightline
from tests.data.conversations import turns_of
from tests.demo.scenes import scene_of, scenes, thing
from tests.fakes import language_config, vision_config
from tests.tiny_checkpoint import tiny_processor

RECIPES = files("sightline.demo") / "recipes"
SMALL = partial(Counts, validation=2, test_seen=6, test_unseen=3, benchmarks=2)


# ---- scores ----------------------------------------------------------------------------------------------------------


def answered(category: str, *, correct: bool, unseen: bool = False) -> Answered:
    question = Question(id="1", image="1.png", text="?", answers=("x",), group=category, more={"unseen": unseen})
    return Answered(question=question, image="1.png", given="", correct=correct)


def many(category: str, right: int, wrong: int, *, unseen: bool = False) -> list[Answered]:
    return [answered(category, correct=number < right, unseen=unseen) for number in range(right + wrong)]


@pytest.mark.parametrize(
    ("answers", "seen", "unseen"),
    [
        pytest.param([], 0, 0, id="nothing"),
        pytest.param(many("color", 3, 1), 0, 0, id="no unseen ones"),
        pytest.param(many("color", 3, 1, unseen=True), 0, 0.75, id="only unseen ones"),
        pytest.param(many("color", 3, 1) + many("color", 1, 1, unseen=True), 0.75, 0.5, id="one type"),
        pytest.param(
            many("color", 9, 0) + many("shape", 0, 1) + many("color", 1, 0, unseen=True)
            + many("shape", 1, 2, unseen=True), 0.25, 0.5, id="weighted as the unseen ones are",
        ),
        pytest.param(
            many("color", 1, 0) + many("reading", 0, 9) + many("color", 2, 0, unseen=True), 1.0, 1.0,
            id="types that ask of no pair do not count",
        ),
        pytest.param(
            many("color", 1, 1) + many("color", 1, 0, unseen=True) + many("size", 0, 1, unseen=True), 0.5, 0.5,
            id="a type without seen questions",
        ),
    ],
)  # fmt: skip
def test_pairs_are_compared_over_the_same_mix_of_types(answers: Sequence[Answered], seen: float, unseen: float) -> None:
    assert pair_scores(list(answers)) == pytest.approx((seen, unseen))


RED_STAR, RED_STAR_2, BLUE_RING = thing("red", "star"), thing("red", "star", x=10), thing("blue", "ring", x=80)


@pytest.mark.parametrize(
    ("things", "caption", "share"),
    [
        ((RED_STAR,), "a large red star in the center", 1),
        ((RED_STAR,), "a large blue star in the center", 0),
        ((RED_STAR,), "red and a star", 0),
        ((RED_STAR,), "", 0),
        ((RED_STAR, BLUE_RING), "a red star and a blue ring", 1),
        ((RED_STAR, BLUE_RING), "a red star and a red star", 0.5),
        ((RED_STAR, BLUE_RING), "a blue star and a red ring", 0),
        ((RED_STAR, RED_STAR_2), "a red star", 0.5),
        ((RED_STAR, RED_STAR_2), "2 red stars", 0.5),
        ((RED_STAR, RED_STAR_2), "a red star and a red star", 1),
        ((RED_STAR,), "a red star, a red star and a blue ring", 1),
        ((RED_STAR,), "a hatred star", 0),
        ((RED_STAR,), "a red  star", 0),
    ],
)
def test_a_thing_is_named_by_its_color_beside_its_shape_and_each_mention_counts_once(
    things: tuple[Any, ...], caption: str, share: float
) -> None:
    assert objects_named([scene_of(*things, index=3)], {file_name(3): caption}) == pytest.approx(share)


def test_every_thing_of_every_picture_counts_the_same() -> None:
    scenes = [scene_of(RED_STAR, RED_STAR_2, BLUE_RING, index=1), scene_of(BLUE_RING, index=2)]
    captions = {file_name(1): "a red star", file_name(2): "a blue ring"}
    assert objects_named(scenes, captions) == pytest.approx(2 / 4)


def test_a_clock_keeps_the_time_of_a_phase_that_was_finished_before(tmp_path: Path) -> None:
    with Clock(tmp_path / "clock.json").phase("align"):
        pass
    (tmp_path / "clock.json").write_text('{"align": 41.5}')
    again = Clock(tmp_path / "clock.json")
    with again.phase("align"), pytest.raises(RuntimeError), again.phase("instruct"):
        raise RuntimeError
    with again.phase("evaluate", anew=True):
        pass
    assert again.seconds["align"] == 41.5
    assert set(json.loads((tmp_path / "clock.json").read_text())) == {"align", "evaluate"}


# ---- the recipes -----------------------------------------------------------------------------------------------------


def test_the_recipes_are_llavas_two_stages() -> None:
    align, instruct = (load_recipe(Path(str(RECIPES / f"{stage}.yaml"))) for stage in ("align", "instruct"))
    assert set(align.train.lr) == {"connector"}
    assert set(instruct.train.lr) == {"connector", "language"}
    assert (align.template, instruct.template) == ("plain", "own")
    assert instruct.model.start == align.output
    assert align.model.connector == "linear"
    assert align.data[0].path.startswith("runs/demo/data/")


def test_a_demo_elsewhere_trains_on_its_own_data_from_its_own_start() -> None:
    for stage in ("align", "instruct"):
        path = Path(str(RECIPES / f"{stage}.yaml"))
        assert story._overrides(stage, Path("runs/demo")) == []
        recipe = load_recipe(path, story._overrides(stage, Path("/elsewhere")))
        assert recipe.output == f"/elsewhere/{stage}"
        named = [*recipe.data, *recipe.validation]
        assert all(source.path.startswith("/elsewhere/data/") for source in named)
        assert all(source.images and source.images.startswith("/elsewhere/data/images/") for source in named)
        assert recipe.model.start == (None if stage == "align" else "/elsewhere/align")


# ---- the embedded parts ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts() -> Path:
    """Where the package brings them."""
    found = Path(str(files("sightline.demo") / "parts"))
    absent = [name for name in ("vision", "language") if not (found / name / "model.safetensors").is_file()]
    if absent:
        pytest.skip(f"the embedded parts are not trained yet: {' and '.join(absent)} missing in demo/parts")
    return found


def test_the_parts_are_small_and_say_how_they_were_made(parts: Path) -> None:
    assert sum((parts / name / "model.safetensors").stat().st_size for name in ("vision", "language")) <= 24 * 10**6
    for name in ("vision", "language"):
        rows = [json.loads(line) for line in (parts / name / "log.jsonl").read_text().splitlines()]
        assert rows[-1]["loss"] < rows[0]["loss"] / 2
        made = json.loads((parts / name / "made.json").read_text())
        assert made["command"].startswith(f"sightline parts {name} ")
        assert {"processor", "threads", "torch"} <= set(made)


def test_the_parts_make_a_processor_whose_prompts_are_prefixes(parts: Path) -> None:
    recipe = load_recipe(Path(str(RECIPES / "align.yaml")), ["template=own"])
    processor = assemble_processor(recipe)
    assert processor.settings.image_size == 96
    turns = turns_of((ImageRef(index=0), "\nWhat color is the star?"), "red", "Where is it?", "top left")
    whole = processor.encode(Sample(id="1", images=("1.png",), turns=turns)).ids
    for length in (1, 3):
        prompt = processor.prompt(turns[:length])
        assert whole[: len(prompt)] == prompt
    assert whole.count(processor.image_token_id) == processor.settings.image_tokens


def test_every_word_of_a_map_is_one_token_and_text_survives_the_tokenizer(parts: Path) -> None:
    tokenizer = load_tokenizer(str(parts / "language"))
    for word in map_words():
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1
    for text in (description(scenes()[3]), "naïve  café\n日本 😀", "<|user|> <image> </s>"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_language_model_reads_maps_that_it_has_never_seen(parts: Path) -> None:
    """The share of answers' tokens that it ranks first, on scenes of another seed than its own."""
    tokenizer = load_tokenizer(str(parts / "language"))
    language = build_language(str(parts / "language")).eval()
    documents = [tokenize(write_document(SPELT_FROM + number, seed=77), tokenizer) for number in range(40)]
    with torch.inference_mode():
        _, share = answer_loss(language, *collate(documents, pad=tokenizer.pad_token_id))
    assert share > 0.85


def test_the_encoder_tells_what_lies_where(parts: Path) -> None:
    """Features of two pictures that differ in one thing differ most at its patch."""
    vision = build_vision(str(parts / "vision"))
    mean, std = image_normalisation(str(parts / "vision"), model_type="clip_vision_model")
    transform = ImageTransform(policy="crop", size=96, mean=mean, std=std)
    seen = [thing("blue", "ring", "small", x=72, y=72), thing("blue", "ring", "small", x=72, y=24)]
    pictures = [paint(scene_of(thing("red", "star", x=24, y=24), item, index=1)) for item in seen]
    with torch.inference_mode():
        one, other = vision(torch.stack([torch.from_numpy(transform(picture)) for picture in pictures]))
    change = (one - other).norm(dim=-1).reshape(6, 6)
    moved, still = change[[4, 1], [4, 4]].mean(), change[1, 1]
    assert moved > 1.5 * still


# ---- the whole -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's recipes with random parts and two steps, few pictures, and a report without charts."""
    tokenizer = tiny_processor().tokenizer
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows = len(tokenizer)
    for stage in ("align", "instruct"):
        recipe = yaml.safe_load((RECIPES / f"{stage}.yaml").read_text())
        if stage == "align":
            recipe["model"] |= {
                "vision": {"config": vision_config("clip")},
                "language": {"config": language_config("llama", vocab_size=rows, max_position_embeddings=2048)},
                "tokenizer": str(tmp_path / "tokenizer"),
            }
        recipe["max_length"] = 2048
        del recipe["train"]["epochs"]
        recipe["train"] |= {"steps": 2, "batch": 2, "micro_batch": 1}
        (tmp_path / f"{stage}.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(story, "RECIPES", tmp_path)
    monkeypatch.setattr(story, "Counts", SMALL)
    monkeypatch.setattr(story.os, "cpu_count", lambda: 1)
    variants = {f"{shape}{theme}": "data:," for shape in ("", "-narrow") for theme in ("", "-dark")}
    monkeypatch.setattr(report, "_chart", lambda *arguments: variants)


def run(output: Path) -> tuple[list[str], list[str]]:
    """The printed lines, and what was said on the way."""
    said: list[str] = []
    return run_demo(output, pictures=8, new=False, say=said.append), said


def test_the_demo_goes_the_whole_way_and_continues_where_it_stopped(stand_ins: None, tmp_path: Path) -> None:
    output = tmp_path / "demo"
    lines, said = run(output)
    found = json.loads((output / "report.json").read_text())
    assert {
        "overall", "by_type", "blind", "align_only", "unseen_pairs", "seconds", "questions", "seen_pairs",
        "align_only_objects_named", "parts",
    } <= set(found)  # fmt: skip
    assert found["questions"] == len((output / "answers.jsonl").read_text().splitlines()) == 27
    assert set(found["seconds"]) == {"data", "align", "instruct", "evaluate", "total"}
    assert found["parts"]["align"]["language"]["trained"] == 0 < found["parts"]["instruct"]["language"]["trained"]
    assert "blind" in lines[0]
    assert str(output / "report.html") in lines[-2]
    assert (output / "report.html").is_file()
    model, processor = load(output / "instruct")
    assert isinstance(ChatSession(model=model, processor=processor).ask("Hello!"), str)
    command = lines[-1].partition(": sightline ")[2].split()
    assert sightline(*command, "--limit", 2, "--max-new-tokens", 2) == 0, "the next step that it names can be taken"
    assert {path.parent.name for path in (output / "evaluate").glob("*/report.html")} == set(TASKS)

    weights = (output / "instruct" / "model.safetensors").read_bytes()
    painted = (output / "data" / "counts.json").stat().st_mtime_ns
    again, said_again = run(output)
    assert (output / "instruct" / "model.safetensors").read_bytes() == weights
    assert (output / "data" / "counts.json").stat().st_mtime_ns == painted
    assert again[0] == lines[0], "nothing was trained again, so nothing is scored differently"
    assert any("painting" in line for line in said)
    assert not any("painting" in line for line in said_again)
    assert json.loads((output / "report.json").read_text())["seconds"]["align"] == found["seconds"]["align"]
