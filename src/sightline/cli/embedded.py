"""Commands on the embedded default: `demo`, `parts`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.common import say


def demo(
    output: Annotated[Path, typer.Option(help="Where data, checkpoints and the report go.")] = Path("runs/demo"),
    pictures: Annotated[int, typer.Option(min=200, help="Training pictures.")] = 8000,
    new: Annotated[bool, typer.Option("--new", help="Start over, even if an earlier demo is there.")] = False,
) -> None:
    """The whole story on the embedded default: data, both stages, scores, a report with pictures."""
    from sightline.demo.story import run_demo

    for line in run_demo(output, pictures=pictures, new=new, say=say):
        print(line)


def parts(
    part: Annotated[str, typer.Argument(help="vision or language")],
    output: Annotated[Path, typer.Option(help="Directory to write.")],
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of the published run's.")] = None,
) -> None:
    """Train a small part of the embedded default anew (hours on a laptop; the package brings both)."""
    from sightline.demo.make_parts import make_part

    make_part(part, output, steps=steps, say=say)
