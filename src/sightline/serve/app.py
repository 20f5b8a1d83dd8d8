"""The application: which address does what.

Comes in: a `Service`, a `Door`, perhaps a `Collection`. Goes out: an ASGI application. Whatever goes wrong ends in a
body of OpenAI's form with a constant text.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sightline.serve.completions import complete
from sightline.serve.feedback import Collection, Judgement
from sightline.serve.figures import render
from sightline.serve.guard import Door, Guard, refused
from sightline.serve.limits import BODY_BYTES, MESSAGES, MOST_TOKENS, PICTURE_BYTES, PICTURES
from sightline.serve.looking import explain
from sightline.serve.openapi import document
from sightline.serve.page import page_files, page_routes
from sightline.serve.prepare import checked_words, conversation
from sightline.serve.refusals import Refusal
from sightline.serve.schema import FeedbackRequest, parse
from sightline.serve.service import Served, Service

LIMITS = {
    "body_bytes": BODY_BYTES,
    "picture_bytes": PICTURE_BYTES,
    "pictures": PICTURES,
    "messages": MESSAGES,
    "tokens": MOST_TOKENS,
}


def build_app(service: Service, *, door: Door, collection: Collection | None = None) -> Starlette:
    """All routes behind the guard."""
    files = page_files()
    routes = [
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/explain", explain, methods=["POST"]),
        Route("/v1/models", list_models, methods=["GET"]),
        Route("/v1/models/{model:path}", one_model, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
        *page_routes(files),
    ]
    if collection is not None:
        routes.append(Route("/v1/feedback", feedback, methods=["POST"]))
    open_door = Door(hosts=door.hosts, key=door.key, open_paths={*door.open_paths, "/openapi.json", *files})
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, door=open_door, refused=service.count)],
        exception_handlers={
            Refusal: _refuse,
            HTTPException: _refuse_address,
            ClientDisconnect: _refuse_nobody,
            Exception: _fail,
        },
    )
    app.router.redirect_slashes = False
    app.state.service, app.state.collection = service, collection
    app.state.openapi = document(keyed=door.key is not None, collects=collection is not None)
    return app


async def list_models(request: Request) -> Response:
    """`GET /v1/models`."""
    served = request.app.state.service.models.values()
    return JSONResponse({"object": "list", "data": [_entry(each, request) for each in served]})


async def one_model(request: Request) -> Response:
    """`GET /v1/models/NAME`."""
    return JSONResponse(_entry(request.app.state.service.named(request.path_params["model"]), request))


async def health(request: Request) -> Response:
    """`GET /health`: 200 where every engine has made a step of late, or makes one now."""
    service: Service = request.app.state.service
    state = {name: await served.is_well(service.limits) for name, served in service.models.items()}
    well = all(state.values()) and not service.stopping
    words = "ok" if well else "stopping" if service.stopping else "engine does not step"
    return JSONResponse({"status": words, "models": state}, status_code=200 if well else 503)


async def metrics(request: Request) -> Response:
    """`GET /metrics`, for Prometheus."""
    service: Service = request.app.state.service
    return PlainTextResponse(
        render(service.readings(), service.refusals), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


async def openapi(request: Request) -> Response:
    """`GET /openapi.json`."""
    return JSONResponse(request.app.state.openapi)


async def feedback(request: Request) -> Response:
    """`POST /v1/feedback`."""
    service: Service = request.app.state.service
    asked = parse(FeedbackRequest, await service.body(request))
    served = service.named(asked.model)
    for key in ("answer", "correction"):
        checked_words(getattr(asked, key) or "words", key)
    judgement = Judgement(
        model=served.name,
        talk=conversation(asked.messages),
        answer=asked.answer,
        up=asked.rating == "up",
        correction=asked.correction,
    )
    await service.aside(request.app.state.collection.keep, judgement)
    return JSONResponse({"object": "feedback", "kept": True})


def _entry(served: Served, request: Request) -> dict[str, object]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.began,
        "owned_by": "sightline",
        "card": served.card,
        "context": served.engine.context,
        "limits": LIMITS,
        "explain": True,
        "collect": request.app.state.collection is not None,
    }


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    request.app.state.service.count(error)
    return refused(error)


def _refuse_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _refuse(request, Refusal("method_not_allowed" if error.status_code == 405 else "not_found"))


def _refuse_nobody(request: Request, error: Exception) -> Response:
    return _refuse(request, Refusal("cancelled"))


def _fail(request: Request, error: Exception) -> Response:
    request.app.state.service.told(f"a request failed: {type(error).__name__}")
    return _refuse(request, Refusal("failed"))
