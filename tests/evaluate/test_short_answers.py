"""Questions with short answers, asked of a model in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sightline.errors import DataError
from sightline.evaluate.blind import swapped
from sightline.evaluate.short_answers import Answered, answer_questions, score, table, write_answers
from sightline.evaluate.tasks.task import Question
from sightline.infer.chat import ChatSession
from sightline.infer.sampling import Sampling
from tests.tiny_checkpoint import tiny_assistant

LINE = {"question_id": "7", "image": "7.png", "text": "What color?", "answer": "red", "category": "color"}


def question(
    number: int, image: str, *, text: str = "What color?", answer: str = "red", category: str = "color"
) -> Question:
    return Question(id=str(number), image=image, text=text, answers=(answer,), group=category, more={"unseen": False})


def answered(category: str, correct: bool) -> Answered:
    return Answered(question=question(0, "0.png", category=category), image="0.png", given="", correct=correct)


def test_every_question_counts_the_same() -> None:
    answers = [answered("shape", True)] + [answered("color", correct) for correct in (True, False, False)]
    scores = score(answers)
    assert (scores.overall, scores.questions) == (0.5, 4)
    assert dict(scores.by_type) == {"color": 1 / 3, "shape": 1.0}
    assert dict(scores.count_by_type) == {"color": 3, "shape": 1}
    assert list(scores.to_json()) == ["overall", "by_type", "questions", "count_by_type"]
    assert json.loads(json.dumps(scores.to_json()))["overall"] == 0.5


def test_no_answers_score_zero() -> None:
    assert (score([]).overall, score([]).questions) == (0.0, 0)


def test_table_has_a_line_per_category_and_a_column_per_model() -> None:
    ours = score([answered("color", True), answered("shape", False)])
    blind = score([answered("color", False)])
    lines = [line.split() for line in table({"ours": ours, "a long baseline": blind}).split("\n")]
    assert lines == [
        ["questions", "ours", "a", "long", "baseline"],
        ["color", "1", "100.0%", "0.0%"],
        ["shape", "1", "0.0%", "0.0%"],
        ["overall", "2", "50.0%", "0.0%"],
    ]
    widths = {len(line) for line in table({"ours": ours, "a long baseline": blind}).split("\n")}
    assert len(widths) == 1


# ---- files -----------------------------------------------------------------------------------------------------------


def test_answers_are_written_with_what_was_shown(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    write_answers(path, [Answered(question=question(7, "7.png"), image="9.png", given="blue", correct=False)])
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert written == [{**LINE, "unseen": False, "shown": "9.png", "given": "blue", "correct": False}]


# ---- with a model ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        noise = Image.effect_noise((30 + 9 * number, 40), 80)
        Image.merge("RGB", [noise, noise.rotate(90 * number), noise]).save(root / f"{number}.png")
    return root


QUESTIONS = [
    question(number, f"{number % 3}.png", text=text)
    for number, text in enumerate(["Why?", "What color is the small star?", "Is it?", "Where?", "How many? " * 5])
]


def test_answers_are_those_of_a_chat_in_the_order_of_the_questions(pictures: Path) -> None:
    model, processor = tiny_assistant()
    said: list[str] = []
    answers = answer_questions(model, processor, QUESTIONS, root=pictures, batch=2, say=said.append)
    assert [answer.question for answer in answers] == QUESTIONS
    assert [answer.image for answer in answers] == [asked.image for asked in QUESTIONS]
    for answer in answers:
        session = ChatSession(model=model, processor=processor, sampling=Sampling(max_new_tokens=16))
        with Image.open(pictures / answer.image) as picture:
            assert session.ask(answer.question.text, [picture]) == answer.given
    assert said[-1] == "answered 5 of 5 questions"


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_size_of_a_batch_changes_no_answer(pictures: Path, batch: int) -> None:
    model, processor = tiny_assistant()
    whole = answer_questions(model, processor, QUESTIONS, root=pictures, batch=5)
    assert answer_questions(model, processor, QUESTIONS, root=pictures, batch=batch) == whole


def test_an_answer_is_right_when_it_is_what_was_expected(pictures: Path) -> None:
    model, processor = tiny_assistant()
    given = [answer.given for answer in answer_questions(model, processor, QUESTIONS, root=pictures)]
    expecting = [
        question(number, asked.image, text=asked.text, answer=f" THE {words}." if number % 2 else "other")
        for number, (asked, words) in enumerate(zip(QUESTIONS, given, strict=True))
    ]
    found = [answer.correct for answer in answer_questions(model, processor, expecting, root=pictures)]
    assert found == [False, True, False, True, False]


def test_swapped_pictures_are_shown_and_named(pictures: Path) -> None:
    model, processor = tiny_assistant()
    blind = answer_questions(model, processor, QUESTIONS, root=pictures, swap_images=True)
    assert [answer.image for answer in blind] == swapped([asked.image for asked in QUESTIONS])
    as_shown = [question(number, answer.image, text=answer.question.text) for number, answer in enumerate(blind)]
    seeing = answer_questions(model, processor, as_shown, root=pictures)
    assert [answer.given for answer in blind] == [answer.given for answer in seeing]


def test_a_missing_picture_is_named_before_anything_is_answered(pictures: Path) -> None:
    model, processor = tiny_assistant()
    said: list[str] = []
    lost = [*QUESTIONS, question(9, "lost.png", text="word " * 30)]
    with pytest.raises(DataError, match=r"lost\.png.*no such file"):
        answer_questions(model, processor, lost, root=pictures, batch=1, say=said.append)
    assert said == []
