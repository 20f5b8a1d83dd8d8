"""Whoever is asked: the protocol.

Comes in: a question and which asking of it this is. Goes out: the raw body of a chat completion, or one of three
errors. Reading the body is not the teacher's: it is stored first. `completion_body` makes one for teachers that are no
server (rules, a checkpoint).
"""

from __future__ import annotations

import json
from typing import Protocol

from sightline.ask.question import Question


class Retryable(Exception):  # noqa: N818 - a state of the service, not a mistake of anybody
    """No answer this time; the same request may succeed later.

    Attributes:
        reason: a stable code to count by, such as `http_503`.
        retry_after: seconds that the server asked for, None where it said nothing usable.
        billed: whether tokens may have been spent all the same (the reply was lost on its way).
        busy: the server is well, but wants fewer requests (429): all tasks slow down.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None, billed: bool = False, busy: bool = False):
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.billed = billed
        self.busy = busy


class Unanswerable(Exception):  # noqa: N818 - see above
    """This question will never be answered, others may be: a context that is too long, a filter. `reason` as above."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Teacher(Protocol):
    """A language model, or rules that stand in for one."""

    async def reply(self, question: Question, ask: int) -> bytes:
        """The raw JSON body of a chat completion.

        Args:
            question: what to ask. Its `max_tokens` may be larger than the one its key was made from.
            ask: 0 for the first asking; 1 and up when earlier replies were rejected. The same question and ask get the
                same reply wherever the teacher can see to it (a server through the request's `seed`), so that a run
                that was killed ends as an undisturbed one.

        Raises:
            Retryable, Unanswerable: see there.
            TeacherError: no question can be answered: key, quota, model. The run stops at once.
        """

    async def close(self) -> None:
        """Let go of connections. A later `reply` opens them again."""


def completion_body(text: str, *, model: str, finish_reason: str = "stop", tokens: tuple[int, int] = (0, 0)) -> bytes:
    """The body that a server would send for `text`. `tokens`: of the prompt and of the reply."""
    body = {
        "object": "chat.completion",
        "model": model,
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}},
        ],
        "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
    }
    return json.dumps(body).encode()
