"""Errors that a user can act on.

Comes in: what went wrong, in the words of whoever found it. Goes out: one line for the terminal and an exit code.
Knows nothing of the command line: `cli` prints the line and exits.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SightlineError(Exception):
    """A mistake that the user can mend. The message is one line: what was found, what was expected, what to do."""

    exit_code = 2


class ConfigError(SightlineError):
    """A recipe, an override or a command-line argument is wrong."""


class DataError(SightlineError):
    """A sample or a picture cannot be used.

    Args:
        message: the one line for the user.
        reason: a stable code to count by, such as `image_missing`.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class CheckpointError(SightlineError):
    """A checkpoint is missing, damaged, or does not belong to what it is loaded into."""


class TrainingError(SightlineError):
    """A run had to stop: the state on disk is whole, the weights are those of the last good step."""

    exit_code = 4


class TeacherError(SightlineError):
    """A language model cannot be asked: the key, the quota, the address or the model is wrong, or it is out of order.

    What was answered so far is kept; the same command continues.
    """

    exit_code = 5


class BudgetError(SightlineError):
    """What may be spent is spent. What was answered so far is kept; with a larger budget the same command continues."""

    exit_code = 6


class StorageError(SightlineError):
    """What had to be written could not be; what was there before is whole. The code is EX_IOERR of sysexits.h."""

    exit_code = 74


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint for a typo: `; did you mean "cosine"?`, or nothing when no choice is close."""
    found = difflib.get_close_matches(name, list(choices), n=1)
    return f'; did you mean "{found[0]}"?' if found else ""
