"""The command that writes instruction data: `synth`.

Comes in: options. Goes out: a run's directory. Puts together what does not know each other: contexts and teachers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from sightline.cli.common import JsonFlag, budget_of, say, writing
from sightline.errors import BudgetError, ConfigError

if TYPE_CHECKING:
    from sightline.ask.outcome import Summary
    from sightline.ask.teacher import Teacher
    from sightline.synth.card import Report
    from sightline.synth.kinds import Kind
    from sightline.synth.plan import Interviewer
    from sightline.synth.run import Job
    from sightline.synth.source import Source

TEACHERS = ("openai", "rules", "checkpoint")
LOCAL_CIRCUIT = 2**31
"""A local teacher that has nothing to say to many pictures in a row is not out of order."""


def synth(
    source: Annotated[Path, typer.Argument(help="Annotations: a folder or a file, see docs/synth.md.")],
    checkpoint: Annotated[Path | None, typer.Argument(help="With --teacher checkpoint: its directory.")] = None,
    output: Annotated[Path | None, typer.Option("--out", help="Directory of the run: ledger, data, page.")] = None,
    teacher: Annotated[str, typer.Option(help="openai (any server of that protocol), rules, checkpoint.")] = "openai",
    model: Annotated[str | None, typer.Option(help="The model's name on the server.")] = None,
    base_url: Annotated[str, typer.Option(help="Address of the server.")] = "https://api.openai.com/v1",
    key_variable: Annotated[str, typer.Option(help="Variable that holds the API key.")] = "OPENAI_API_KEY",
    mix: Annotated[str | None, typer.Option(help="Kinds: conversation=58000,detail=23000; all if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of pictures and questions.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures, for page and checkpoint.")] = None,
    format: Annotated[str | None, typer.Option(help="coco, genome, flickr30k or contexts; by content.")] = None,
    split: Annotated[str | None, typer.Option(help="Of COCO's files, such as train2017.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder with kinds of your own, KIND.yaml.")] = None,
    copy_prompts: Annotated[bool, typer.Option("--copy-prompts", help="Write kinds to edit to --prompts.")] = False,
    show: Annotated[list[str] | None, typer.Option(help="What a kind shows: conversation=captions+boxes.")] = None,
    asks: Annotated[int, typer.Option(min=1, help="Times that a question is asked while replies are rejected.")] = 3,
    revive: Annotated[bool, typer.Option("--revive", help="Ask again what was given up without a reply.")] = False,
    editions: Annotated[str, typer.Option(help="Replies of other models or prompts: one, present or all.")] = "one",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 16,
    requests_per_minute: Annotated[float | None, typer.Option(help="What the server grants.")] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(help="What the server grants.")] = None,
    tokens_field: Annotated[str, typer.Option(help="Or max_completion_tokens, for models that insist.")] = "max_tokens",
    send_seed: Annotated[bool, typer.Option(help="The number of the asking as seed.")] = True,
    deadline: Annotated[float, typer.Option(help="Seconds for a request.")] = 120.0,
    budget: Annotated[str | None, typer.Option(help="Money that is never exceeded; needs prices.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Tokens that are never exceeded.")] = None,
    prices: Annotated[str | None, typer.Option(help="Of a million tokens of prompts and replies: 0.15,0.60")] = None,
    stop_share: Annotated[float, typer.Option(help="Share of replies that one reason may reject.")] = 0.2,
    batch: Annotated[str | None, typer.Option(help="write: request files; read: the results of --results.")] = None,
    results: Annotated[list[Path] | None, typer.Option(help="Result and error files of a batch.")] = None,
    engine: Annotated[str, typer.Option(help="asyncio, or ray for a local teacher on many machines.")] = "asyncio",
    workers: Annotated[int, typer.Option(min=1, help="Teachers at a time on Ray.")] = 2,
    gpus: Annotated[float, typer.Option(min=0, help="For each of them.")] = 0.0,
    licence: Annotated[list[str] | None, typer.Option(help="For the card: data=, annotations=, pictures=")] = None,
    as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Write instruction data from captions and boxes. Started again, it goes on where it stopped."""
    options = dict(locals())
    if copy_prompts:
        _copy_prompts(prompts)
        return
    _check(options)
    job, make_teacher = _job(options)
    if batch is None:
        summary, report = _run(job, make_teacher, options)
        for warning in summary.warnings:
            say(f"warning: {warning}")
        _tell(job, report, {"calls": summary.calls, "lost": summary.lost}, as_json=as_json)
    else:
        _batch(job, options)


