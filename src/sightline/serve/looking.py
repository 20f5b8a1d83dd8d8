"""`POST /v1/explain`: where a model looked for an answer.

Comes in: a conversation and an answer to it. Goes out: heat over each of its pictures. It changes nothing in the model,
so the engine's steps go on meanwhile; one explanation is made at a time, each on a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sightline.infer.explain import look as explained
from sightline.infer.explain import to_json
from sightline.serve.prepare import Conversation, checked_words, conversation
from sightline.serve.refusals import Refusal
from sightline.serve.schema import ExplainRequest, parse
from sightline.serve.service import Served, Service

_explainer = ThreadPoolExecutor(1, thread_name_prefix="explaining")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be explained. `left`: nobody waits for it any more."""

    served: Served
    talk: Conversation
    answer: str
    left: threading.Event


async def explain(request: Request) -> Response:
    """The route."""
    service: Service = request.app.state.service
    asked = parse(ExplainRequest, await service.body(request))
    served = service.named(asked.model)
    checked_words(asked.answer, "answer")
    talk = conversation(asked.messages)
    if not talk.addresses or not asked.answer.strip():
        raise Refusal("nothing_to_explain", param="answer" if talk.addresses else "messages")
    question = Question(served=served, talk=talk, answer=asked.answer, left=threading.Event())
    served.seats.claim(wait=served.wait)
    work = asyncio.get_running_loop().run_in_executor(_explainer, _aside, question)
    work.add_done_callback(lambda done: served.seats.release())  # the seat is free when the work has stopped
    try:
        return JSONResponse(await asyncio.wait_for(asyncio.shield(work), service.limits.answer))
    except TimeoutError:
        work.add_done_callback(lambda done: done.exception())  # looked at, so that nobody complains
        raise Refusal("timeout") from None
    finally:
        question.left.set()


def _aside(question: Question) -> dict[str, Any]:
    """On a thread that ends with it: see `engine` on threads that compute."""
    with ThreadPoolExecutor(1) as once:
        return once.submit(_explained, question).result()


def _explained(question: Question) -> dict[str, Any]:
    """The body of the reply."""
    if question.left.is_set():
        raise Refusal("cancelled")
    served = question.served
    asked, pictures = served.prepare.told(question.talk, question.answer)
    try:
        return to_json(explained(served.model, served.processor, asked, pictures))
    except (MemoryError, torch.OutOfMemoryError):
        raise Refusal("memory") from None
