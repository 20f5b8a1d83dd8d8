from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from sightline.errors import ConfigError, DataError
from sightline.synth.context import Box, Context
from sightline.synth.grammar import GrammarError, Pair
from sightline.synth.kinds import load_kinds
from sightline.synth.plan import Mixture, Plan, Subject, chosen, counts, parse_mixture
from tests.synth.samples import YARD, contexts

KINDS = load_kinds()
PLAN = Plan(kinds=KINDS, mixture=dict.fromkeys(KINDS), model="painter-1")
PUBLISHED = {"conversation": 58_000, "detail": 23_000, "reasoning": 77_000}


@pytest.mark.parametrize(
    ("mixture", "pictures", "expected"),
    [
        pytest.param({"a": None, "b": None}, 10, {"a": 10, "b": 10}, id="one of every picture"),
        pytest.param({"a": 3, "b": 7}, 10, {"a": 3, "b": 7}, id="as asked for"),
        pytest.param(PUBLISHED, 118_000, PUBLISHED, id="the published counts"),
        pytest.param(PUBLISHED, 1000, {"conversation": 753, "detail": 299, "reasoning": 1000}, id="in proportion"),
        pytest.param({"a": 100, "b": 1}, 10, {"a": 10, "b": 1}, id="never none at all"),
        pytest.param({"a": 20, "b": None}, 10, {"a": 10, "b": 10}, id="both ways"),
        pytest.param({"a": 20}, 0, {"a": 0}, id="no pictures"),
    ],
)
def test_counts_keep_the_proportions(mixture: Mixture, pictures: int, expected: dict[str, int]) -> None:
    assert counts(mixture, pictures) == expected


def test_a_mixture_is_parsed() -> None:
    assert parse_mixture("conversation=58000, detail", list(KINDS)) == {"conversation": 58_000, "detail": None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("conversations=5", "did you mean"),
        ("detail=0", "at least 1"),
        ("detail=many", "at least 1"),
        ("detail,detail=5", "twice"),
        ("", "no kind ''"),
    ],
)
def test_a_mixture_that_is_wrong_is_one_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_mixture(text, list(KINDS))


def test_the_choice_depends_on_seed_and_kind_but_not_on_order() -> None:
    many = contexts(200)
    shuffled = random.Random(1).sample(many, len(many))
    first = [context.id for context in chosen(many, "detail", 50, seed=3)]
    assert sorted(context.id for context in chosen(shuffled, "detail", 50, seed=3)) == sorted(first)
    assert first != [context.id for context in chosen(many, "detail", 50, seed=4)]
    assert first != [context.id for context in chosen(many, "vqa", 50, seed=3)]
    assert set(first) < {context.id for context in chosen(many, "detail", 60, seed=3)}


def test_a_request_is_made_as_the_original_makes_it() -> None:
    question = PLAN.question("conversation", YARD)
    assert question is not None
    system, *examples, last = question.messages
    assert system.role == "system"
    assert [message.role for message in examples] == ["user", "assistant"] * 2
    assert last.content == "\n".join(YARD.captions)
    assert "bench: [" not in last.content
    detail = PLAN.question("detail", YARD)
    assert detail is not None
    assert detail.messages[-1].content.endswith("person: [0.700, 0.050, 0.850, 0.400]")


def test_what_a_kind_shows_can_be_chosen() -> None:
    kinds = {**KINDS, "conversation": KINDS["conversation"].showing(("boxes",))}
    question = replace(PLAN, kinds=kinds).question("conversation", YARD)
    assert question is not None
    assert question.messages[-1].content.startswith("dog: [0.100")
    assert question.version != KINDS["conversation"].version


def test_a_context_without_what_a_kind_shows_is_not_asked_about() -> None:
    bare = Context(id="1", image="1.jpg", captions=(), boxes=YARD.boxes)
    assert PLAN.question("conversation", bare) is None
    assert PLAN.question("detail", bare) is not None


def test_the_same_plan_makes_the_same_keys_and_another_model_others() -> None:
    keys = [question.key for question in PLAN.questions(contexts(3))]
    assert keys == [question.key for question in PLAN.questions(contexts(3))]
    assert len(set(keys)) == 15
    others = [question.key for question in replace(PLAN, model="painter-2").questions(contexts(3))]
    assert not set(keys) & set(others)


def test_editions_are_those_of_the_questions() -> None:
    for name in KINDS:
        question = PLAN.question(name, YARD)
        assert question is not None
        assert question.edition == PLAN.edition(name)


def test_a_subject_comes_back_from_the_ledger_as_it_was() -> None:
    crowd = Box(category="dog", corners=(0.0, 0.0, 1.0, 1.0), crowd=True)
    context = replace(YARD, boxes=(*YARD.boxes, crowd))
    for subject in (
        Subject(context=context),
        Subject(context=context, questions=("Why?",), suffix="In a word."),
        Subject(context=context, questions=("Why?", "Who?"), interview=True),
    ):
        assert Subject.from_json(subject.to_json()) == subject


def test_a_description_answers_a_question_that_was_drawn() -> None:
    drawn = set()
    for context in contexts(40):
        question = PLAN.question("detail", context)
        assert question is not None
        ((asked, answer),) = Subject.from_json(question.subject).pairs(" A lawn.\n")
        assert answer == "A lawn."
        drawn.add(asked)
    assert 5 < len(drawn) <= len(KINDS["detail"].questions)


def test_an_interview_shows_the_picture_with_its_first_question(tmp_path: Path) -> None:
    (tmp_path / YARD.image).write_bytes(b"pixels")
    plan = replace(PLAN, images=tmp_path, interviewer=lambda kind, context: ["How many?", "Where?"])
    question = plan.question("vqa", YARD)
    assert question is not None
    assert [(message.content, len(message.images)) for message in question.messages] == [
        ("How many?", 1),
        ("Where?", 0),
    ]
    subject = Subject.from_json(question.subject)
    assert subject.pairs('["2", "left"]') == [Pair("How many?", "2"), Pair("Where?", "left")]
    with pytest.raises(GrammarError):
        subject.pairs('["2"]')
    (tmp_path / YARD.image).write_bytes(b"other pixels")
    changed = plan.question("vqa", YARD)
    assert changed is not None
    assert changed.key != question.key
    (tmp_path / YARD.image).unlink()
    with pytest.raises(DataError, match="--images"):
        plan.question("vqa", YARD)
