"""What the engine writes about the demo's world trains with the demo's recipe as it is, with tiny parts."""

from __future__ import annotations

import asyncio
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from sightline.ask.question import Question
from sightline.ask.teacher import completion_body
from sightline.config import load_recipe
from sightline.demo.coco import file_name, write_annotations
from sightline.demo.paint import paint
from sightline.demo.world import draw_scene
from sightline.synth.export import DATA
from sightline.synth.kinds import load_kinds
from sightline.synth.plan import Plan
from sightline.synth.rules import MODEL, RuleTeacher
from sightline.synth.run import Job, run
from sightline.synth.sources import read_source
from sightline.train.log import LOG_FILE, read_log
from sightline.train.loop import train
from sightline.train.run import prepare
from tests.synth.samples import good_reply
from tests.tiny_checkpoint import save_assistant, tiny_assistant

RECIPE = Path(str(files("sightline.demo") / "recipes" / "instruct.yaml"))
SCENES = 16
KINDS = load_kinds()


class ScriptedModel:
    """A language model that always says the right thing in the right form."""

    async def reply(self, question: Question, ask: int) -> bytes:
        text = good_reply(question.kind, question.messages[-1].content)
        return completion_body(text, model=question.model)

    async def close(self) -> None: ...


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data as `sightline demo` lays it out: annotations and pictures."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "images" / "train").mkdir(parents=True)
    scenes = [draw_scene(index, seed=1) for index in range(SCENES)]
    for scene in scenes:
        paint(scene, seed=1).save(folder / "images" / "train" / file_name(scene.index))
    write_annotations(scenes, folder / "annotations", split="train", seed=1)
    return folder


@pytest.mark.parametrize("teacher", ["rules", "language model"])
def test_data_of_the_engine_trains_with_the_recipe_of_the_demo(tmp_path: Path, world: Path, teacher: str) -> None:
    source = read_source(world)
    images = world / "images" / "train"
    model = MODEL if teacher == "rules" else "painter-1"
    plan = Plan(kinds=KINDS, mixture=dict.fromkeys(KINDS), model=model)
    job = Job(directory=tmp_path / "run", source=source, contexts=source.contexts, plan=plan, images=images)
    _, report = run(job, RuleTeacher(sorted(source.vocabulary)) if teacher == "rules" else ScriptedModel())
    assert report.export.samples.total() >= 4 * SCENES
    start = save_assistant(tmp_path / "align", *tiny_assistant())
    log = train_on(job.directory / DATA, images, start, tmp_path / "trained")
    assert [row["step"] for row in log] == [1, 2, 3]
    assert all(row["loss"] > 0 for row in log)


def train_on(data: Path, images: Path, start: Path, output: Path) -> list[Any]:
    """Three steps of the demo's second stage. Only places and lengths differ from the recipe."""
    overrides = [
        f"output={output}", f"model.start={start}", f"data.0.path={data}", f"data.0.images={images}", "validation=[]",
        "train.steps=3", "train.epochs=null", "train.batch=4", "train.device=cpu", "max_length=1024",
    ]  # fmt: skip
    train(prepare(load_recipe(RECIPE, overrides), new=False, say=lambda line: None))
    return list(read_log(output / LOG_FILE))


def test_samples_about_the_painted_world_name_its_pictures(tmp_path: Path, world: Path) -> None:
    source = read_source(world)
    teacher = RuleTeacher(sorted(source.vocabulary))
    plan = Plan(kinds=KINDS, mixture={"vqa": 4}, model=MODEL)
    job = Job(directory=tmp_path, source=source, contexts=source.contexts, plan=plan)
    run(job, teacher)
    asyncio.run(teacher.close())
    named = {sample["image"] for sample in json.loads((tmp_path / DATA).read_text())}
    assert len(named) == 4
    assert all((world / "images" / "train" / name).is_file() for name in named)
