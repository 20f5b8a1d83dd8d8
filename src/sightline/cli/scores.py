"""Commands that need files alone: `score`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.common import JsonFlag, say


def score(
    task: Annotated[str, typer.Argument(help="The benchmark, such as vqav2, pope, mmbench; see docs/score.md.")],
    predictions: Annotated[
        list[Path], typer.Option(help="Answers; several files, or a folder, where they are parted.")
    ],
    annotations: Annotated[
        list[Path] | None, typer.Option(help="The official files as downloaded; may be given several times.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="official, llava15 or lmms: whose rules.")] = "official",
    against: Annotated[Path | None, typer.Option(help="Other answers, compared question by question.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse answers missing, extra or given twice.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write every question's score here, as JSONL.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Score answers to a benchmark by its official rules, without a model."""
    from sightline.atomic import write_atomic
    from sightline.evaluate import compare
    from sightline.evaluate.results import table
    from sightline.evaluate.score import compare_results, score_files

    truths = annotations or []
    result = score_files(task, predictions, truths, protocol=protocol, strict=strict)
    found = None
    if against is not None:
        other = score_files(task, [against], truths, protocol=protocol, strict=strict)
        for note in other.notes:
            say(f"{against}: {note}")
        found = compare_results(result, other)
    if output is not None:
        lines = (json.dumps({"id": name, "score": value}, ensure_ascii=False) for name, value in result.values.items())
        write_atomic(output, "\n".join(lines) + "\n")
    if as_json:
        print(json.dumps(result.to_json() | {"against": found.to_json() if found else None}))
    else:
        print("\n".join([table(result), *([compare.table(found)] if found else [])]))
    for note in result.notes:
        say(f"sightline: {note}")
