"""A teacher behind an OpenAI-compatible address: the cloud, vLLM, llama.cpp.

Comes in: an address, the name of the environment variable with the key, questions. Goes out: raw bodies, or what kind
of failure it was. One request for one call: no retries (the run has them, and writes each one down), no redirects, a
deadline for the whole of it, a cap on what is read. The key stands in no error and in no body that is handed on.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sightline.ask.limits import retry_after
from sightline.ask.question import Question, request_body
from sightline.ask.reply import LARGEST_REPLY
from sightline.ask.teacher import Retryable, Unanswerable
from sightline.errors import ConfigError, TeacherError

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

# Of a 429: no money, which waiting does not mend (platform.openai.com/docs/guides/error-codes).
_NO_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_FATAL = {
    401: "the key is refused",
    402: "the account has no money left",
    403: "the key may not use this model",
    404: "there is no such model, or the address is wrong",
}
_TRANSIENT = {408, 409, 425, 429}  # what the openai client retries, and RFC 8470's Too Early
_CONNECT_SECONDS = 10.0
_LONGEST_DETAIL = 200
_SHORTEST_SECRET = 12


class OpenAITeacher:
    """Asks a server through the `openai` client."""

    def __init__(
        self,
        *,
        base_url: str = "https://api.openai.com/v1",
        key_variable: str = "OPENAI_API_KEY",
        deadline: float = 120.0,
        seeded: bool = True,
        tokens_field: str = "max_tokens",
    ) -> None:
        """
        Args:
            base_url: http or https, such as `http://127.0.0.1:8000/v1`.
            key_variable: the environment variable that holds the API key. Where it is not set, a server on this
                machine gets a dummy, any other is not asked.
            deadline: seconds for one request from its start to the reply's last byte.
            seeded: send the number of the asking as `seed`; for servers that refuse the field, switch it off.
            tokens_field: `max_tokens`, or `max_completion_tokens` for models that insist on it.

        Raises:
            ConfigError: the address is no plain http(s) URL, the key is missing, or `openai` is not installed.
        """
        self.base_url = _checked(base_url)
        self._key = os.environ.get(key_variable, "").strip() or _dummy_key(base_url, key_variable)
        self._deadline, self._seeded, self._tokens_field = deadline, seeded, tokens_field
        self._client: AsyncOpenAI | None = None
        try:
            import openai  # noqa: F401
        except ImportError as error:
            raise ConfigError("asking a server needs the openai library: pip install 'sightline[synth]'") from error

    async def reply(self, question: Question, ask: int) -> bytes:
        """See `Teacher.reply`.

        Raises:
            Retryable: `timeout`, `connection` (nothing was sent), `reset` (something was), `redirect`, `http_429`, ...
            Unanswerable: `http_400`, ..., or the server's code for it, such as `context_length_exceeded`.
            TeacherError: 401, 402, 403, 404, or a quota that is used up.
        """
        import httpx2
        import openai

        body = request_body(question, ask, seeded=self._seeded, tokens_field=self._tokens_field)
        self._client = self._client or self._connect()
        failure: Exception
        try:
            async with asyncio.timeout(self._deadline):
                response = await self._client.post("/chat/completions", cast_to=httpx2.Response, body=body)
            return self._clean(response.content)
        except (TimeoutError, openai.APITimeoutError) as error:
            failure = Retryable("timeout", billed=not isinstance(error.__cause__, httpx2.ConnectTimeout))
        except openai.APIConnectionError as error:
            sent = not isinstance(error.__cause__, httpx2.ConnectError)
            failure = Retryable("reset" if sent else "connection", billed=sent)
        except openai.APIStatusError as error:
            failure = self._failure(error.response)
        raise failure  # out here, so that no chain leads to the request and the response: the key stands in both

    async def close(self) -> None:
        """Let go of connections. A later `reply` opens them again."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def _connect(self) -> AsyncOpenAI:
        import httpx2
        import openai

        http_client = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,  # they would take the key and the prompts to wherever the server says
            timeout=httpx2.Timeout(self._deadline, connect=min(_CONNECT_SECONDS, self._deadline)),
            event_hooks={"response": [_cap]},
        )
        return openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self.base_url,
            max_retries=0,
            http_client=http_client,
            default_headers={"Accept-Encoding": "identity"},
        )

    def _failure(self, response: httpx2.Response) -> Exception:
        """What a status other than 200 means for the question and for the run."""
        status = response.status_code
        code, message = _error_of(response.content)
        if status in _FATAL or code in _NO_QUOTA:
            meaning = "the quota is used up" if code in _NO_QUOTA else _FATAL[status]
            detail = self._clean(message.encode()).decode()[:_LONGEST_DETAIL]
            return TeacherError(
                f"{self.base_url}: {meaning} (status {status}{f': {detail}' if detail else ''}); all replies are kept: "
                "mend it, then the same command continues"
            )
        if status in _TRANSIENT or status >= 500:
            wait = retry_after(response.headers, now=time.time())
            return Retryable(f"http_{status}", retry_after=wait, busy=status == 429)
        if status < 400:
            return Retryable("redirect")
        return Unanswerable(code if re.fullmatch("[a-z_]{1,40}", code) else f"http_{status}")

    def _clean(self, content: bytes) -> bytes:
        """Without the key, which careless servers send back. Short ones, such as `EMPTY`, are no secrets, but words."""
        return content.replace(self._key.encode(), b"***") if len(self._key) >= _SHORTEST_SECRET else content


def _checked(base_url: str) -> str:
    """The address, if nothing in it is a secret or leads elsewhere than it seems."""
    try:
        parts = urlsplit(base_url)
        plain = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and "\\" not in base_url
    except ValueError:
        plain = False
    if not plain:
        raise ConfigError(f"base URL: {base_url!r} found, an address such as https://api.openai.com/v1 expected")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("base URL: a user, a password, a query or a fragment found: give scheme, host and path only")
    return base_url.rstrip("/")


def _dummy_key(base_url: str, variable: str) -> str:
    if urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1"):
        return "no-key-needed"  # the client insists on one, servers on this machine mostly take any
    raise ConfigError(f"{variable}: not set: put the API key into this environment variable")


def _error_of(content: bytes) -> tuple[str, str]:
    """The code (or else the type) and the message of an OpenAI error body; empty where it is none."""
    try:
        error = json.loads(content)["error"]
        code = error.get("code") or error.get("type")
        return str(code or ""), str(error.get("message") or "")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return "", ""


async def _cap(response: httpx2.Response) -> None:
    """Read no more of a body than a reply can have, and take it as it comes: a small one may unpack to a large one."""
    import httpx2

    class Capped(httpx2.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = LARGEST_REPLY + 1
            async for part in self._stream:
                yield part[:left]
                left -= len(part)
                if left <= 0:
                    return

        async def aclose(self) -> None:
            await self._stream.aclose()

    response.headers.pop("content-encoding", None)
    response.stream = Capped(response.stream)
