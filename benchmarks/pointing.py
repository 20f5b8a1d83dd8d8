"""Does the heat fall on what was asked about: `python -m benchmarks.pointing DEMO`.

Comes in: a directory of `sightline demo`. Goes out: for each type of question, how often the patch of most heat has its
center in a box of what the answer turns on (the pointing game, Zhang et al. 2016, section 4.1, without its tolerance),
and the share of the heat in these boxes. Beside them what a patch drawn by lot would score, and two controls: the heat
over another question's picture, and that of a model whose connector has forgotten what it learnt (Adebayo et al. 2018).

Only questions that the model answers right are counted: a wrong answer may well come from looking elsewhere.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.console import Console

from benchmarks.attribution import METHODS
from benchmarks.record import Record, Row, Table
from sightline.data.image import open_image
from sightline.data.processor import Processor
from sightline.data.sample import ImageRef, Turn, canonical_content
from sightline.demo.coco import file_name, read_scenes
from sightline.demo.dataset import held_out
from sightline.demo.teacher import SHORT_ANSWER, Exchange
from sightline.demo.world import CANVAS, SIGN, Scene
from sightline.evaluate.tasks.short_answers import normalise
from sightline.infer.chat import stop_rule
from sightline.infer.explain import explain
from sightline.infer.generate import Prompt, generate
from sightline.infer.load import load
from sightline.infer.relevance import Method
from sightline.infer.sampling import Sampling
from sightline.model.connector import build_connector
from sightline.model.vlm import VisionLanguageModel

Mask = npt.NDArray[np.float64]
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Case:
    """A question that was answered right, its picture, and how much of each patch lies in a box of what is meant.

    Attributes:
        inside: float[h, w], the share of each patch's area that is in a box.
        centers: bool[h, w], whether a patch's center is.
    """

    type: str
    turn: Turn
    answer: str
    picture: Image.Image
    inside: Mask
    centers: Mask


def boxes(scene: Scene, asked: Exchange) -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom in pixels of what one has to look at."""
    found = [
        (
            thing.x - thing.diameter / 2,
            thing.y - thing.diameter / 2,
            thing.x + thing.diameter / 2,
            thing.y + thing.diameter / 2,
        )
        for thing in asked.things
    ]
    if asked.type == "reading" and scene.sign is not None:
        (width, height), sign = SIGN, scene.sign
        found.append((sign.x - width / 2, sign.y - height / 2, sign.x + width / 2, sign.y + height / 2))
    return found


def covered(found: Sequence[tuple[float, float, float, float]], side: int) -> tuple[Mask, Mask]:
    """Of a grid of `side` x `side` patches: what share of each patch is in a box, and whether its center is."""
    fine = np.zeros((CANVAS, CANVAS))
    points = np.arange(CANVAS) + 0.5
    middle = (np.arange(side) + 0.5) * CANVAS / side
    centers = np.zeros((side, side))
    for left, top, right, bottom in found:
        fine[np.ix_((points > top) & (points < bottom), (points > left) & (points < right))] = 1
        centers[np.ix_((middle > top) & (middle < bottom), (middle > left) & (middle < right))] = 1
    patch = CANVAS // side
    return fine.reshape(side, patch, side, patch).mean((1, 3)), centers


def cases(model: VisionLanguageModel, processor: Processor, demo: Path, *, split: str, most: int) -> list[Case]:
    """At most `most` questions of each type, the first that are answered right."""
    scenes = read_scenes(demo / "data" / "annotations" / f"instances_{split}.json")
    asked = [(scene, exchange) for scene in scenes for exchange in held_out(scene) if boxes(scene, exchange)]
    stop, side = stop_rule(processor), model.vision.image_size // model.vision.patch_size
    found: dict[str, list[Case]] = {}
    for start in range(0, len(asked), BATCH):
        group = [pair for pair in asked[start : start + BATCH] if len(found.get(pair[1].type, ())) < most]
        if not group:
            continue
        pictures = [open_image(file_name(scene.index), root=demo / "data" / "images" / split) for scene, _ in group]
        turns = [
            Turn(role="user", content=canonical_content([ImageRef(index=0), f"{exchange.question}\n{SHORT_ANSWER}"]))
            for _, exchange in group
        ]
        prompts = [
            Prompt(ids=processor.prompt([turn]), pixels=processor.pixels([picture]))
            for turn, picture in zip(turns, pictures, strict=True)
        ]
        answers = generate(model, prompts, sampling=Sampling(max_new_tokens=16), stop=stop)
        for (scene, exchange), turn, picture, ids in zip(group, turns, pictures, answers, strict=True):
            answer = stop.text(ids)
            known = found.setdefault(exchange.type, [])
            if normalise(answer) != normalise(exchange.short) or len(known) == most:
                continue
            inside, centers = covered(boxes(scene, exchange), side)
            known.append(
                Case(type=exchange.type, turn=turn, answer=answer, picture=picture, inside=inside, centers=centers)
            )
    return [case for kind in sorted(found) for case in found[kind]]


