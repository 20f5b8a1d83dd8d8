"""Commands that have answers judged: `judge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.common import JsonFlag, budget_of, say

if TYPE_CHECKING:
    from sightline.ask.budget import Budget
    from sightline.ask.teacher import Teacher
    from sightline.evaluate.judge.run import Job, Judged


def judge(
    bench: Annotated[str, typer.Argument(help="llava-bench, llava-bench-coco, mm-vet or scienceqa.")],
    answers: Annotated[Path, typer.Option(help="The model's answers, as `evaluate` writes them.")],
    data: Annotated[Path, typer.Option(help="Folder of the benchmark's official files.")],
    model: Annotated[str, typer.Option(help="The judge's name on its server, such as gpt-4-0314.")],
    out: Annotated[Path, typer.Option(help="Directory of the judgement: ledger, reviews, summary.")],
    base_url: Annotated[str, typer.Option(help="Address of the server.")] = "https://api.openai.com/v1",
    key_variable: Annotated[str, typer.Option(help="Variable that holds the API key.")] = "OPENAI_API_KEY",
    prompts: Annotated[Path | None, typer.Option(help="Wording of your own, such as LLaVA's rule.json.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Independent judgements of each answer.")] = 1,
    swap: Annotated[bool, typer.Option("--swap", help="LLaVA-Bench: ask in both orders, and average.")] = False,
    temperature: Annotated[float | None, typer.Option(help="LLaVA-Bench: instead of the protocol's 0.2.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest reply.")] = None,
    asks: Annotated[int, typer.Option(min=1, help="Times that a question is asked while replies are unusable.")] = 1,
    protocol: Annotated[str, typer.Option(help="official or llava15: how failed reviews count.")] = "official",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 16,
    tokens_field: Annotated[str, typer.Option(help="Or max_completion_tokens, for models that insist.")] = "max_tokens",
    deadline: Annotated[float, typer.Option(help="Seconds for a request.")] = 120.0,
    budget: Annotated[str | None, typer.Option(help="Money that is never exceeded; needs prices.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Tokens that are never exceeded.")] = None,
    prices: Annotated[str | None, typer.Option(help="Of a million tokens of prompts and replies: 0.15,0.60")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Have a language model judge answers, and score what it says. Started again, it goes on where it stopped."""
    from sightline.ask.openai_teacher import OpenAITeacher
    from sightline.evaluate.judge.run import Job

    job = Job(
        bench=bench,
        data=data,
        answers=answers,
        out=out,
        prompts=prompts,
        runs=runs,
        swap=swap,
        temperature=temperature,
        max_tokens=max_tokens,
    )
    limit = budget_of(prices, budget, budget_tokens)
    # Without a seed, as the originals ask: with one, independent runs of the judge would say the same.
    teacher = OpenAITeacher(
        base_url=base_url, key_variable=key_variable, deadline=deadline, seeded=False, tokens_field=tokens_field
    )
    _tell(_asked(job, teacher, model, limit, asks=asks, concurrency=concurrency), protocol, as_json=as_json)


def _asked(job: Job, teacher: Teacher, model: str, budget: Budget, *, asks: int, concurrency: int) -> Judged:
    from sightline.ask.ledger import Ledger
    from sightline.ask.limits import Limits
    from sightline.ask.progress import progress_bar
    from sightline.evaluate.judge.asking import Desk
    from sightline.evaluate.judge.run import LEDGER, run

    job.out.mkdir(parents=True, exist_ok=True)
    with Ledger(job.out / LEDGER) as ledger, progress_bar() as progress:
        desk = Desk(
            model=model,
            teacher=teacher,
            ledger=ledger,
            budget=budget,
            limits=Limits(concurrency=concurrency),
            asks=asks,
            progress=progress,
        )
        return run(job, desk)


def _tell(judged: Judged, protocol: str, *, as_json: bool) -> None:
    """The scores of what was judged, and what is wrong with it."""
    from sightline.evaluate.results import table
    from sightline.evaluate.score import score_files

    for name, what in (
        ("missing", "questions have no answer"),
        ("failed", "replies could not be used"),
        ("silent", "questions got no reply"),
    ):
        if judged.summary[name]:
            say(f"sightline: {judged.summary[name]} {what}")
    results = [score_files(one.task, one.predictions, one.annotations, protocol=protocol) for one in judged.scorings]
    if as_json:
        print(json.dumps(judged.summary | {"scores": [result.to_json() for result in results]}))
        return
    for one, result in zip(judged.scorings, results, strict=True):
        print(f"{', '.join(map(str, one.predictions))}\n{table(result)}")
