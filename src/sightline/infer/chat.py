"""A conversation with a checkpoint.

Comes in: questions and pictures. Goes out: answers, in pieces of whole characters as they are generated. Keeps the
history; the prompt is made by the code that made the training data. A picture goes through the encoder once, and a turn
through the language model only from where its prompt differs from what the turns before left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from PIL import Image
from torch import Tensor

from sightline.data.processor import Processor
from sightline.data.sample import ImageRef, Turn, canonical_content
from sightline.data.tokens import collapse_images
from sightline.data.values import checked_text
from sightline.infer.generate import Prompt, decode_steps
from sightline.infer.memory import Memory
from sightline.infer.sampling import Sampling
from sightline.infer.words import AnswerText, StopRule
from sightline.model.vlm import VisionLanguageModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer, as `--json` prints it. Each picture is one -200 in `prompt_ids`; `seconds` is wall time."""

    answer: str
    answer_ids: list[int]
    prompt_ids: list[int]
    seconds: float


def stop_rule(processor: Processor) -> StopRule:
    """The stop rule of a processor's template."""
    return StopRule(ids=processor.stop_ids, texts=processor.template.stop_text, decode=processor.decode)


@dataclass
class ChatSession:
    """Several turns about pictures. `last` is the newest answer with its ids."""

    model: VisionLanguageModel
    processor: Processor
    sampling: Sampling = field(default_factory=Sampling)
    system: str | None = None
    turns: list[Turn] = field(default_factory=list)
    pictures: list[Image.Image] = field(default_factory=list)
    last: Answer | None = None
    _memory: Memory | None = None
    _remembered: list[Image.Image] = field(default_factory=list)

    def reset(self) -> None:
        """Forgets turns and pictures."""
        self.turns.clear()
        self.pictures.clear()
        self.last = None
        self._memory = None

    def ask(self, text: str, images: Sequence[Image.Image] = ()) -> str:
        """The answer as a whole. `images` are shown with this question, before its text."""
        for _ in self.stream(text, images):
            pass
        assert self.last is not None
        return self.last.answer

    def stream(self, text: str, images: Sequence[Image.Image] = ()) -> Iterator[str]:
        """The answer piece by piece. Only a complete answer enters the history.

        Raises:
            DataError: the words could not stand in a data file either, or the template has no form for the turns.
            ConfigError: the conversation is longer than the language model's context.
        """
        started = time.perf_counter()
        for key, given in (("question", text), ("system", self.system or "")):
            checked_text(given, key)
        question = Turn(role="user", content=question_content(text, first=len(self.pictures), count=len(images)))
        ids = self.processor.prompt([*self.turns, question], system=self.system)
        memory, pixels = self._recall([*self.pictures, *images])
        stop = stop_rule(self.processor)
        words = AnswerText(stop)
        answer: list[int] = []
        pieces: list[str] = []
        prompt = Prompt(ids=ids, pixels=pixels)
        for (token,) in decode_steps(self.model, [prompt], sampling=self.sampling, stop=stop, memory=memory):
            assert token is not None
            answer.append(token)
            pieces.append(words.push(token))
            yield pieces[-1]
        pieces.append(words.finish())
        yield pieces[-1]
        complete = "".join(pieces)
        self.turns += [question, Turn(role="assistant", content=(complete,))]
        self.pictures += images
        self.last = Answer(
            answer=complete,
            answer_ids=answer,
            prompt_ids=collapse_images(
                ids, image_token_id=self.processor.image_token_id, image_tokens=self.processor.settings.image_tokens
            ),
            seconds=round(time.perf_counter() - started, 3),
        )

    def _recall(self, pictures: Sequence[Image.Image]) -> tuple[Memory, Tensor]:
        """What is left of the turns before when these pictures are shown, and the pixels of those that are new."""
        memory = self._memory or Memory(image_tokens=self.processor.settings.image_tokens)
        pairs = zip(self._remembered[: memory.pictures], pictures, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], pairs))
        memory.keep_pictures(same, image_token_id=self.processor.image_token_id)
        self._memory, self._remembered = memory, list(pictures)
        return memory, self.processor.pixels(pictures[same:])


def question_content(text: str, *, first: int, count: int) -> tuple[str | ImageRef, ...]:
    """Pictures first, each on a line of its own, then the words: where LLaVA's data has them."""
    pieces: list[str | ImageRef] = []
    for number in range(first, first + count):
        pieces += [ImageRef(index=number), "\n"]
    return canonical_content([*pieces, text])


def choose_device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(device: torch.device) -> torch.dtype:
    """In which a model answers: as it is evaluated (`auto`), bf16 on a GPU that has it, else float32."""
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if on_gpu else torch.float32
