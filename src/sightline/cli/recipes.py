"""Commands that begin with a recipe: `train`, `describe`, `plan`.

A recipe is read before the slow imports, so that a typo is answered at once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.common import JsonFlag, say


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe, such as recipes/llava-1.5-7b/align.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value, such as train.batch=64.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Put the output directory aside and start over.")] = False,
) -> None:
    """Train one stage. Started again, a run continues from its newest whole checkpoint."""
    from sightline.config import load_recipe

    loaded = load_recipe(recipe, overrides or [])  # before the slow imports: a typo is answered at once
    from sightline.train.loop import train as run_training
    from sightline.train.run import prepare

    benchmarks = None
    if loaded.benchmarks is not None:
        from sightline.evaluate.while_training import open_benchmarks

        benchmarks = open_benchmarks(loaded.benchmarks)
    run = prepare(loaded, new=new, say=say)
    done = run_training(run, benchmarks=benchmarks)
    if run.ranks.first:
        print(done)


def describe(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Parameters per part, tokens per picture, possible exports: from configurations alone, no weights are loaded."""
    from sightline.config import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    from sightline.exchange.formats import obstacles_of_parts
    from sightline.train.assemble import tokenizer_of
    from sightline.train.describe import describe_recipe, table

    tokenizer = tokenizer_of(loaded)
    found = describe_recipe(loaded, exports=lambda parts: obstacles_of_parts(parts, tokenizer))
    print(json.dumps(found) if as_json else table(found))


def plan(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, h100-80g, ...; what is here if not given.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="How many of them share each step.")] = 1,
    price: Annotated[float | None, typer.Option("--price-per-hour", min=0, help="Of one device.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Take three real steps and follow them.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Memory by item, whether it fits, what would make it fit, steps, hours, cost: before anything is started."""
    from sightline.config import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded for a plan; read when huggingface_hub is imported
    from sightline.train.advise import plan_recipe
    from sightline.train.plan_table import table, to_json

    found, measured = plan_recipe(loaded, device=device, devices=devices, measured=measure)
    if as_json:
        print(json.dumps(to_json(found, price=price, measured=measured)))
    else:
        print(table(found, price=price, measured=measured))
