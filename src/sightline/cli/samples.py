"""Commands that look at samples: `inspect`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.common import ImageRootOption, TemplateOption, checked_root, recipe_of, say


def inspect(
    source: Annotated[Path, typer.Argument(metavar="RECIPE_OR_CHECKPOINT", help="A YAML file, or a run's directory.")],
    data: Annotated[Path, typer.Argument(help="Samples, as JSON or JSONL.")],
    only: Annotated[str | None, typer.Option("--id", help="Only the sample of this id.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    template: TemplateOption = None,
    image_root: ImageRootOption = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """What the model sees of samples: segments, ids, what is trained on, pictures. Exit code 1 if one is unusable."""
    recipe = recipe_of(source, template)  # before the slow imports: a typo is answered at once
    root = checked_root(image_root)
    from sightline.data.inspection import in_rows, inspect_file
    from sightline.data.inspection_page import PAGE_SAMPLES, write_page
    from sightline.data.inspection_terminal import print_json, print_samples
    from sightline.infer.load import load_processor_alone
    from sightline.recipe import TrainSpec
    from sightline.train.assemble import assemble_processor
    from sightline.train.device import expected_device

    processor = load_processor_alone(source, template=template) if recipe is None else assemble_processor(recipe)
    on_page = limit or PAGE_SAMPLES
    if html is not None and not as_json:
        limit = on_page
    seen = inspect_file(data, processor, root=root, only=only, limit=limit)
    # A checkpoint has no recipe: its samples lie as those of a run that says nothing about rows.
    train = TrainSpec(lr={"connector": 1.0}, epochs=1) if recipe is None else recipe.train
    if train.packing:
        seen = in_rows(seen, row_length=train.row_length_on(expected_device(train.device)), step=train.batch)
    if as_json:
        seen = print_json(seen, out=sys.stdout, say=say)
    elif html is None:
        seen = print_samples(seen, processor.tokenizer, out=sys.stdout)
    if html is not None:
        seen = write_page(html, seen, processor, data=data, most=on_page, say=say)
    unusable = sum(one.refused is not None for one in seen)
    if html is not None and not as_json:
        print(html)
    if unusable:
        raise typer.Exit(1)
