"""The OpenAPI document: what the routes take and give.

Comes in: nothing but whether a key is needed and feedback is kept. Goes out: JSON. The requests' schemas are made by
the types that check them.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from sightline import __version__
from sightline.serve.refusals import REFUSALS
from sightline.serve.schema import ChatRequest, Closed, ExplainRequest, FeedbackRequest

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string", "enum": sorted(REFUSALS)},
            },
        }
    },
}
_COUNT = {"type": "integer", "minimum": 0}
_USAGE = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _COUNT),
}
_CHOICE = {
    "type": "object",
    "required": ["index", "message", "finish_reason", "logprobs"],
    "properties": {
        "index": {"type": "integer", "const": 0},
        "message": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {"role": {"const": "assistant"}, "content": {"type": "string"}},
        },
        "finish_reason": {"type": "string", "enum": ["stop", "length"]},
        "logprobs": {"type": ["object", "null"]},
    },
}
_COMPLETION = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "chat.completion"},
        "created": _COUNT,
        "model": {"type": "string"},
        "choices": {"type": "array", "minItems": 1, "maxItems": 1, "items": _CHOICE},
        "usage": _USAGE,
    },
}
_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by", "card"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": _COUNT,
        "owned_by": {"type": "string"},
        "card": {"type": "object"},
        "context": _COUNT,
        "limits": {"type": "object"},
        "explain": {"type": "boolean"},
        "collect": {"type": "boolean"},
    },
}
_MODELS = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
}
_HEALTH = {
    "type": "object",
    "required": ["status", "models"],
    "properties": {"status": {"type": "string"}, "models": {"type": "object"}},
}
_ROWS = {"type": "array", "items": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}}}
_HEAT = {
    "type": "object",
    "required": ["width", "height", "heat", "words"],
    "properties": {
        "width": {"type": "integer", "minimum": 1},
        "height": {"type": "integer", "minimum": 1},
        "heat": {"type": "array", "items": _ROWS},
        "words": {"type": "array", "items": {"type": "string"}},
    },
}
_KEPT = {"type": "object", "required": ["kept"], "properties": {"kept": {"type": "boolean"}}}


def document(*, keyed: bool, collects: bool) -> dict[str, Any]:
    """OpenAPI 3.1."""
    kinds: list[type[Closed]] = [ChatRequest, ExplainRequest, *([FeedbackRequest] if collects else [])]
    found, definitions = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}"
    )
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    paths: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {
            "post": _posts("complete", "Answer a conversation.", found[ChatRequest, "validation"], _COMPLETION, stream)
        },
        "/v1/explain": {"post": _posts("explain", "Where it looked.", found[ExplainRequest, "validation"], _HEAT, {})},
        "/v1/models": {"get": _gets("listModels", "What is served.", _MODELS)},
        "/v1/models/{model}": {"get": _gets("oneModel", "One of them.", _MODEL, errors=(404,)) | _NAMED},
        "/health": {"get": _gets("health", "Whether the engines step.", _HEALTH) | {"security": []}},
        "/metrics": {"get": _gets("metrics", "Figures for Prometheus.", {"type": "string"}, kind="text/plain")},
        "/openapi.json": {"get": _gets("openapi", "This document.", {"type": "object"}) | {"security": []}},
    }
    paths["/health"]["get"]["responses"]["503"] = _response("They do not, or the server stops.", _HEALTH)
    if collects:
        schema = found[FeedbackRequest, "validation"]
        paths["/v1/feedback"] = {"post": _posts("judge", "Keep what somebody thinks of an answer.", schema, _KEPT, {})}
    components: dict[str, Any] = {"schemas": definitions["$defs"] | {"Error": _ERROR}}
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Sightline", "version": __version__},
        "paths": paths,
    }
    if keyed:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
    return described | {"components": components}


_NAMED = {"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]}
_ERRORS = {"$ref": "#/components/schemas/Error"}


def _response(words: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": words, "content": {kind: {"schema": schema}}}


def _gets(
    name: str, words: str, schema: dict[str, Any], *, kind: str = "application/json", errors: tuple[int, ...] = ()
) -> dict[str, Any]:
    refused = {str(status): _response("Refused.", _ERRORS) for status in (401, 403, *errors)}
    return {"operationId": name, "summary": words, "responses": {"200": _response(words, schema, kind)} | refused}


def _posts(
    name: str, words: str, asked: dict[str, Any], given: dict[str, Any], others: dict[str, Any]
) -> dict[str, Any]:
    statuses = sorted({status for status, _ in REFUSALS.values()} - {405, 499})
    responses = {str(status): _response("Refused.", _ERRORS) for status in statuses}
    answered = _response(words, given)
    answered["content"] |= others
    return {
        "operationId": name,
        "summary": words,
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": {"200": answered} | responses,
    }
