"""What a request may say: a closed schema, checked before anything is done.

Comes in: bytes. Goes out: typed values, or a `Refusal` that names the parameter. Numbers are not made of strings or
booleans, unknown parameters are refused, nothing that was sent is repeated. Knows no model.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic_core import from_json

from sightline.serve.limits import LIKELIEST, MESSAGES, MOST_TOKENS, STOP_CHARACTERS, STOPS
from sightline.serve.refusals import Refusal

UNSUPPORTED = frozenset(
    {
        "audio", "best_of", "echo", "frequency_penalty", "function_call", "functions", "guided_json", "logit_bias",
        "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty", "reasoning_effort",
        "repetition_penalty", "response_format", "tool_choice", "tools", "top_a", "typical_p", "use_beam_search",
        "verbosity", "web_search_options",
    }
)  # fmt: skip
"""Parameters that others know and this server does not. Some are let through with the value that changes nothing."""
MOST_VALUES = 50_000
"""In one request: the largest one has 64 messages of 64 parts, each of at most nine commas and brackets."""
_NAME = re.compile(r"[a-z_]{1,40}")


class Closed(BaseModel):
    """Unknown keys are errors; so are values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _shape(value: object) -> str:
    """Tells a list from everything else, so that an error is about the form that was meant."""
    return "#list" if isinstance(value, list) else "#one"


def _tag(key: str) -> Discriminator:
    """Tells objects apart by a key. The tags begin with #, so that they can be told from the path to a parameter."""
    return Discriminator(lambda value: f"#{value.get(key) if isinstance(value, dict) else getattr(value, key, None)}")


class TextPart(Closed):
    """Words."""

    type: Literal["text"]
    text: str


class ImageAddress(Closed):
    """Where a picture is: in the address itself (`data:image/png;base64,...`), unless the server allows others."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Closed):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageAddress


Part = Annotated[Annotated[TextPart, Tag("#text")] | Annotated[ImagePart, Tag("#image_url")], _tag("type")]
Words = Annotated[
    Annotated[str, Tag("#one")] | Annotated[list[TextPart], Field(min_length=1, max_length=64), Tag("#list")],
    Discriminator(_shape),
]
Content = Annotated[
    Annotated[str, Tag("#one")] | Annotated[list[Part], Field(min_length=1, max_length=64), Tag("#list")],
    Discriminator(_shape),
]
Name = Annotated[str, Field(max_length=64)] | None


class SystemMessage(Closed):
    """What the model is told before the conversation."""

    role: Literal["system", "developer"]
    content: Words
    name: Name = None


class UserMessage(Closed):
    """A question, with pictures or without."""

    role: Literal["user"]
    content: Content
    name: Name = None


class AssistantMessage(Closed):
    """An earlier answer, as the API gave it."""

    role: Literal["assistant"]
    content: Words
    name: Name = None
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None


Message = Annotated[
    Annotated[SystemMessage, Tag("#system")]
    | Annotated[SystemMessage, Tag("#developer")]
    | Annotated[UserMessage, Tag("#user")]
    | Annotated[AssistantMessage, Tag("#assistant")],
    _tag("role"),
]
Messages = Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]
TokenCount = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
StopText = Annotated[str, Field(min_length=1, max_length=STOP_CHARACTERS)]


class StreamOptions(Closed):
    """`include_usage`: one more event before the last tells the counts of tokens."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class TextFormat(Closed):
    """Answers are text."""

    type: Literal["text"]


class ChatRequest(Closed):
    """`POST /v1/chat/completions`, as in OpenAI's API. Parameters that are null count as absent."""

    model: ModelName
    messages: Messages
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    stop: Annotated[
        Annotated[StopText, Tag("#one")]
        | Annotated[list[StopText], Field(max_length=STOPS), Tag("#list")]
        | Annotated[None, Tag("#none")],
        Discriminator(lambda value: "#none" if value is None else _shape(value)),
    ] = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=LIKELIEST)] | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    response_format: TextFormat | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    store: bool | None = None


class ExplainRequest(Closed):
    """`POST /v1/explain`: where in the pictures is what speaks for this answer."""

    model: ModelName
    messages: Messages
    answer: Annotated[str, Field(min_length=1, max_length=65_536)]


class FeedbackRequest(Closed):
    """`POST /v1/feedback`: what somebody thinks of an answer to a conversation, and what it should have been."""

    model: ModelName
    messages: Messages
    answer: Annotated[str, Field(min_length=1, max_length=65_536)]
    rating: Literal["up", "down"]
    correction: Annotated[str, Field(min_length=1, max_length=65_536)] | None = None


Asked = TypeVar("Asked", bound=Closed)


def parse(kind: type[Asked], body: bytes) -> Asked:
    """The request in a body; `Refusal` when it is none.

    The body becomes objects before they are checked, so that a picture of megabytes is copied once: checked in one go,
    it is copied for every union that it stands in.
    """
    if _has_many_values(body):
        raise Refusal("invalid_value")
    try:
        return kind.model_validate(from_json(body, cache_strings=False))
    except ValidationError as error:
        raise _refusal(error) from None
    except ValueError:
        raise Refusal("invalid_json") from None


def _has_many_values(body: bytes) -> bool:
    """Whether a body holds more than `MOST_VALUES`: three million small ones in 12 MB would hold up all for seconds.

    Commas and brackets bound them; only where there are many are strings looked for, that may hold some.
    """

    def count(part: bytes) -> int:
        return part.count(b",") + part.count(b"[") + part.count(b"{")

    if count(body) <= MOST_VALUES:
        return False
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return bare.count(b'"') > 4 * MOST_VALUES or sum(map(count, bare.split(b'"')[::2])) > MOST_VALUES


def _refusal(error: ValidationError) -> Refusal:
    """About the first thing that is wrong. A name that the client made up is told only where it could be a name."""
    first: Any = error.errors(include_url=False, include_context=False, include_input=False)[0]
    kind = first["type"]
    path = [part for part in first["loc"] if not (isinstance(part, str) and part.startswith("#"))]
    if not path:
        return Refusal("invalid_json")
    if kind == "extra_forbidden":
        code = "unsupported_parameter" if path[-1] in UNSUPPORTED else "unknown_parameter"
        if not (isinstance(path[-1], str) and _NAME.fullmatch(path[-1])):
            path.pop()
    elif path[0] in UNSUPPORTED:
        code = "unsupported_parameter"
    else:
        code = "missing_parameter" if kind == "missing" else "invalid_value"
    return Refusal(code, param=".".join(map(str, path)) or None)
