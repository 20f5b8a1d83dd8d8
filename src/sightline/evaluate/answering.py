"""Answers of a checkpoint to prompts about pictures.

Comes in: a model, prompts with their pictures. Goes out: answers, in groups as they come. Prompts go through the model
in batches of like lengths, and each gets the answer that it would get alone (in float32; in shorter formats the sums of
a batch round differently, and one answer in many may turn). Knows no benchmark.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from torch import Tensor

from sightline.data.image import check_image, open_image
from sightline.data.processor import Processor
from sightline.data.sample import ImageRef, Turn, canonical_content
from sightline.infer.chat import stop_rule
from sightline.infer.generate import Prompt, context_of, generate
from sightline.infer.sampling import Sampling
from sightline.model.vlm import VisionLanguageModel

Picture = Path | bytes
"""A file, or the encoded bytes."""
READERS = 8
"""Threads that decode the pictures of the next batch while the model is busy with this one."""


MARK = re.compile(r"<image (\d+)>")
"""Where MMMU's words want which picture."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing to ask: the pictures first, then the words. `number` tells it from the others.

    Attributes:
        marked: `<image 1>` and so on in the words are the places of the pictures, which then stand there, as often as
            they are named; one that is not named stands before the words.
    """

    number: int
    prompt: str
    pictures: tuple[Picture, ...] = ()
    marked: bool = False

    @property
    def shown(self) -> list[Picture]:
        """The pictures in the order in which they are shown."""
        return [self.pictures[piece] for piece in self.pieces if isinstance(piece, int)]

    @property
    def pieces(self) -> list[str | int]:
        """The words, and the pictures by number, from 0, in their places."""
        words = MARK.split(self.prompt) if self.marked else [self.prompt]
        found: list[str | int] = []
        for place, piece in enumerate(words):
            number = int(piece) if place % 2 else 0  # every second piece is a mark's number
            if 1 <= number <= len(self.pictures):
                found.append(number - 1)
            else:
                found.append(f"<image {piece}>" if place % 2 else piece)
        unnamed = [number for number in range(len(self.pictures)) if number not in found]
        if not self.marked:
            return [*unnamed, *found]
        return [piece for number in unnamed for piece in (number, "\n")] + found


def check_pictures(asked: Iterable[Asked], *, root: Path | None = None) -> None:
    """Looks at the header of every picture.

    Args:
        root: the folder that the files must lie in, links followed; None where somebody has looked them up.

    Raises:
        DataError: one is missing or cannot be used.
    """
    for picture in dict.fromkeys(picture for one in asked for picture in one.pictures):
        check_image(picture, root=None if isinstance(picture, bytes) else root)


def answers(
    model: VisionLanguageModel,
    processor: Processor,
    asked: Sequence[Asked],
    *,
    max_new_tokens: int,
    batch: int,
    root: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Generator[dict[int, str], None, None]:
    """Answers greedily; yields each batch's answers by number, shortest prompts first. `root`: see `check_pictures`.

    A prompt that the language model has no room for (several pictures) has the empty answer, and `say` tells how many.
    """
    ids = {one.number: prompt_ids(processor, one) for one in asked}
    room = context_of(model)
    over = {number: "" for number, prompt in ids.items() if len(prompt) >= room}
    if over:
        many = f"{len(over):,} of {len(asked):,} prompts"
        say(f"{many} take more than the model's {room:,} positions: answered by nothing")
        yield over
    order = sorted((one for one in asked if one.number not in over), key=lambda one: len(ids[one.number]))
    groups = [order[start : start + batch] for start in range(0, len(order), batch)]
    stop, sampling = stop_rule(processor), Sampling(max_new_tokens=max_new_tokens)
    for group, pixels in _ahead(groups, processor, root):
        prompts = [Prompt(ids=ids[one.number], pixels=seen) for one, seen in zip(group, pixels, strict=True)]
        said = generate(model, prompts, sampling=sampling, stop=stop)
        yield {one.number: stop.text(answer).strip() for one, answer in zip(group, said, strict=True)}


def prompt_ids(processor: Processor, one: Asked) -> list[int]:
    """The ids of a prompt, with the placeholders of its pictures."""
    numbers = count()
    content = [ImageRef(index=next(numbers)) if isinstance(piece, int) else piece for piece in one.pieces]
    return processor.prompt([Turn(role="user", content=canonical_content(content))])


def _ahead(
    groups: Iterable[list[Asked]], processor: Processor, root: Path | None
) -> Iterator[tuple[list[Asked], list[Tensor]]]:
    """Each group with the pixels of its pictures, which are decoded while the group before is answered."""

    def pixels(one: Asked) -> Tensor:
        return processor.pixels(
            [open_image(picture, root=None if isinstance(picture, bytes) else root) for picture in one.shown]
        )

    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[tuple[list[Asked], list[Future[Tensor]]]] = deque()
        for group in groups:
            waiting.append((group, [pool.submit(pixels, one) for one in group]))
            if len(waiting) > 1:
                ready, found = waiting.popleft()
                yield ready, [future.result() for future in found]
        for ready, found in waiting:
            yield ready, [future.result() for future in found]
