"""A teacher behind an OpenAI-compatible address: the cloud, vLLM, llama.cpp."""

from __future__ import annotations

from sightline.ask.question import Question


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
            key_variable: the environment variable that holds the API key. A server that wants none gets a dummy.
            deadline: seconds for one request from its start to the reply's last byte.
            seeded: send the number of the asking as `seed`; for servers that refuse the field, switch it off.
            tokens_field: `max_tokens`, or `max_completion_tokens` for models that insist on it.
        """
        raise NotImplementedError

    async def reply(self, question: Question, ask: int) -> bytes:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
