"""The directory that a run writes into: one process at a time, and never over a run of another recipe.

Comes in: a recipe, the run's fingerprint. Goes out: the directory, claimed, with a lock that the system drops with the
process. Does not know what a run computes.
"""

from __future__ import annotations

import fcntl
import json
import os
import weakref
from pathlib import Path
from typing import TextIO

from sightline.atomic import read_json, write_atomic
from sightline.config import dump_recipe
from sightline.errors import ConfigError
from sightline.recipe import Recipe

STATES = "checkpoints"
RECIPE_FILE = "recipe.yaml"
FINISHED = "finished.json"


def claim(directory: Path, recipe: Recipe, mark: str, *, new: bool) -> TextIO:
    """Takes the output directory for this run: one process at a time, and never over a run of another recipe."""
    recipe_file = directory / RECIPE_FILE
    if new and directory.is_dir():
        with _lock(directory):  # or a run that goes on would write its states into the next one
            _put_aside(directory)
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"output: {directory} is a file; give a directory")
    owner = directory / "run.json"
    has_results = (directory / FINISHED).exists() or any((directory / STATES).glob("*"))
    if owner.exists() and has_results:
        found = read_json(owner)
        if not isinstance(found, dict) or found.get("fingerprint") != mark:
            raise ConfigError(
                f"output: {directory} holds a run of another recipe or other data; give another output, "
                "or --new to put it aside and start over"
            )
    if not owner.exists() and (directory / "config.json").exists():
        raise ConfigError(f"output: {directory} holds a model that no run has written there; give another output")
    directory.mkdir(parents=True, exist_ok=True)
    lock = _lock(directory)
    write_atomic(owner, json.dumps({"fingerprint": mark}) + "\n")
    write_atomic(recipe_file, dump_recipe(recipe))
    return lock


def _lock(directory: Path) -> TextIO:
    """An exclusive lock that the system drops with the process, however it ends."""
    lock = (directory / "run.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        raise ConfigError(
            f"output: {directory} is in use by process {lock.read().strip() or '?'}; wait, or give another output"
        ) from error
    lock.seek(0)
    lock.truncate()
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    _close_in_children(lock)
    return lock


def _close_in_children(file: TextIO) -> None:
    """Worker processes are forked, and outlive a killed run by seconds: they must not keep its lock."""
    reference = weakref.ref(file)

    def close() -> None:
        if (copy := reference()) is not None:
            copy.close()

    os.register_at_fork(after_in_child=close)


def _put_aside(directory: Path) -> None:
    number = 1
    while (aside := directory.with_name(f"{directory.name}.old-{number}")).exists():
        number += 1
    directory.rename(aside)
