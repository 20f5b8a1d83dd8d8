"""Commands that make questions of their own: `probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.common import say
from sightline.errors import ConfigError, nearest

KINDS = ("pope", "demonstrations", "typographic", "plot")


def probe(
    kind: Annotated[str, typer.Argument(help="pope, demonstrations or typographic: questions; plot: their scores.")],
    out: Annotated[Path, typer.Option(help="Folder of the questions; of plot, the picture's file.")],
    annotations: Annotated[Path | None, typer.Option(help="pope: instances_*.json in COCO's format.")] = None,
    per_picture: Annotated[int, typer.Option(min=1, help="pope: objects asked about that are there.")] = 3,
    count: Annotated[int | None, typer.Option(min=1, help="Pictures: in all for pope, else of each probe.")] = None,
    side: Annotated[int, typer.Option(min=64, max=4096, help="Of painted pictures, in pixels.")] = 336,
    seed: Annotated[int, typer.Option(help="Makes other questions.")] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Painted probes: no `single word or phrase`.")] = False,
    scores: Annotated[Path | None, typer.Option(help="plot: what `score probes --json` printed.")] = None,
    blind: Annotated[Path | None, typer.Option(help="plot: the same of a blind run.")] = None,
) -> None:
    """Make questions that probe a model: objects that are not there, small text, words that mislead."""
    if kind not in KINDS:
        raise ConfigError(f"no probe {kind!r}{nearest(kind, KINDS)} (there are {', '.join(KINDS)})")
    if kind == "pope":
        _pope(annotations, out, per_picture, count, seed)
    elif kind == "plot":
        from sightline.evaluate.probes.plot import plot, read_figures

        if scores is None:
            raise ConfigError("--scores: give what `sightline score probes --json` printed")
        plot(read_figures(scores), None if blind is None else read_figures(blind), out)
    else:
        _painted(kind, out, side=side, count=count, seed=seed, plain=plain)


def _pope(annotations: Path | None, out: Path, per_picture: int, count: int | None, seed: int) -> None:
    from sightline.evaluate.coco_file import read_instances
    from sightline.evaluate.pope_build import PICTURES, build, write

    if annotations is None:
        raise ConfigError("--annotations: POPE asks about annotated objects; give an instances file in COCO's format")
    built = build(read_instances(annotations), per_picture=per_picture, most=count or PICTURES, seed=seed)
    for left_out, why in ((built.few_objects, "fewer kinds of objects on them"), (built.few_absent, "fewer kinds not")):
        if left_out:
            say(f"sightline: {left_out:,} pictures left out: they have {why} than are asked about ({per_picture})")
    for path in write(built, out):
        print(path)


def _painted(kind: str, out: Path, *, side: int, count: int | None, seed: int, plain: bool) -> None:
    from sightline.evaluate.probes import material
    from sightline.evaluate.probes.demonstrations import demonstrations
    from sightline.evaluate.probes.typographic import typographic
    from sightline.evaluate.prompts import SHORT
    from sightline.evaluate.tasks.probes import PROBES_FILE, TYPOGRAPHIC_FILE

    make = demonstrations if kind == "demonstrations" else typographic
    name = PROBES_FILE if kind == "demonstrations" else TYPOGRAPHIC_FILE
    suffix = "" if plain else SHORT
    count = count or (60 if kind == "demonstrations" else 40)
    made = make(side=side, count=count, seed=seed, suffix=suffix)
    about = {"side": side, "count": count, "seed": seed, "suffix": suffix}
    say(f"sightline: {material.write(made, out, name, about):,} questions")
    print(out / name)
