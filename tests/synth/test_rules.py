"""What the rules say is in the form of its kind, passes the checks, and is true."""

from __future__ import annotations

import asyncio
import random
import re

import pytest

from sightline.ask.reply import read_reply
from sightline.ask.teacher import Unanswerable
from sightline.demo.describe import captions, place, place_is_clear
from sightline.demo.world import CANVAS, SHAPES, Scene, draw_scene
from sightline.synth.checks import Judge
from sightline.synth.context import Box, Context, fractions
from sightline.synth.facts import at
from sightline.synth.grammar import parse_pairs
from sightline.synth.kinds import ORDER, load_kinds
from sightline.synth.plan import Plan, Subject
from sightline.synth.rules import MODEL, RuleTeacher
from sightline.synth.sources import read_source
from tests.synth.samples import SHARED, VOCABULARY, YARD, needs_contexts

KINDS = load_kinds()
TEACHER = RuleTeacher(sorted(VOCABULARY))
PLAN = Plan(kinds=KINDS, mixture=dict.fromkeys(KINDS), model=MODEL)
WORLD = RuleTeacher([*SHAPES, "sign"])


def reply(kind: str, context: Context, ask: int = 0) -> str:
    question = PLAN.question(kind, context)
    assert question is not None
    return read_reply(asyncio.run(TEACHER.reply(question, ask)), model=MODEL).text


@pytest.mark.parametrize("kind", ORDER)
def test_the_same_question_has_the_same_reply_and_another_asking_another(kind: str) -> None:
    assert reply(kind, YARD) == reply(kind, YARD)
    assert kind == "detail" or len({reply(kind, YARD, ask) for ask in range(5)}) > 1


def test_a_context_that_says_nothing_is_unanswerable() -> None:
    crowd = Context(id="1", image="1.jpg", captions=("People.",), boxes=())
    with pytest.raises(Unanswerable, match="nothing_to_say"):
        reply("reasoning", crowd)


def test_a_kind_of_the_user_is_not_for_rules() -> None:
    assert TEACHER.write("poems", YARD, lot="0") == ""


def test_questions_of_an_interview_are_those_of_the_kind() -> None:
    questions = TEACHER.interview("vqa", YARD)
    assert questions == TEACHER.interview("vqa", YARD)
    assert len(questions) == len(set(questions)) == 7


@needs_contexts
@pytest.mark.parametrize("kind", ORDER)
def test_on_real_contexts_every_reply_passes_the_checks(kind: str) -> None:
    source = read_source(SHARED)
    teacher, judge = RuleTeacher(sorted(source.vocabulary)), Judge(KINDS, source.vocabulary)
    silent = 0
    for context in source.contexts:
        question = PLAN.question(kind, context)
        assert question is not None
        text = teacher.write(kind, context, lot=question.key)
        silent += not text
        if text:
            assert judge.reason(kind, Subject.from_json(question.subject), text) is None, text
    assert silent <= 5


# ---- the painted world knows the truth -------------------------------------------------------------------------------


def painted(scene: Scene) -> Context:
    boxes = []
    for thing in scene.things:
        radius = thing.diameter / 2
        corners = fractions(
            thing.x - radius, thing.y - radius, thing.x + radius, thing.y + radius, width=CANVAS, height=CANVAS
        )
        assert corners is not None
        boxes.append(Box(category=thing.shape, corners=corners))
    said = captions(scene, random.Random(scene.index))
    return Context(id=str(scene.index), image=f"{scene.index}.png", captions=tuple(said), boxes=tuple(boxes))


def true_of(scene: Scene, question: str, answer: str) -> bool | None:
    """Whether the short answer is right, by the scene itself; None for questions that it does not settle."""
    shapes = [thing.shape for thing in scene.things]
    if match := re.match(r"How many (\w+) (?:are there|are in the picture)\?", question):
        shape = match[1].removesuffix("es") if match[1] == "crosses" else match[1].removesuffix("s")
        return answer == str(shapes.count(shape))
    if match := re.match(r"Is there an? (\w+) in the picture\?", question):
        return match[1] == "sign" or answer == ("yes" if match[1] in shapes else "no")
    if match := re.match(r"Where is the (\w+)\?", question):
        (thing,) = (thing for thing in scene.things if thing.shape == match[1])
        return place_is_clear(thing) and at(answer) == at(place(thing))
    if match := re.match(r"What color is the (\w+)\?", question):
        return answer == next(thing.color for thing in scene.things if thing.shape == match[1])
    if match := re.match(r"Is the (\w+) (left|above) .* the (\w+)\?", question):
        one, other = (next(thing for thing in scene.things if thing.shape == name) for name in (match[1], match[3]))
        if match[2] == "left":
            return answer == ("left" if one.x < other.x else "right")
        return answer == ("above" if one.y < other.y else "below")
    return None


def test_short_answers_about_the_painted_world_are_true() -> None:
    seen = 0
    for index in range(150):
        scene = draw_scene(index, seed=11)
        for question, answer in parse_pairs(WORLD.write("vqa", painted(scene), lot=str(index))):
            assert true_of(scene, question, answer) is True, (scene, question, answer)
            seen += 1
    assert seen > 600


def test_negatives_about_the_painted_world_deny_only_what_is_not_there() -> None:
    for index in range(100):
        scene = draw_scene(index, seed=12)
        shapes = {thing.shape for thing in scene.things}
        for question, answer in parse_pairs(WORLD.write("negatives", painted(scene), lot=str(index))):
            if match := re.match(r"(?:No, t|T)here is no (\w+) in the picture", answer):
                assert match[1] not in shapes, (scene, question, answer)
            if match := re.match(r"No, the (\w+) is (\w+)\.$", answer):
                assert {thing.color for thing in scene.things if thing.shape == match[1]} == {match[2]}
