"""What is served: models by their names, and everything that requests share.

Comes in: checkpoints that were loaded, limits, what the operator allows. Goes out: a `Service` that the routes ask.
Knows no route.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest

from sightline.data.processor import Processor
from sightline.model.vlm import VisionLanguageModel
from sightline.serve.answer import Answer, Seats
from sightline.serve.body import Budget, read_body
from sightline.serve.engine import Engine
from sightline.serve.figures import Reading
from sightline.serve.limits import Limits
from sightline.serve.pictures import Fetch
from sightline.serve.prepare import Conversation, Prepared, Preparer
from sightline.serve.refusals import Refusal
from sightline.serve.request import Request

Given = TypeVar("Given")
Made = TypeVar("Made")
DECODERS = 2
"""Threads that decode pictures; a picture of the largest size takes 64 MiB in each."""


@dataclass(kw_only=True)
class Served:
    """One checkpoint: its name in the API, and what answers for it."""

    name: str
    model: VisionLanguageModel
    processor: Processor
    card: Mapping[str, Any]
    engine: Engine
    seats: Seats
    prepare: Preparer
    began: int = field(default_factory=lambda: int(time.time()))

    def wait(self) -> int:
        """Seconds until there may be a seat, by how long answers took so far."""
        turns = self.seats.taken / max(1, self.engine.rows)
        return max(1, min(30, round(turns * self.engine.figures.answer.mean)))

    async def is_well(self, limits: Limits) -> bool:
        """Whether the engine has made a step of late, or makes one now."""
        if time.monotonic() - self.engine.stepped < limits.proof:
            return self.engine.alive
        before = self.engine.stepped
        self.engine.probe()
        end = time.monotonic() + limits.proof
        while self.engine.alive and self.engine.stepped == before and time.monotonic() < end:
            await asyncio.sleep(0.02)
        working = self.engine.began > self.engine.stepped and time.monotonic() - self.engine.began < limits.work
        return self.engine.alive and (self.engine.stepped != before or working)


class Service:
    """Everything that requests share. Made on any thread, used on the event loop's."""

    def __init__(
        self, *, limits: Limits, fetch: Fetch | None = None, told: Callable[[str], None] = lambda line: None
    ) -> None:
        self.limits, self.fetch, self.told = limits, fetch, told
        self.models: dict[str, Served] = {}
        self.refusals: Counter[tuple[int, str]] = Counter()
        self.stopping = False
        self._budget = Budget(limits.bodies)
        self._pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="pictures")

    def add(self, name: str, model: VisionLanguageModel, processor: Processor, *, card: Mapping[str, Any]) -> Served:
        """Serves a model under a name."""
        engine = Engine(model, processor, rows=self.limits.rows, remembered=self.limits.remembered, told=self.told)
        self.models[name] = Served(
            name=name,
            model=model,
            processor=processor,
            card=card,
            engine=engine,
            seats=Seats(self.limits.rows + self.limits.queue),
            prepare=Preparer(processor, context=engine.context, fetch=self.fetch),
        )
        return self.models[name]

    def named(self, name: str) -> Served:
        """The model of this name; `Refusal` when there is none."""
        if name not in self.models:
            raise Refusal("model_not_found", param="model")
        return self.models[name]

    def count(self, refusal: Refusal) -> None:
        """For the metrics."""
        self.refusals[refusal.status, refusal.code] += 1

    @property
    def taken(self) -> int:
        """Requests that are being answered or wait."""
        return sum(served.seats.taken for served in self.models.values())

    def readings(self) -> list[Reading]:
        """Every engine's figures now."""
        return [
            Reading(
                model=name, figures=served.engine.figures, rows=served.engine.load[0], waiting=served.engine.load[1]
            )
            for name, served in self.models.items()
        ]

    async def body(self, http: HttpRequest) -> bytes:
        """A request's body within the limits; `Refusal` also when the server is stopping."""
        if self.stopping:
            raise Refusal("stopping", retry_after=30)
        return await read_body(http, seconds=self.limits.receive, budget=self._budget)

    async def aside(self, work: Callable[[Given], Made], given: Given) -> Made:
        """Work that must not hold up the event loop. `Refusal` when it takes too long."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, given)
        try:
            return await asyncio.wait_for(future, self.limits.prepare)
        except TimeoutError:
            raise Refusal("timeout") from None

    async def ask(
        self, served: Served, talk: Conversation, make: Callable[[Prepared, Answer], Request], http: HttpRequest
    ) -> Answer:
        """Takes a seat, prepares the conversation, and hands the request that `make` makes to the engine."""
        served.seats.claim(wait=served.wait)
        with ExitStack() as undo:
            undo.callback(served.seats.release)
            answer = Answer(http.receive, release=served.seats.release)
            undo.callback(answer.leave)

            def prepare(talk: Conversation) -> Prepared:
                if answer.left:
                    raise Refusal("cancelled")
                return served.prepare(talk)

            request = make(await self.aside(prepare, talk), answer)
            undo.pop_all()
        answer.begin(served.engine, request)
        return answer

    def close(self) -> None:
        """Ends all engines; what they were answering ends with a fault."""
        for served in self.models.values():
            served.engine.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def card_of(model: VisionLanguageModel, processor: Processor, info: Mapping[str, Any]) -> dict[str, Any]:
    """What a person wants to know of a model, from itself and the `info` of its checkpoint. No folder is named."""
    recipe = info.get("recipe") or {}
    sources = recipe.get("model") or {}
    parts = {}
    for name, part in model.parts().items():
        source = sources.get(name)
        parts[name] = {
            "parameters": sum(parameter.numel() for parameter in part.parameters()),
            "source": _without_folders(source) if isinstance(source, str) else None,
        }
    card: dict[str, Any] = {
        "parts": parts,
        "template": processor.settings.template,
        "image_size": processor.settings.image_size,
        "positions_per_picture": processor.settings.image_tokens,
    }
    if recipe:
        card["recipe"] = _without_folders({key: value for key, value in recipe.items() if key != "output"})
    if "imported" in info:
        card["imported"] = _without_folders(info["imported"])
    return card


def _without_folders(value: Any) -> Any:
    """Values of a recipe; of a path only its last name is left, as a client has no business with folders."""
    if isinstance(value, Mapping):
        return {key: _without_folders(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_folders(each) for each in value]
    if isinstance(value, str) and value.startswith(("/", "./", "../", "~")):
        return PurePath(value).name
    return value


def names_of(checkpoints: Sequence[PurePath]) -> list[str]:
    """A name for each: its folder's, with as many of the folders above as it takes to tell them apart."""
    for depth in range(1, max((len(path.parts) for path in checkpoints), default=0) + 1):
        names = ["/".join(path.parts[-depth:]) for path in checkpoints]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name}-{number}" for number, path in enumerate(checkpoints, 1)]
