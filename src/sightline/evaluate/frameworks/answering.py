"""Questions with pictures in, answers out: what every framework's model needs.

Comes in: a checkpoint's directory; then texts, each with its pictures. Goes out: answers in the order of the questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from sightline.data.image import to_rgb
from sightline.data.processor import Processor
from sightline.data.sample import ImageRef, Turn, canonical_content
from sightline.data.values import checked_text
from sightline.errors import DataError
from sightline.infer.chat import question_content, stop_rule
from sightline.infer.generate import Prompt, generate
from sightline.infer.load import load
from sightline.infer.sampling import Sampling
from sightline.model.vlm import VisionLanguageModel
from sightline.train.device import choose_device, choose_dtype

MARK = "<image>"


class Asked(NamedTuple):
    """A text and its pictures, in any mode of Pillow's."""

    text: str
    pictures: Sequence[Image.Image]


@dataclass(frozen=True)
class Answerer:
    """A checkpoint that answers several questions at a time."""

    model: VisionLanguageModel
    processor: Processor

    @classmethod
    def of(
        cls, checkpoint: str, *, device: str = "auto", dtype: str = "auto", template: str | None = None,
        quantize: str | None = None,
    ) -> Answerer:  # fmt: skip
        """Loads a checkpoint; see `sightline.infer.load`.

        Args:
            device: auto, cpu, cuda or cuda:N.
            dtype: auto, bf16 or fp32.
        """
        place = choose_device(device)
        return cls(
            *load(checkpoint, device=place, dtype=choose_dtype(dtype, place), template=template, quantize=quantize)
        )

    def answer(self, asked: Sequence[Asked], sampling: Sampling, *, number: int = 0) -> list[str]:
        """The answers, without blanks around them.

        Args:
            number: of the first question; tells drawn answers of equal questions apart.

        Raises:
            DataError: a text holds what no sample may hold, or more marks than pictures.
            ConfigError: a prompt is longer than the language model's context.
        """
        prompts = [
            Prompt(
                ids=self.processor.prompt([Turn(role="user", content=content_of(one))]),
                pixels=self.processor.pixels([to_rgb(picture) for picture in one.pictures]),
                number=number + place,
            )
            for place, one in enumerate(asked)
        ]
        stop = stop_rule(self.processor)
        return [stop.text(ids).strip() for ids in generate(self.model, prompts, sampling=sampling, stop=stop)]


def content_of(asked: Asked) -> tuple[str | ImageRef, ...]:
    """Where the text holds one `<image>` for each picture, the pictures stand there; else before it, each on a line.

    A text without pictures is a text, whatever stands in it.

    Raises:
        DataError: there are such marks, but not as many as pictures.
    """
    checked_text(asked.text, "question")
    marks = asked.text.count(MARK)
    if not asked.pictures or not marks:
        return question_content(asked.text, first=0, count=len(asked.pictures))
    if marks != len(asked.pictures):
        raise DataError(
            f"a question has {marks} {MARK} and {len(asked.pictures)} pictures; one for each is expected, or none",
            reason="image_count",
        )
    first, *rest = asked.text.split(MARK)
    pieces: list[str | ImageRef] = [first]
    for number, text in enumerate(rest):
        pieces += [ImageRef(index=number), text]
    return canonical_content(pieces)
