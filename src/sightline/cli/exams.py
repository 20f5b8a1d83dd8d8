"""Commands on the benchmarks: `evaluate`, `compare`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.common import JsonFlag, QuantizeOption, budget_of, say
from sightline.errors import ConfigError, SightlineError

if TYPE_CHECKING:
    from sightline.evaluate.evaluation import Outcome
    from sightline.evaluate.runner import Checkpoint


def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(metavar="CHECKPOINT TASK ...", help="With --model, tasks alone; see docs/evaluate.md."),
    ],
    data: Annotated[
        Path, typer.Option(help="Folder of the official files and pictures, or of a folder for each task.")
    ],
    out: Annotated[Path | None, typer.Option(help="Answers and reports; runs/evaluate/NAME if not given.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    split: Annotated[str, typer.Option(help="A part of the questions file's name, where there are several.")] = "",
    batch: Annotated[int, typer.Option(min=1, help="Questions answered at once.")] = 16,
    shard: Annotated[str, typer.Option(help="I/N: the I-th of N processes; the last one to finish scores.")] = "1/1",
    blind: Annotated[str | None, typer.Option(help="swap or grey: ask again with pictures that do not help.")] = None,
    protocol: Annotated[str, typer.Option(help="Whose rules the headline figure is by.")] = "official",
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, instead of LLaVA-1.5's.")] = None,
    model: Annotated[str | None, typer.Option(help="openai:URL: ask a server instead of a checkpoint.")] = None,
    served: Annotated[str | None, typer.Option(help="The model's name at that server.")] = None,
    key_variable: Annotated[str, typer.Option(help="Environment variable with its API key.")] = "OPENAI_API_KEY",
    budget: Annotated[str | None, typer.Option(help="Money that is never exceeded; needs prices.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Tokens that are never exceeded.")] = None,
    prices: Annotated[str | None, typer.Option(help="Of a million tokens of prompts and replies: 0.15,0.60")] = None,
    precision: Annotated[str, typer.Option(help="auto (bf16 on a GPU), bf16 or fp32.")] = "auto",
    quantize: QuantizeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask benchmarks by LLaVA-1.5's prompts, score the answers, and write a report with every picture."""
    checkpoint, tasks = (None, names) if model else (Path(names[0]), names[1:])
    if not tasks:
        raise SightlineError("no task named: give one or more, such as pope gqa; sightline score lists them")
    from sightline.evaluate.evaluation import Options, evaluate_exam
    from sightline.evaluate.exam import open_exam
    from sightline.evaluate.runner import Answerer, Remote, Shard
    from sightline.evaluate.server_answers import LEDGER, Server

    options = Options(
        protocol=protocol, blind=blind, limit=limit, shard=Shard.parse(shard), max_new_tokens=max_new_tokens
    )
    exams = [open_exam(task, data, split=split) for task in tasks]
    answerer: Answerer
    if model is not None:
        limits = budget_of(prices, budget, budget_tokens)
        server = Server.of(model, model=served, key_variable=key_variable, budget=limits)
        folder = out or _folder(server.model)
        answerer = Remote(server, folder / LEDGER, say)
    else:
        assert checkpoint is not None
        if (prices, budget, budget_tokens) != (None, None, None):
            raise ConfigError("--prices, --budget, --budget-tokens: for a server (--model openai:URL); leave them away")
        answerer = _checkpoint(checkpoint, batch=batch, precision=precision, quantize=quantize)
        folder = out or _folder(answerer.name)
    found = {exam.task: evaluate_exam(exam, answerer, folder / exam.task, options, say=say) for exam in exams}
    _tell(found, shard, as_json=as_json)


def _tell(found: Mapping[str, Outcome | None], shard: str, *, as_json: bool) -> None:
    """Tables, or one JSON object, on stdout; notes and reports on stderr."""
    from sightline.evaluate.results import table

    for task, outcome in found.items():
        if outcome is None:
            say(f"{task}: shard {shard} is done, others are not")
            continue
        for note in (*outcome.notes, *(outcome.result.notes if outcome.result else ())):
            say(f"{task}: {note}")
        if not as_json:
            shown = [table(result) for result in (outcome.result, outcome.blind_result) if result]
            print("\nblind: ".join(shown) or f"{task}: {len(outcome.answers)} answers in {outcome.folder}")
            print(f"report: {outcome.folder / 'report.html'}", file=sys.stderr)
    if as_json:
        print(json.dumps({task: outcome and outcome.to_json() for task, outcome in found.items()}))


def _folder(name: str) -> Path:
    """Where a model's runs go, unless the user says otherwise."""
    return Path("runs/evaluate") / name.replace("/", "--")


def _checkpoint(path: Path, *, batch: int, precision: str, quantize: str | None) -> Checkpoint:
    """A checkpoint that is loaded once something is to be asked; its digest is that of its manifest."""
    from sightline.atomic import MANIFEST, read_manifest, readable_directory, sha256_file
    from sightline.evaluate.runner import Checkpoint
    from sightline.infer.load import load
    from sightline.train.device import choose_device, choose_dtype

    directory = readable_directory(path)
    read_manifest(directory)
    device = choose_device("auto")
    dtype = choose_dtype(precision, device)
    identity = {
        "checkpoint": sha256_file(directory / MANIFEST),
        "precision": str(dtype).removeprefix("torch."),
        "quantize": quantize,
    }
    name = path.resolve().name
    return Checkpoint(name, identity, lambda: load(path, device=device, dtype=dtype, quantize=quantize), batch, say)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders that sightline evaluate wrote.")],
    output: Annotated[Path | None, typer.Option(help="Folder for compare.html, bars.png and radar.png.")] = None,
    published: Annotated[bool, typer.Option(help="With the published rows of LLaVA-1.0, 1.5 and 1.6.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """One table of several runs, with LLaVA's published figures beside them."""
    from sightline.evaluate.runs import published_rows, read_run, table, to_json
    from sightline.evaluate.runs_page import write_page

    rows = [read_run(path) for path in runs] + (published_rows() if published else [])
    if output is not None:
        say(f"page: {write_page(rows, output)}")
    print(json.dumps(to_json(rows)) if as_json else table(rows))
