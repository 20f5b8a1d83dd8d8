"""Each check finds what it is for, and good replies pass all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.synth.checks import REASONS, Judge
from sightline.synth.context import Context
from sightline.synth.grammar import Pair, parse_pairs, write_pairs
from sightline.synth.kinds import load_kinds
from sightline.synth.plan import Subject
from tests.synth.samples import VOCABULARY, YARD

KINDS = load_kinds()
JUDGE = Judge(KINDS, VOCABULARY)
GOOD = Pair("Who is watching?", "A woman watches the dogs from behind the bench.")


def verdict(*pairs: Pair, kind: str = "conversation", context: Context = YARD) -> str | None:
    return JUDGE.reason(kind, Subject(context=context), write_pairs(pairs))


def beside(answer: str, question: str = "What else is there?") -> str | None:
    """The verdict on a dialogue with one good pair and this one."""
    return verdict(GOOD, Pair(question, answer))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "answer_empty"),
        ("...", "answer_empty"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("As an AI language model, I have no eyes.", "refused"),
        ("I am unable to view images.", "refused"),
        ("I cannot see the image.", "refused"),
        ("The dogs\x00 sleep.", "text_control"),
        ("Look: <image> shows dogs.", "image_mark"),
        ("The dogs sleep.<|im_end|>", "special_token"),
        ("The dogs sleep.</s>", "special_token"),
        ("[INST] The dogs sleep.", "special_token"),
        ("The dogs sleep.\nUSER: And then?", "role_marker"),
        ("The dogs sleep.\n### Assistant: yes.", "role_marker"),
        ("See https://dogs.example/1.", "url"),
        ("See www.dogs.example for more.", "url"),
        ("See dogs.com for more.", "url"),
        ("The caption says that dogs sleep.", "leak_source"),
        ("The bounding box of the dog is small.", "leak_source"),
        ("According to the description, they sleep.", "leak_source"),
        ("The sentences mention two dogs.", "leak_source"),
        ("They are at those coordinates.", "leak_source"),
        ("The dog is at [0.1, 0.6, 0.3, 0.8].", "leak_coordinates"),
        ("The dog begins at 0.125 of the width.", "leak_coordinates"),
        ("The dog is at (0.1, 0.6).", "leak_coordinates"),
        ("Собаки спят на солнце рядом со скамейкой во дворе, и женщина смотрит на них, улыбаясь.", "language"),
        ("Yes", "too_short"),
        ("dog " * 200, "too_long"),
        ("There is a cat on the bench.", "contradicts_objects"),
        ("There are five dogs in the picture.", "contradicts_counts"),
    ],
)
def test_bad_answers(answer: str, reason: str) -> None:
    assert beside(answer) == reason
    assert reason in REASONS


@pytest.mark.parametrize(
    "answer",
    [
        "Two dogs sleep in the sun.",
        "The picture does not tell who she is.",
        "I cannot tell from the picture what she is thinking.",
        "She seems sorry for waking them, but I may be wrong about that.",
        "The user of the bench left a hat: nobody sits there now.",
        "The bench costs 0.5 of what a new one costs.",
        "The text on the sign says: no dogs.",
        "The sun is behind the house, e.g. to the west.",
        "She says: stay! The dogs obey.",
        "A café with a naïve façade is next to them.",
        "The information board is on the left.",
        "It weighs 3.250 kg.",
    ],
)
def test_good_answers_pass(answer: str) -> None:
    assert beside(answer) is None


def test_a_question_is_checked_too() -> None:
    assert beside("They sleep in the sun.", "What does the caption say about the dogs?") == "leak_source"


def test_a_word_of_the_captions_stands_in_the_picture() -> None:
    poster = Context(id="1", image="1.jpg", captions=("A poster with a caption below a dog.",), boxes=())
    answer = Pair("What is on the poster?", "A dog, and a caption below it.")
    assert verdict(GOOD, answer) == "leak_source"
    assert verdict(GOOD, answer, context=poster) is None


def test_the_form_of_the_reply() -> None:
    assert JUDGE.reason("conversation", Subject(context=YARD), "There are dogs.") == "grammar"
    assert JUDGE.reason("conversation", Subject(context=YARD), "I'm sorry, but I cannot do that.") == "refused"
    assert verdict(GOOD) == "pair_count"
    assert verdict(*(Pair(f"Question {number}?", "A dog sleeps.") for number in range(9))) == "pair_count"
    assert verdict(GOOD, Pair("Who is watching??", "A woman does.")) == "question_repeated"


def test_a_description_is_one_answer() -> None:
    subject = Subject(context=YARD, questions=("Describe the picture.",))
    good = (
        "Two brown dogs sleep side by side in the sun. To their right stands a bench, and a woman watches them from it."
    )
    assert JUDGE.reason("detail", subject, good) is None
    assert JUDGE.reason("detail", subject, "Two dogs sleep.") == "too_short"


def test_short_answers_are_short() -> None:
    pairs = [Pair("What color are the dogs?", "brown"), Pair("How many dogs are there?", "2")]
    assert verdict(*pairs, kind="vqa") is None
    assert verdict(*pairs, Pair("Who?", "a woman who stands behind the bench"), kind="vqa") == "too_long"


def test_honest_answers_about_absent_things_pass() -> None:
    pairs = [
        Pair("What color is the cat?", "There is no cat in the picture. There are two dogs."),
        Pair("Is the woman asleep?", "No, she is awake and watches the dogs."),
        Pair("What is her name?", "The picture does not tell."),
        Pair("Is there a bench?", "Yes, there is a wooden bench."),
    ]
    assert verdict(*pairs, kind="negatives") is None
    assert verdict(*pairs, Pair("Is there a car?", "Yes, there is."), kind="negatives") == "contradicts_objects"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_example_of_the_prompts_passes_the_checks(kind: str) -> None:
    """What the teacher is told to imitate, with its context parsed back from the prompt."""
    assert len(KINDS[kind].examples) >= 2
    for example in KINDS[kind].examples:
        captions, _, boxes = example.context.strip().partition("\n\n")
        assert bool(boxes) is ("boxes" in KINDS[kind].shows)
        context = Context(id="1", image="1.jpg", captions=tuple(captions.splitlines()), boxes=())
        questions = KINDS[kind].questions[:1]
        subject = Subject(context=context, questions=questions)
        assert JUDGE.reason(kind, subject, example.reply) is None, example.reply
        if not questions:
            assert parse_pairs(example.reply)


def test_prompts_of_the_user_set_the_limits(tmp_path: Path) -> None:
    (tmp_path / "brief.yaml").write_text("form: pairs\nshows: [captions]\nsystem: Be brief.\nwords: [1, 3]\n")
    judge = Judge(load_kinds(tmp_path), VOCABULARY)
    assert judge.reason("brief", Subject(context=YARD), write_pairs([Pair("Who?", "a tall woman")])) is None
    assert judge.reason("brief", Subject(context=YARD), write_pairs([GOOD])) == "too_long"
