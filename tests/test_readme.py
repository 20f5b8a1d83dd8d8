"""The README does not rot: its commands, files and options exist, its Python runs where the demo has been run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from sightline.cli import app
from sightline.config import load_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.split("#")[0].strip()
]


def test_readme_has_commands() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_command_parses(command: str) -> None:
    """Each `sightline` line is parsed by the real parser, each `make` target exists, each override is accepted."""
    program, *arguments = shlex.split(command)
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    assert program == "sightline"
    group = typer.main.get_command(app)
    name, *rest = arguments
    parser = group.commands[name]  # type: ignore[attr-defined]
    context = parser.make_context(name, list(rest))
    if name == "train":
        recipe = load_recipe(ROOT / context.params["recipe"], context.params["overrides"] or [])
        assert recipe.train.lr


def test_every_command_of_the_table_exists() -> None:
    named = set(re.findall(r"^\| `sightline (\w+)", README, re.MULTILINE))
    assert named == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_path_of_the_tree_exists() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    inside = ""
    for line in tree.strip().splitlines():
        name = line.split()[0]
        path = ROOT / inside / name if line.startswith("  ") else ROOT / name
        if not line.startswith("  "):
            inside = name if name == "src/sightline/" else ""
        assert path.exists(), path


def test_no_placeholder_is_left() -> None:
    assert not re.search(r"@[A-Z]+@|TODO|FIXME", README)
