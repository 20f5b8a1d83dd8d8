"""A whole judgement: from official files and answers to files that `sightline score` reads.

Comes in: a `Job` and a `Desk`. Goes out: the files in the job's directory, written when all replies are there, and
`judge.json` beside them: who judged, by which wording, what failed. Started again after a kill, it asks only what the
ledger does not answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sightline.atomic import write_atomic
from sightline.errors import ConfigError, nearest
from sightline.evaluate.judge import llava_bench, mm_vet, scienceqa
from sightline.evaluate.judge.asking import Desk, official_file, prompt_file

LEDGER, SUMMARY = "ledger.sqlite", "judge.json"
PROMPTS = {
    "llava-bench": "llava_bench.json",
    "llava-bench-coco": "llava_bench.json",
    "mm-vet": "mm_vet.txt",
    "scienceqa": "scienceqa.json",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is judged.

    Attributes:
        bench: one of `PROMPTS`.
        data: folder of the official files.
        prompts: a prompt file of the user's own, such as LLaVA's rule.json; None for the package's.
        runs: how often each question is judged anew; ScienceQA takes one.
        swap: LLaVA-Bench: ask in both orders, and average.
        temperature: LLaVA-Bench's; None for the protocol's.
    """

    bench: str
    data: Path
    answers: Path
    out: Path
    prompts: Path | None = None
    runs: int = 1
    swap: bool = False
    temperature: float | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.bench not in PROMPTS:
            raise ConfigError(
                f"no judge for {self.bench!r}{nearest(self.bench, PROMPTS)} (there are {_names(PROMPTS)})"
            )
        if self.swap and not self.bench.startswith("llava-bench"):
            raise ConfigError(f"--swap: {self.bench} shows the judge one answer, there is no order to swap")
        if self.temperature is not None and not self.bench.startswith("llava-bench"):
            raise ConfigError(f"--temperature: {self.bench} has its own")
        if self.runs > 1 and self.bench == "scienceqa":
            raise ConfigError("--runs: scienceqa is asked at temperature 0, once")


class Scoring(NamedTuple):
    """What to give to `sightline score`."""

    task: str
    predictions: list[Path]
    annotations: list[Path]


class Judged(NamedTuple):
    """What a job made: files to be scored, each set for itself, and what is in `judge.json`."""

    scorings: list[Scoring]
    summary: dict[str, Any]


def run(job: Job, desk: Desk) -> Judged:
    """Asks, and writes.

    Raises:
        DataError: a file is missing or another one.
        TeacherError, BudgetError, StorageError: see `Desk.ask`; what was answered is kept.
    """
    judged = _BENCHES[job.bench](job, desk)
    write_atomic(job.out / SUMMARY, json.dumps(judged.summary, indent=1) + "\n")
    return judged


def _llava_bench(job: Job, desk: Desk) -> Judged:
    names = llava_bench.COCO if job.bench == "llava-bench-coco" else llava_bench.WILD
    prompt = prompt_file(PROMPTS[job.bench], job.prompts)
    items, missing = llava_bench.read_items(job.data, job.answers, names)
    temperature = llava_bench.TEMPERATURE if job.temperature is None else job.temperature
    reviews = [
        llava_bench.review(
            items,
            prompt,
            desk,
            run=number,
            swap=job.swap,
            temperature=temperature,
            max_tokens=job.max_tokens or llava_bench.MAX_TOKENS,
        )
        for number in range(1, job.runs + 1)
    ]
    paths = [_write(job.out / f"reviews-{number}.jsonl", one.rows) for number, one in enumerate(reviews, start=1)]
    leans = [one.lean for one in reviews if one.lean is not None]
    summary = {
        **_about(job, desk, prompt.source, prompt.version, missing),
        "temperature": temperature,
        "swap": job.swap,
        "failed": sum(one.failed for one in reviews),
        "silent": sum(one.silent for one in reviews),
        "points_for_standing_first": sum(leans) / len(leans) if leans else None,
    }
    return Judged([Scoring(job.bench, paths, [official_file(job.data, names.questions)])], summary)


def _mm_vet(job: Job, desk: Desk) -> Judged:
    prompt = prompt_file(PROMPTS[job.bench], job.prompts)
    annotations = official_file(job.data, "mm-vet.json")
    items, missing = mm_vet.read_items(annotations, job.answers)
    found = mm_vet.grade(items, prompt, desk, runs=job.runs, max_tokens=job.max_tokens or mm_vet.MAX_TOKENS)
    path = job.out / "grades.json"
    write_atomic(path, json.dumps(found.entries, ensure_ascii=False) + "\n")
    about = _about(job, desk, prompt.source, prompt.version, missing)
    return Judged([Scoring("mmvet", [path], [annotations])], {**about, "failed": found.failed, "silent": found.silent})


def _scienceqa(job: Job, desk: Desk) -> Judged:
    prompt = prompt_file(PROMPTS[job.bench], job.prompts)
    annotations = [official_file(job.data, "problems.json")]
    if any(job.data.rglob("pid_splits.json")):
        annotations.append(official_file(job.data, "pid_splits.json"))
    problems, rows, missing = scienceqa.read_answers(annotations, job.answers)
    found = scienceqa.combine(problems, rows, prompt, desk, max_tokens=job.max_tokens or scienceqa.MAX_TOKENS)
    paths = [
        _write(job.out / f"{name}.jsonl", rows)
        for name, rows in (("text-only", found.text_only), ("complement", found.complement), ("judged", found.judged))
    ]
    about = _about(job, desk, prompt.source, prompt.version, missing)
    summary = {**about, "asked_again": found.asked_again, "failed": found.failed, "silent": found.silent}
    return Judged([Scoring("scienceqa", [path], annotations) for path in paths], summary)


_BENCHES: dict[str, Callable[[Job, Desk], Judged]] = {
    "llava-bench": _llava_bench,
    "llava-bench-coco": _llava_bench,
    "mm-vet": _mm_vet,
    "scienceqa": _scienceqa,
}


def _about(job: Job, desk: Desk, source: str, version: str, missing: list[str]) -> dict[str, Any]:
    return {
        "bench": job.bench,
        "judge": desk.model,
        "prompts": source,
        "prompts_version": version,
        "answers": str(job.answers),
        "runs": job.runs,
        "missing": len(missing),
    }


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