def _batch(job: Job, options: dict[str, Any]) -> None:
    from sightline.synth.run import read_results, write_requests

    if options["batch"] == "write":
        for path in write_requests(job):
            print(path)
    else:
        lines, report = read_results(job, options["results"])
        _tell(job, report, lines, as_json=options["as_json"])


def _copy_prompts(prompts: Path | None) -> None:
    from sightline.synth.kinds import copy_prompts

    if prompts is None:
        raise ConfigError("--copy-prompts: name the folder to write to with --prompts")
    with writing():
        written = copy_prompts(prompts)
    for path in written:
        print(path)


def _check(options: dict[str, Any]) -> None:
    """What one option demands of another; before anything slow."""
    for key, allowed in (
        ("teacher", TEACHERS),
        ("engine", ("asyncio", "ray")),
        ("editions", ("one", "present", "all")),
        ("batch", (None, "write", "read")),
    ):
        if options[key] not in allowed:
            expected = ", ".join(str(value) for value in allowed if value)
            raise ConfigError(f"--{key}: found {options[key]!r}, expected {expected}")
    local = options["teacher"] != "openai"
    for wrong, message in (
        (options["output"] is None, "--out: name a directory for the run"),
        (not local and not options["model"], "--model: name the model on the server, or use --teacher rules"),
        (local and options["model"], "--model: only for --teacher openai; other teachers have a name of their own"),
        (options["teacher"] == "checkpoint" and options["checkpoint"] is None,
         "--teacher checkpoint: name its directory behind the source: sightline synth SOURCE --teacher checkpoint DIR"),
        (options["teacher"] != "checkpoint" and options["checkpoint"] is not None,
         f"{options['checkpoint']}: a second path is a checkpoint's; add --teacher checkpoint"),
        (options["teacher"] == "checkpoint" and options["images"] is None,
         "--images: a checkpoint looks at the pictures; name their folder"),
        (options["engine"] == "ray" and not local,
         "--engine ray: for local teachers (rules, checkpoint); one process holds a server's limits"),
        (options["batch"] and local, "--batch: only for --teacher openai"),
        (options["batch"] == "read" and not options["results"], "--batch read: name the result files with --results"),
        (options["images"] is not None and not options["images"].is_dir(), f"--images: no folder {options['images']}"),
        (not 0 < options["stop_share"] <= 1, f"--stop-share: found {options['stop_share']}, expected 0 to 1"),
    ):  # fmt: skip
        if wrong:
            raise ConfigError(message)


def _read(options: dict[str, Any]) -> tuple[Source, dict[str, Kind]]:
    from sightline.synth.kinds import load_kinds
    from sightline.synth.sources import read_source

    kinds = load_kinds(options["prompts"])
    for text in options["show"] or []:
        name, _, parts = text.partition("=")
        shown = tuple(dict.fromkeys(parts.split("+")))
        if name not in kinds or not set(shown) <= {"captions", "boxes"}:
            raise ConfigError(f"--show: found {text!r}, expected KIND=captions, KIND=boxes or KIND=captions+boxes")
        kinds[name] = kinds[name].showing(cast(Any, shown))
    found = read_source(options["source"], format=options["format"], images=options["images"], split=options["split"])
    for reason, count in sorted(found.left_out.items()):
        if count:
            say(f"left out: {count} {reason}")
    return found, kinds


