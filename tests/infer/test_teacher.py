"""A checkpoint answers an interview about a picture, the same way each time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from sightline.ask.question import Message, Picture, Question
from sightline.ask.reply import read_reply
from sightline.ask.teacher import Unanswerable
from sightline.data.image import open_image
from sightline.errors import CheckpointError
from sightline.infer.chat import ChatSession
from sightline.infer.sampling import Sampling
from sightline.infer.teacher import CheckpointTeacher, checkpoint_name
from tests.tiny_checkpoint import save_assistant, tiny_assistant

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_assistant(tmp_path_factory.mktemp("teacher") / "trained", *tiny_assistant())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, color in enumerate(("red", "blue")):
        Image.new("RGB", (40, 30), color).save(folder / f"{number}.png")
    return folder


def interview(path: Path, *questions: str, max_tokens: int = 6) -> Question:
    messages = [
        Message("user", text, images=(Picture.of(path),) if number == 0 else ())
        for number, text in enumerate(questions)
    ]
    return Question.of(messages, model="checkpoint-x", kind="vqa", max_tokens=max_tokens)


def answers(teacher: CheckpointTeacher, question: Question, ask: int = 0) -> list[str]:
    reply = read_reply(asyncio.run(teacher.reply(question, ask)), model=teacher.name)
    found: list[str] = json.loads(reply.text)
    return found


def test_every_question_is_answered_as_in_a_conversation(checkpoint: Path, images: Path) -> None:
    teacher = CheckpointTeacher(checkpoint, images=images, device=CPU)
    question = interview(images / "0.png", "What is it?", "Which color?")
    model, processor = tiny_assistant()
    session = ChatSession(model=model, processor=processor, sampling=Sampling(max_new_tokens=6))
    expected = [
        session.ask("What is it?", [open_image(images / "0.png")]).strip(), session.ask("Which color?").strip(),
    ]  # fmt: skip
    assert answers(teacher, question) == expected


def test_another_asking_is_drawn_and_repeatable(checkpoint: Path, images: Path) -> None:
    teacher = CheckpointTeacher(checkpoint, images=images, device=CPU)
    question = interview(images / "1.png", "What is it?", max_tokens=12)
    assert answers(teacher, question) == answers(teacher, question)
    assert answers(teacher, question, 1) == answers(teacher, question, 1)
    assert len({tuple(answers(teacher, question, ask)) for ask in range(3)}) == 3


def test_what_cannot_be_answered_is_told_apart(checkpoint: Path, images: Path, tmp_path: Path) -> None:
    teacher = CheckpointTeacher(checkpoint, images=images, device=CPU)
    Image.new("RGB", (40, 30)).save(tmp_path / "outside.png")
    with pytest.raises(Unanswerable, match="image_path_outside_root"):
        answers(teacher, interview(tmp_path / "outside.png", "What is it?"))
    (images / "broken.png").write_bytes(b"no picture")
    with pytest.raises(Unanswerable, match="image_unreadable"):
        answers(teacher, interview(images / "broken.png", "What is it?"))
    with pytest.raises(Unanswerable, match="context_too_long"):
        answers(teacher, interview(images / "0.png", "word " * 2000))


def test_the_name_is_that_of_the_weights(checkpoint: Path, tmp_path: Path) -> None:
    other = save_assistant(tmp_path / "other", *tiny_assistant(language_options={"num_hidden_layers": 1}))
    assert checkpoint_name(checkpoint) == checkpoint_name(checkpoint)
    assert checkpoint_name(checkpoint) != checkpoint_name(other)
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        checkpoint_name(tmp_path)