@dataclass(frozen=True, kw_only=True)
class Pointed:
    """How one heat did."""

    type: str
    hit: float
    energy: float
    seconds: float


def point(
    model: VisionLanguageModel, processor: Processor, case: Case, method: Method, *, picture: Image.Image
) -> Pointed:
    """The heat of the case's answer over `picture`, against the boxes of the case's own."""
    started = time.process_time()
    (heat,) = explain(model, processor, [case.turn], [picture], case.answer, method=method)
    seconds = time.process_time() - started
    grid = heat.grid.astype(np.float64)
    hit = case.centers.flat[int(grid.argmax())]
    energy = float((grid * case.inside).sum() / grid.sum()) if grid.any() else 0.0
    return Pointed(type=case.type, hit=float(hit), energy=energy, seconds=seconds)


def row(name: str, pointed: Iterable[Pointed]) -> tuple[Row, Row]:
    """Hits and energy by type, over all and as the mean of the types."""
    by_type: dict[str, list[Pointed]] = {}
    for one in pointed:
        by_type.setdefault(one.type, []).append(one)
    every = [one for found in by_type.values() for one in found]
    seconds = statistics.median(one.seconds for one in every)
    return tuple(  # type: ignore[return-value]
        {
            "method": name,
            **{kind: statistics.fmean(getattr(one, what) for one in found) for kind, found in by_type.items()},
            "all": statistics.fmean(getattr(one, what) for one in every),
            "seconds": seconds,
        }
        for what in ("hit", "energy")
    )


def chance(found: Sequence[Case]) -> list[Pointed]:
    """A patch drawn by lot, and heat spread evenly."""
    return [
        Pointed(type=case.type, hit=float(case.centers.mean()), energy=float(case.inside.mean()), seconds=0.0)
        for case in found
    ]


def forgetful(model: VisionLanguageModel) -> VisionLanguageModel:
    """The same model with a new connector of the same kind: it answers without seeing."""
    torch.manual_seed(0)
    old = model.connector
    new = build_connector(old.kind, vision_width=old.vision_width, language_width=old.language_width)
    return VisionLanguageModel(model.vision, new, model.language, image_token_id=model.image_token_id).eval()


def main() -> None:
    """Prints two tables: hits, and energy."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pointing", description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--most", type=int, default=50, help="questions of each type")
    parser.add_argument("--method", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--control", nargs="*", choices=list(METHODS), default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    given = parser.parse_args()
    console = Console(width=200)
    model, processor = load(given.demo / "instruct")
    found = cases(model, processor, given.demo, split=given.split, most=given.most)
    rows = [row("chance", chance(found))]
    for name in given.method:
        rows.append(row(name, [point(model, processor, case, METHODS[name], picture=case.picture) for case in found]))
        console.print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1][0].items()})
    blind = forgetful(model)
    for name in given.control:
        method = METHODS[name]
        others = [*found[len(found) // 2 :], *found[: len(found) // 2]]
        pairs = zip(found, others, strict=True)
        swapped = [point(model, processor, case, method, picture=other.picture) for case, other in pairs]
        rows.append(row(f"{name}, another picture", swapped))
        forgot = [point(blind, processor, case, method, picture=case.picture) for case in found]
        rows.append(row(f"{name}, connector forgotten", forgot))
    record = Record("pointing", given.out, console)
    for which, title in enumerate(("hits", "energy")):
        record.add("pointing", Table(title=title, rows=[pair[which] for pair in rows]))
    console.print(f"{len(found)} questions; written: {record.path}")


if __name__ == "__main__":
    main()