def _job(options: dict[str, Any]) -> tuple[Job, Callable[[], Teacher]]:
    from sightline.ask.limits import Limits
    from sightline.synth.plan import Plan, parse_mixture
    from sightline.synth.run import Job

    found, kinds = _read(options)
    name, make_teacher, interviewer = _teacher(options, found)
    limits = Limits(
        concurrency=options["concurrency"],
        requests_per_minute=options["requests_per_minute"],
        tokens_per_minute=options["tokens_per_minute"],
        stop_share=options["stop_share"],
        **({} if options["teacher"] == "openai" else {"circuit_failures": LOCAL_CIRCUIT}),
    )
    plan = Plan(
        kinds=kinds,
        mixture=parse_mixture(options["mix"], list(kinds)) if options["mix"] else dict.fromkeys(kinds),
        model=name,
        seed=options["seed"],
        images=options["images"] if interviewer else None,
        interviewer=interviewer,
    )
    job = Job(
        directory=options["output"],
        source=found,
        contexts=found.contexts[: options["limit"]],
        plan=plan,
        images=options["images"],
        limits=limits,
        budget=budget_of(options["prices"], options["budget"], options["budget_tokens"]),
        asks=options["asks"],
        revive=options["revive"],
        editions=cast(Literal["one", "present", "all"], options["editions"]),
        licences=_licences(options["licence"] or []),
    )
    return job, make_teacher


def _teacher(options: dict[str, Any], found: Source) -> tuple[str, Callable[[], Teacher], Interviewer | None]:
    """The teacher's name, how it is made, and who thinks of the questions where it does not."""
    from functools import partial

    from sightline.synth.rules import MODEL, RuleTeacher

    rules = partial(RuleTeacher, sorted(found.vocabulary))
    if options["teacher"] == "rules":
        return MODEL, rules, None
    if options["teacher"] == "checkpoint":
        from sightline.infer.teacher import CheckpointTeacher, checkpoint_name

        make = partial(CheckpointTeacher, options["checkpoint"].resolve(), images=options["images"])
        return checkpoint_name(options["checkpoint"]), make, rules().interview
    from sightline.ask.openai_teacher import OpenAITeacher

    make_openai = partial(
        OpenAITeacher,
        base_url=options["base_url"],
        key_variable=options["key_variable"],
        deadline=options["deadline"],
        seeded=options["send_seed"],
        tokens_field=options["tokens_field"],
    )
    return options["model"], make_openai, None


def _run(job: Job, make_teacher: Callable[[], Teacher], options: dict[str, Any]) -> tuple[Summary, Report]:
    from sightline.ask.progress import progress_bar
    from sightline.synth.on_ray import run_on_ray
    from sightline.synth.run import run

    with progress_bar() as progress:
        try:
            if options["engine"] == "ray":
                return run_on_ray(
                    job, make_teacher, workers=options["workers"], gpus=options["gpus"], progress=progress
                )
            return run(job, make_teacher(), progress=progress)
        except BudgetError:
            say(f"what was answered so far is in {job.directory}")
            raise


def _licences(stated: list[str]) -> Any:
    from sightline.synth.card import Licences

    found = {}
    for text in stated:
        name, equals, words = text.partition("=")
        if name not in ("data", "annotations", "pictures") or not equals or not words.strip():
            raise ConfigError(f"--licence: found {text!r}, expected data=..., annotations=... or pictures=...")
        found[name] = words.strip()
    return Licences(**found)


def _tell(job: Job, report: Report, extra: dict[str, Any], *, as_json: bool) -> None:
    from sightline.synth.export import DATA
    from sightline.synth.run import PAGE

    if as_json:
        print(json.dumps({**report.to_json(), **extra, "data": str(job.directory / DATA)}))
        return
    accepted, asked = report.accepted.total(), report.asked.total()
    for kind, count in sorted(report.export.samples.items()):
        print(f"{kind}: {count:,} samples")
    print(f"accepted {accepted:,} of {asked:,}; {report.spending.tokens:,} tokens, cost {report.spending.money:.2f}")
    print(f"data: {job.directory / DATA}; page: {job.directory / PAGE}")
