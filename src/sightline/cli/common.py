"""What the commands share: options, messages, where things are.

Comes in: values of arguments. Goes out: recipes and folders that are there, or the one line about it. Imports nothing
slow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.errors import ConfigError, SightlineError, StorageError

if TYPE_CHECKING:
    from sightline.ask.budget import Budget
    from sightline.recipe import Recipe

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
TemplateOption = Annotated[str | None, typer.Option(help="A template, instead of the recipe's or checkpoint's.")]
QuantizeOption = Annotated[str | None, typer.Option(help="int8 or nf4: the language model in 8 or 4 bits.")]
ImageRootOption = Annotated[Path | None, typer.Option(help="Folder of the pictures; that of the data if not given.")]


@contextmanager
def writing() -> Iterator[None]:
    """What the system says to a file that cannot be written, in one line."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{error.filename}: cannot be written: {error.strerror}; give another place") from error


def say(message: str) -> None:
    """One line on stderr."""
    print(message, file=sys.stderr, flush=True)


def recipe_of(source: Path, template: str | None) -> Recipe | None:
    """The recipe that is meant: the file itself, or that of a run which has no model yet; None for a checkpoint."""
    if (source / "recipe.yaml").is_file() and not (source / "sightline.json").exists():
        source = source / "recipe.yaml"
    if not source.is_file() and source.suffix not in (".yaml", ".yml"):
        return None
    from sightline.config import load_recipe

    recipe = load_recipe(source)
    return recipe if template is None else recipe.model_copy(update={"template": template})


def checked_root(image_root: Path | None) -> Path | None:
    """The folder of the pictures, if one was named."""
    if image_root is not None and not image_root.is_dir():
        raise SightlineError(f"--image-root: no folder {image_root}; give the one that the pictures' paths start from")
    return image_root


def budget_of(prices: str | None, money: str | None, tokens: int | None) -> Budget:
    """The budget of --prices, --budget and --budget-tokens."""
    from sightline.ask.budget import Budget, Prices

    try:
        found = [Decimal(part) for part in (prices or "0,0").split(",")]
        limit = None if money is None else Decimal(money)
    except ArithmeticError:
        raise ConfigError("--prices, --budget: expected numbers, such as --prices 0.15,0.60 --budget 20") from None
    if len(found) != 2:
        raise ConfigError(f"--prices: found {prices!r}, expected two: of prompts, of replies, as in 0.15,0.60")
    return Budget(prices=Prices(prompt=found[0], completion=found[1]), money=limit, tokens=tokens)
