"""Answers of a checkpoint to prompts about pictures.

Comes in: a model, prompts with their pictures. Goes out: answers, in groups as they come. Prompts go through the model
in batches of like lengths, and each gets the answer that it would get alone (in float32; in shorter formats the sums of
a batch round differently, and one answer in many may turn). Knows no benchmark.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sightline.data.image import check_image, open_image
from sightline.data.processor import Processor
from sightline.data.sample import ImageRef, Turn, canonical_content
from sightline.infer.chat import stop_rule
from sightline.infer.generate import Prompt, generate
from sightline.infer.sampling import Sampling
from sightline.model.vlm import VisionLanguageModel

Picture = Path | bytes
"""A file, or the encoded bytes."""
READERS = 8
"""Threads that decode the pictures of the next batch while the model is busy with this one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing to ask: the picture first, if there is one, then the words. `number` tells it from the others."""

    number: int
    prompt: str
    picture: Picture | None


def check_pictures(asked: Iterable[Asked], *, root: Path | None = None) -> None:
    """Looks at the header of every picture.

    Args:
        root: the folder that the files must lie in, links followed; None where somebody has looked them up.

    Raises:
        DataError: one is missing or cannot be used.
    """
    for picture in dict.fromkeys(one.picture for one in asked if one.picture is not None):
        check_image(picture, root=None if isinstance(picture, bytes) else root)


def answers(
    model: VisionLanguageModel,
    processor: Processor,
    asked: Sequence[Asked],
    *,
    max_new_tokens: int,
    batch: int,
    root: Path | None = None,
) -> Generator[dict[int, str], None, None]:
    """Answers greedily; yields each batch's answers by number, shortest prompts first. `root`: see `check_pictures`.

    Raises:
        ConfigError: a prompt is longer than the language model's context.
    """
    ids = {one.number: prompt_ids(processor, one) for one in asked}
    order = sorted(asked, key=lambda one: len(ids[one.number]))
    groups = [order[start : start + batch] for start in range(0, len(order), batch)]
    stop, sampling = stop_rule(processor), Sampling(max_new_tokens=max_new_tokens)
    for group, pixels in _ahead(groups, processor, root):
        prompts = [Prompt(ids=ids[one.number], pixels=seen) for one, seen in zip(group, pixels, strict=True)]
        said = generate(model, prompts, sampling=sampling, stop=stop)
        yield {one.number: stop.text(answer).strip() for one, answer in zip(group, said, strict=True)}


def prompt_ids(processor: Processor, one: Asked) -> list[int]:
    """The ids of a prompt, with the placeholders of its picture."""
    content: list[str | ImageRef] = [one.prompt] if one.picture is None else [ImageRef(index=0), one.prompt]
    return processor.prompt([Turn(role="user", content=canonical_content(content))])


def _ahead(
    groups: Iterable[list[Asked]], processor: Processor, root: Path | None
) -> Iterator[tuple[list[Asked], list[Tensor]]]:
    """Each group with the pixels of its pictures, which are decoded while the group before is answered."""

    def pixels(one: Asked) -> Tensor:
        if one.picture is None:
            return processor.pixels([])
        return processor.pixels([open_image(one.picture, root=None if isinstance(one.picture, bytes) else root)])

    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[tuple[list[Asked], list[Future[Tensor]]]] = deque()
        for group in groups:
            waiting.append((group, [pool.submit(pixels, one) for one in group]))
            if len(waiting) > 1:
                ready, found = waiting.popleft()
                yield ready, [future.result() for future in found]
        for ready, found in waiting:
            yield ready, [future.result() for future in found]
