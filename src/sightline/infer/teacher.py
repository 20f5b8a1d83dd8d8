"""A checkpoint as a teacher: it sees the picture and answers an interview.

Comes in: a `Question` whose messages are the user's alone, the pictures with them. Goes out: the body that a server
would send, whose text is a JSON list with one answer for each message. The answers before stand in its context, as in a
conversation. Knows nothing of captions, kinds and grammars.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import torch

from sightline.ask.question import Question
from sightline.ask.teacher import Unanswerable, completion_body
from sightline.atomic import MANIFEST, readable_directory
from sightline.data.image import open_image
from sightline.data.processor import Processor
from sightline.errors import CheckpointError, ConfigError, DataError
from sightline.infer.chat import ChatSession, choose_device, choose_dtype
from sightline.infer.load import load
from sightline.infer.sampling import Sampling
from sightline.model.vlm import VisionLanguageModel

TEMPERATURE_AGAIN = 0.7
"""Of a second asking: the likeliest answer was rejected, and would come again."""


def checkpoint_name(directory: Path) -> str:
    """The teacher's name: `checkpoint-` and a hash of its manifest, so that other weights have another name.

    Raises:
        CheckpointError: there is no finished checkpoint.
    """
    manifest = readable_directory(directory) / MANIFEST
    if not manifest.is_file():
        raise CheckpointError(f"{directory}: no finished checkpoint; give the directory of a trained run")
    return f"checkpoint-{hashlib.sha256(manifest.read_bytes()).hexdigest()[:12]}"


class CheckpointTeacher:
    """Implements `ask.Teacher`. The checkpoint is loaded with the first question.

    Args:
        images: the folder that pictures must lie in.
        device: the first GPU, else the CPU, unless given.
    """

    def __init__(self, directory: Path, *, images: Path, device: torch.device | None = None) -> None:
        self.name = checkpoint_name(directory)
        self._directory = directory
        self._images = images.resolve()
        self._device = device or choose_device()

    async def reply(self, question: Question, ask: int) -> bytes:
        """The answers. The same question and ask have the same reply.

        Raises:
            Unanswerable: the picture cannot be used, or the conversation is longer than the model's context.
        """
        model, processor = self._loaded
        sampling = Sampling(
            temperature=TEMPERATURE_AGAIN if ask else question.temperature,
            max_new_tokens=question.max_tokens,
            seed=ask,
        )
        session = ChatSession(model=model, processor=processor, sampling=sampling)
        answers, seen, made = [], 0, 0
        try:
            for message in question.messages:
                pictures = [open_image(self._inside(picture.path), root=self._images) for picture in message.images]
                answers.append(session.ask(message.content, pictures).strip())
                assert session.last is not None
                seen, made = seen + len(session.last.prompt_ids), made + len(session.last.answer_ids)
        except DataError as error:
            raise Unanswerable(error.reason) from error
        except ConfigError as error:
            raise Unanswerable("context_too_long") from error
        return completion_body(json.dumps(answers, ensure_ascii=False), model=self.name, tokens=(seen, made))

    async def close(self) -> None:
        """Nothing is open."""

    @functools.cached_property
    def _loaded(self) -> tuple[VisionLanguageModel, Processor]:
        return load(self._directory, device=self._device, dtype=choose_dtype(self._device))

    def _inside(self, path: str) -> str:
        """A picture's path from the folder of the pictures. One outside stays absolute, and is refused."""
        resolved = Path(path).resolve()
        return str(resolved.relative_to(self._images)) if resolved.is_relative_to(self._images) else str(resolved)
