"""What a client is told when it does not get what it asked for.

Comes in: a code, and which parameter it is about. Goes out: a body in OpenAI's form with a constant text: nothing of
what the client sent but the parameter's name, no path, nothing that a library said.
"""

from __future__ import annotations

from typing import Any

from sightline.data import image
from sightline.errors import SightlineError
from sightline.serve.limits import BODY_BYTES, CHARACTERS_PER_POSITION, PICTURE_BYTES, PICTURES

PICTURE_REASONS = {reason: (400, f"the picture cannot be used: {why}") for reason, why in image.REFUSALS.items()}
"""Those of the gateway for pixels, under the same names."""

REFUSALS: dict[str, tuple[int, str]] = PICTURE_REASONS | {
    "image_too_large": (
        400,
        f"a picture may have {image.MAX_PIXELS} pixels, {image.MAX_SIDE} a side and {PICTURE_BYTES} bytes",
    ),
    "image_unsupported_format": (
        400,
        "the picture is none of PNG, JPEG and WebP, or not the one that it is said to be",
    ),
    "image_url_not_allowed": (
        400,
        "pictures come as data:image/png;base64,... (or jpeg, webp); this address is refused",
    ),
    "image_url_invalid": (400, "the data address is not of the form data:image/png;base64,... with valid base64"),
    "image_fetch_failed": (400, "the picture could not be fetched from its address"),
    "too_many_images": (400, f"a conversation may have {PICTURES} pictures"),
    "invalid_json": (400, "the body must be one JSON object in UTF-8"),
    "invalid_value": (400, "the parameter has a wrong type or a value out of its range"),
    "missing_parameter": (400, "the parameter is missing"),
    "unknown_parameter": (400, "this server does not know the parameter"),
    "unsupported_parameter": (400, "this server does not support the parameter, or not with this value"),
    "invalid_text": (400, "the text holds control characters or halves of surrogate pairs"),
    "roles_must_alternate": (400, "after an optional system message, user and assistant alternate, and user is last"),
    "empty_message": (400, "a message needs words; a user's may have a picture instead"),
    "unsupported_conversation": (400, "the model's chat template has no form for this conversation"),
    "context_length_exceeded": (
        400,
        f"longer than the model's context, or than {CHARACTERS_PER_POSITION} characters a position: shorten it",
    ),
    "nothing_to_explain": (400, "the conversation has no picture, or the answer no words"),
    "feedback_not_usable": (
        400,
        "LLaVA's format cannot hold it: <image> is typed beside pictures, or an answer is blank",
    ),
    "invalid_api_key": (401, "this server needs the API key, as Authorization: Bearer KEY"),
    "foreign_host": (403, "this server answers only to its own name, and to pages that it served"),
    "not_found": (404, "there is nothing at this address"),
    "model_not_found": (404, "this server does not serve the model; GET /v1/models lists those that it does"),
    "method_not_allowed": (405, "the address is there, the method is not"),
    "request_timeout": (408, "the request took too long to arrive"),
    "body_too_large": (413, f"a request may have {BODY_BYTES} bytes"),
    "unsupported_media_type": (415, "a request is application/json, without content encoding"),
    "headers_too_large": (431, "the request's headers are too many or too long"),
    "queue_full": (429, "the server is busy and its queue is full: try again later"),
    "failed": (500, "the server failed on this request"),
    "stopping": (503, "the server is stopping"),
    "timeout": (503, "the answer took too long"),
    "memory": (503, "the server has not enough memory for this request"),
    "collection_full": (503, "the server cannot keep any more feedback"),
    "cancelled": (499, "the client left"),
}
"""Code -> status, and what is said."""

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refusal(SightlineError):  # noqa: N818  it is what a client is told, not a fault
    """A request is refused, or fails.

    Args:
        code: one of `REFUSALS`.
        param: the path of the parameter that it is about, such as `messages.0.content`.
        retry_after: seconds, 1 to 60: openai's client honours no others.
    """

    def __init__(self, code: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        self.code, self.param, self.retry_after = code, param, retry_after
        self.status, self.words = REFUSALS[code]
        super().__init__(f"{code}: {self.words}")

    def body(self) -> dict[str, Any]:
        """As OpenAI's API has it."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.words, "type": kind, "param": self.param, "code": self.code}}
