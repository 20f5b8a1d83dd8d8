"""Commands that make training data of datasets: `convert`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.common import JsonFlag, say
from sightline.errors import ConfigError, DataError


def convert(
    name: Annotated[str | None, typer.Argument(metavar="FORMAT", help="A dataset of --list, or llava-665k.")] = None,
    source: Annotated[Path | None, typer.Argument(metavar="SRC", help="Folder of its official files, or one.")] = None,
    target: Annotated[Path | None, typer.Argument(metavar="DST", help="LLaVA JSON to write; .jsonl for JSONL.")] = None,
    split: Annotated[str | None, typer.Option(help="Which split; train if not given.")] = None,
    boxes: Annotated[str | None, typer.Option(help="How boxes are written: llava, unit, thousand, ...")] = None,
    prompt: Annotated[str | None, typer.Option(help="ScienceQA: CQM-A, QCM-A or QCM-LEA.")] = None,
    answers: Annotated[str | None, typer.Option(help="A-OKVQA: choice, direct or both.")] = None,
    captions: Annotated[str | None, typer.Option(help="first caption of each picture, or all.")] = None,
    ocr: Annotated[bool | None, typer.Option(help="Show the words that OCR read.")] = None,
    per_picture: Annotated[int | None, typer.Option(min=0, help="Most regions of a picture; 0: all.")] = None,
    pictures: Annotated[str | None, typer.Option(help="Pattern of pictures' paths: coco/{id:012d}.jpg")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Draw so many samples.")] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    images: Annotated[Path | None, typer.Option(help="Leave out what has no picture below this folder.")] = None,
    list_formats: Annotated[bool, typer.Option("--list", help="Show the datasets and their official files.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn a public dataset's official files into LLaVA JSON. What is left out is counted, by reasons."""
    if list_formats:
        _list()
        return
    if name is None or source is None or target is None:
        raise ConfigError("convert needs FORMAT SRC DST; sightline convert --list shows the formats")
    if images is not None and not images.is_dir():
        raise DataError(f"--images: there is no folder {images}; name the image root", reason="file_missing")
    given: dict[str, str | int | None] = {"split": split, "boxes": boxes, "prompt": prompt, "answers": answers}
    given |= {"captions": captions, "ocr": ocr, "per_picture": per_picture, "pictures": pictures}
    told, report = _convert(name, source, target, given, sample, seed, images)
    for words in told:
        say(words)
    print(json.dumps({"format": name, "file": str(target), **report}, ensure_ascii=False) if as_json else target)


def _convert(
    name: str,
    source: Path,
    target: Path,
    given: Mapping[str, str | int | None],
    sample: int | None,
    seed: int,
    images: Path | None,
) -> tuple[list[str], dict[str, object]]:
    """What is told to people, and to programs."""
    from sightline.convert import mixture
    from sightline.convert.core import Tally, stream, write_samples
    from sightline.convert.source import Source

    if name == mixture.MIXTURE:
        surplus = [key for key, value in {**given, "sample": sample}.items() if value is not None]
        if surplus:
            raise ConfigError(f"--{surplus[0].replace('_', '-')}: {name} is made as published; leave the option out")
        lines = mixture.write_mixture(source, target, seed=seed, images=images)
        return mixture.report_lines(lines), mixture.report_json(lines)
    found, tally = Source(source), Tally()
    items = stream(name, found, {**given, "seed": seed}, sample=sample, images=images)
    write_samples(target, [(tally, items)], [found])
    return tally.lines(), tally.as_json()


def _list() -> None:
    from sightline.convert.catalogue import FORMATS
    from sightline.convert.mixture import MIXTURE, PARTS

    for name, dataset in FORMATS.items():
        print(f"{name:<15} {dataset.about}\n{'':<15} {dataset.files}")
    print(f"{MIXTURE:<15} LLaVA-1.5's mixture, from a folder with the files of its {len(PARTS)} parts")
