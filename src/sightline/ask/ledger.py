"""What was asked, what it cost, what came back: one SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from sightline.ask.question import Reply


class Count(NamedTuple):
    """So many questions of a kind are in a state (`pending`, `sent`, `raw`, `accepted`, `rejected`, `dead`,
    `batched`), for a reason ("" where there is none)."""

    kind: str
    state: str
    reason: str
    count: int


@dataclass(frozen=True)
class Answer:
    """An accepted reply, and what it answers."""

    key: str
    kind: str
    subject: str
    model: str
    version: str
    edition: str
    reply: Reply


@dataclass(frozen=True)
class Spending:
    """Tokens and money that are spent, whatever is in flight counted in full."""

    prompt_tokens: int
    completion_tokens: int
    money: float


class Ledger:
    """One run's questions and replies. One process at a time writes; any number read."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens or makes the file.

        Raises:
            ConfigError: another process writes to it, or it is no ledger.
            StorageError: it cannot be written.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError

    def accepted(self, *, mixed: bool = False) -> Iterator[Answer]:
        """The accepted replies in the order of their keys: the same ones, whenever and however often the run stopped.

        Raises:
            ConfigError: some kind was answered in two editions (another model, other prompts) and `mixed` is False.
        """
        raise NotImplementedError

    def counts(self) -> list[Count]:
        """How many questions are in each state, by kind and reason."""
        raise NotImplementedError

    def rejections(self) -> dict[str, int]:
        """How many replies were rejected for each reason, those of questions that were answered later included."""
        raise NotImplementedError

    def spending(self) -> Spending:
        """What all of it has cost so far."""
        raise NotImplementedError

    def revive(self) -> int:
        """Put the dead back to pending; how many there were."""
        raise NotImplementedError
