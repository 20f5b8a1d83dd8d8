"""All benchmarks by name."""

from __future__ import annotations

from sightline.errors import DataError, nearest
from sightline.evaluate.tasks import (
    captions,
    chair,
    documents,
    gqa,
    judged,
    mmbench,
    mme,
    mmmu,
    pope,
    probes,
    scienceqa,
    seed,
    short_answers,
    textvqa,
    vqa,
)
from sightline.evaluate.tasks.task import Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        vqa.VQAV2,
        gqa.GQA,
        vqa.VIZWIZ,
        scienceqa.SCIENCEQA,
        textvqa.TEXTVQA,
        pope.POPE,
        mme.MME,
        mmbench.MMBENCH,
        mmbench.MMBENCH_CN,
        seed.SEED,
        judged.LLAVA_BENCH,
        judged.LLAVA_BENCH_COCO,
        judged.MMVET,
        vqa.OKVQA,
        captions.COCO_CAPTION,
        captions.TEXTCAPS,
        chair.CHAIR,
        documents.OCRVQA,
        documents.CHARTQA,
        documents.DOCVQA,
        mmmu.MMMU,
        probes.PROBES,
        probes.TYPOGRAPHIC,
        short_answers.SHORT_ANSWERS,
    )
}


def task_named(name: str) -> Task:
    """The benchmark of that name.

    Raises:
        DataError: there is none.
    """
    if name not in TASKS:
        raise DataError(f"no task {name!r}{nearest(name, TASKS)} (there are {', '.join(TASKS)})", reason="no_task")
    return TASKS[name]
