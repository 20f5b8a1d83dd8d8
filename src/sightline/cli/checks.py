"""Commands that look at whole data sets: `check`, `stats`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.common import JsonFlag, TemplateOption, recipe_of, say, writing
from sightline.errors import ConfigError

if TYPE_CHECKING:
    from sightline.data.processor import Processor
    from sightline.recipe import DataSource, Recipe

DataArgument = Annotated[Path, typer.Argument(help="A data file, a folder of such files, or a pattern.")]
RecipeOption = Annotated[
    Path | None, typer.Option("--recipe", "--checkpoint", help="Whose tokenizer and template count tokens.")
]
ImagesOption = Annotated[Path | None, typer.Option(help="Folder of the pictures; that of the data if not given.")]
ProcessesOption = Annotated[int | None, typer.Option(min=1, help="Processes that read; one for each core.")]


def check(
    data: DataArgument,
    recipe: RecipeOption = None,
    images: ImagesOption = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every picture, not only its header.")] = False,
    eval_images: Annotated[
        list[Path] | None, typer.Option(help="A folder of pictures of an evaluation; may be given several times.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="A reason that is no problem here.")] = None,
    fix: Annotated[Path | None, typer.Option(help="Write the clean samples here, the others beside it.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page about what was found here.")] = None,
    template: TemplateOption = None,
    processes: ProcessesOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Everything that is wrong with data, before it costs anything. Exit code 1 if there is something."""
    loaded = None if recipe is None else recipe_of(recipe, template)  # before the slow imports
    source = _source_in(loaded, data)
    images = images or (Path(source.images) if source is not None and source.images is not None else None)
    for key, folder in (("--images", images), *(("--eval-images", each) for each in eval_images or [])):
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"{key}: no folder {folder}; check the path")
    from sightline.data.check_report import lines, to_json, write_page
    from sightline.data.checks import MAY_BE_MEANT, Settings, check_files
    from sightline.data.fix import write_fixed
    from sightline.data.layouts import data_files

    unknown = sorted(set(ignore or []) - set(MAY_BE_MEANT))
    if unknown:
        raise ConfigError(f"--ignore: {unknown[0]} cannot be ignored; these can: {', '.join(MAY_BE_MEANT)}")
    settings = Settings(
        processor=_processor(recipe, loaded, template),
        decode=decode,
        number_repeated_ids=source is not None and source.repeated_ids == "number",
        ignored=frozenset(ignore or []),
    )
    found = check_files(
        data_files(data), settings, images=images, evaluation=eval_images or [], processes=processes, say=say
    )
    with writing():
        written = [] if fix is None else write_fixed(found, fix, say=say)
        if html is not None:
            write_page(html, found)
    if as_json:
        print(json.dumps(to_json(found, written=written)))
    else:
        for line in lines(found):
            print(line)
        for path in [*written, *([] if html is None else [html])]:
            print(path)
    if found.counts:
        raise typer.Exit(1)


def stats(
    data: DataArgument,
    recipe: RecipeOption = None,
    plot: Annotated[Path | None, typer.Option(help="Draw lengths and counts here, as PNG.")] = None,
    template: TemplateOption = None,
    processes: ProcessesOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What data holds: lengths in tokens, pictures, turns, sources, kinds of answers."""
    loaded = None if recipe is None else recipe_of(recipe, template)
    from sightline.data.layouts import data_files
    from sightline.data.statistics import measure_files
    from sightline.data.statistics_plot import plot as draw
    from sightline.data.statistics_plot import table

    paths = data_files(data)
    found = measure_files(paths, _processor(recipe, loaded, template), processes=processes)
    if plot is not None:
        with writing():
            draw(found, plot, title=data.name)
    print(json.dumps(found.to_json()) if as_json else table(found))


def _source_in(recipe: Recipe | None, data: Path) -> DataSource | None:
    """What the recipe says about this data, if it is the recipe's."""
    sources = () if recipe is None else (*recipe.data, *recipe.validation)
    return next((source for source in sources if Path(source.path).resolve() == data.resolve()), None)


def _processor(origin: Path | None, recipe: Recipe | None, template: str | None) -> Processor | None:
    """Of a recipe or of a checkpoint, without any weights."""
    if origin is None:
        return None
    from sightline.infer.load import load_processor_alone
    from sightline.train.assemble import assemble_processor

    return load_processor_alone(origin, template=template) if recipe is None else assemble_processor(recipe)
