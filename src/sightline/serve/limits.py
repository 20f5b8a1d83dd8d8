"""How much a request may ask for, and how long anything may take.

Comes in: nothing, or other values from the command line and from tests. Goes out: numbers that everything else reads.
Every one is checked before the work that it bounds is done.
"""

from __future__ import annotations

from dataclasses import dataclass

BODY_BYTES = 12 * 2**20
"""Of a request: eight pictures of a megabyte in base64 and a conversation around them."""
PICTURE_BYTES = 8 * 2**20
"""Of one encoded picture."""
PICTURES = 8
"""In one conversation."""
MESSAGES = 64
MOST_TOKENS = 4096
"""That an answer may be asked to have."""
DEFAULT_TOKENS = 512
"""That an answer has at most when nothing is asked."""
STOPS, STOP_CHARACTERS = 4, 64
"""Texts that end an answer, and the length of each. OpenAI's API allows four."""
LIKELIEST = 20
"""Alternatives that are told with each token: as many as OpenAI's API allows."""
CHARACTERS_PER_POSITION = 32
"""Characters of all messages, for every position of the context: far above what any tokenizer makes of one (about 4 in
English), and refused before a tokenizer sees it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an operator may change. Durations are in seconds.

    Attributes:
        rows: requests that are answered at once, per model.
        queue: requests that may wait, per model.
        remembered: conversations, per model, whose next turn starts where they ended.
        bodies: bytes of all requests that are being received.
        receive: for a request's headers, and again for its body.
        prepare: for a request's pictures and words to become numbers.
        answer: from a request's arrival to its last token.
        stall: that a client may leave a stream unread.
        proof: that the health check waits for a step of the engine.
        work: that one step, or one piece of a prompt, may take before the engine counts as hanging.
        drain: that running answers are given after SIGTERM.
    """

    rows: int = 16
    queue: int = 64
    remembered: int = 16
    bodies: int = 256 * 2**20
    receive: float = 15.0
    prepare: float = 60.0
    answer: float = 600.0
    stall: float = 30.0
    proof: float = 4.0
    work: float = 60.0
    drain: float = 30.0
