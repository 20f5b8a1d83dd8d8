"""The conversation in the terminal: its commands, and that neither mistakes nor Ctrl-C end it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.infer.chat import ChatSession
from sightline.infer.terminal import converse
from tests.tiny_checkpoint import Scripted, tiny_processor

RED = Image.new("RGB", (20, 20), (200, 0, 0))
GREETING = "Ask about your picture; /help lists the commands.\n"


class Talking:
    """A session whose model says `answers`, in the terminal."""

    def __init__(self, *answers: str) -> None:
        self.processor = tiny_processor()
        self.model = Scripted.saying(self.processor, *answers)
        self.session = ChatSession(model=self.model, processor=self.processor)  # type: ignore[arg-type]

    def hears(self, *typed: str | BaseException, pictures: Sequence[Image.Image] = ()) -> str:
        """What is shown after the greeting when this is typed, then Ctrl-D; an exception is raised where it stands."""
        lines = iter(typed)

        def read(prompt: str) -> str:
            line = next(lines, None)
            if line is None:
                raise EOFError
            if isinstance(line, BaseException):
                raise line
            return line

        out = io.StringIO()
        converse(self.session, pictures, out=out, read=read)
        assert out.getvalue().startswith(GREETING)
        return out.getvalue().removeprefix(GREETING)

    def interrupted_after(self, tokens: int) -> None:
        """Ctrl-C while the next answer is generated."""
        decode, count = self.model.decode, 0

        def interrupt(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count > tokens:
                self.model.decode = decode  # type: ignore[method-assign]
                raise KeyboardInterrupt
            return decode(*arguments, **options)

        self.model.decode = interrupt  # type: ignore[method-assign]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "my photo.png"
    RED.save(path)
    return path


def test_questions_are_answered_line_by_line_until_the_end_of_input() -> None:
    talk = Talking("It is red.", "Yes.")
    assert talk.hears("What color?", "", "  Sure?  ") == "It is red.\nYes.\n\n"
    assert talk.session.turns[2].content == ("Sure?",)


def test_exit_leaves_at_once() -> None:
    assert Talking("never said").hears("/exit", "What?") == ""


def test_pictures_go_with_the_first_question_only(picture: Path) -> None:
    talk = Talking("Red.", "Red.", "Both.")
    talk.hears("What?", "And now?", f"/image {picture}", "Both?", pictures=[RED])
    assert talk.model.pictures_seen == [1, 1]
    assert [len(turn.content) for turn in talk.session.turns] == [2, 1, 1, 1, 2, 1]


def test_image_names_the_file_that_waits_for_the_next_question(picture: Path) -> None:
    assert Talking().hears(f"/image {picture}") == f"{picture} goes with the next question\n\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/image", "/image needs a file"),
        ("/image   ", "/image needs a file"),
        ("/image none.png", "no such file"),
        ("/image .", "not a regular file"),
        ("/imgae x.png", "unknown command /imgae; /help lists them"),
        ("a \x1b[31m control", "U+001B"),
        ("half a \udcff letter", "U+DCFF"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_the_talk_goes_on(line: str, words: str) -> None:
    talk = Talking("Still here.")
    mistake, answer, end = talk.hears(line, "Hello?").split("\n", 2)
    assert words in mistake
    assert (answer, end) == ("Still here.", "\n")
    assert len(talk.session.turns) == 2


def test_bytes_that_are_no_text_are_forgiven() -> None:
    broken = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    assert Talking("Yes.").hears(broken, "Hello?").endswith("\nYes.\n\n")


def test_history_shows_the_turns_and_reset_forgets_them_with_their_pictures(picture: Path) -> None:
    talk = Talking("Red.", "Hello.")
    shown = talk.hears(
        "/history", "What?", "/history", f"/image {picture}", "/reset", "/history", "Hi!", pictures=[RED]
    )
    assert shown.split("\n") == [
        "nothing yet",
        "Red.",
        "user: [picture]",
        "What?",
        "assistant: Red.",
        f"{picture} goes with the next question",
        "forgotten",
        "nothing yet",
        "Hello.",
        "",
        "",
    ]
    assert talk.model.pictures_seen == [1]


def test_help_lists_every_command() -> None:
    shown = Talking().hears("/help")
    assert all(command in shown for command in ("/image", "/reset", "/history", "/help", "/exit"))


def test_ctrl_c_at_the_prompt_goes_on() -> None:
    assert Talking("Yes.").hears(KeyboardInterrupt(), "Well?") == "\nYes.\n\n"


def test_ctrl_c_ends_the_answer_and_its_picture_waits_for_the_next_question() -> None:
    talk = Talking("A very long answer.", "Short.")
    talk.interrupted_after(3)
    shown = talk.hears("Tell me.", "In short?", pictures=[RED])
    first, second, _ = shown.split("\n", 2)
    assert "A very long answer.".startswith(first.removesuffix(" (stopped)"))
    assert first.endswith(" (stopped)")
    assert second == "Short."
    assert [turn.role for turn in talk.session.turns] == ["user", "assistant"], "what was cut off is not history"
    assert talk.model.pictures_seen == [1]


def test_pieces_are_shown_as_they_come() -> None:
    """Each is flushed before the next one is generated."""
    talk = Talking("one two three")
    out = io.StringIO()
    seen: list[str] = []
    decode = talk.model.decode

    def watch(*arguments: Any, **options: Any) -> Any:
        seen.append(out.getvalue().removeprefix(GREETING))
        return decode(*arguments, **options)

    talk.model.decode = watch  # type: ignore[method-assign]
    lines = iter(["Count!", "/exit"])
    converse(talk.session, [], out=out, read=lambda prompt: next(lines))
    assert seen[0] == ""
    assert len(set(seen)) > 4
    assert all("one two three".startswith(text) for text in seen)
