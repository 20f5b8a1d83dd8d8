"""A conversation in the terminal.

Comes in: a `ChatSession` and lines that a person types. Goes out: streamed answers. Commands start with a slash; input
history is the terminal's, where Python has readline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TextIO

from PIL import Image

from sightline.data.image import open_image
from sightline.errors import SightlineError
from sightline.infer.chat import ChatSession

HELP = """\
Type a question. Commands:
  /image FILE   show a picture with the next question
  /reset        forget the conversation and its pictures
  /history      the conversation so far
  /help         this
  /exit         leave (or Ctrl-D)"""


def converse(
    session: ChatSession, pictures: Sequence[Image.Image], *, out: TextIO, read: Callable[[str], str] = input
) -> None:
    """Talks until /exit or the end of the input. Mistakes are forgiven; Ctrl-C ends the answer, not the talk."""
    with suppress(ImportError):
        import readline  # noqa: F401  line editing and history for `input`
    waiting = list(pictures)
    out.write("Ask about your picture; /help lists the commands.\n")
    while True:
        try:
            line = read("> ").strip()
        except EOFError:
            out.write("\n")
            return
        except KeyboardInterrupt:
            out.write("\n")
            continue
        except UnicodeDecodeError:
            out.write("that was not UTF-8; type it again\n")
            continue
        if line == "/exit":
            return
        try:
            if line.startswith("/"):
                out.write(_command(line, session, waiting) + "\n")
            elif line:
                _answer(line, session, waiting, out)
        except SightlineError as error:
            out.write(f"{error}\n")


def _answer(line: str, session: ChatSession, waiting: list[Image.Image], out: TextIO) -> None:
    """Shows the answer. Pictures of a question that was not answered to its end wait for the next one."""
    try:
        for piece in session.stream(line, list(waiting)):
            out.write(piece)
            out.flush()
        waiting.clear()
    except KeyboardInterrupt:
        out.write(" (stopped)")
    out.write("\n")


def _command(line: str, session: ChatSession, waiting: list[Image.Image]) -> str:
    name, _, argument = line.partition(" ")
    if name == "/image":
        if not argument.strip():
            return "/image needs a file: /image photo.jpg"
        waiting.append(open_image(argument.strip()))
        return f"{argument.strip()} goes with the next question"
    if name == "/reset":
        session.reset()
        waiting.clear()
        return "forgotten"
    if name == "/history":
        lines = [
            f"{turn.role}: {''.join(part if isinstance(part, str) else '[picture]' for part in turn.content)}"
            for turn in session.turns
        ]
        return "\n".join(lines) or "nothing yet"
    if name == "/help":
        return HELP
    return f"unknown command {name}; /help lists them"
