"""The command line as tests use it: in this process, and what it says to a mistake."""

from __future__ import annotations

from functools import partial

import pytest

from sightline.cli import app, run

Captured = pytest.CaptureFixture[str]


def sightline(*arguments: object) -> int:
    """Runs the command line in this process; its exit code."""
    return run(partial(app, args=[str(argument) for argument in arguments]))


def assert_refused(capsys: Captured, arguments: str, words: str) -> None:
    """The command is refused in one line on stderr that holds the words, with exit code 2 and nothing on stdout."""
    assert sightline(*arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sightline: ")
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("\n")
    assert words in captured.err
