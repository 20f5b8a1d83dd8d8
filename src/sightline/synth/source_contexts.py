"""The original's symbolic contexts: JSONL with `id`, `image`, `captions`, and `instances` of `category` and `bbox`.

Comes in: such a file (LLaVA's `caps_boxes_coco2014_val_80.jsonl` is one); boxes are `[x1, y1, x2, y2]` in shares of
width and height. Goes out: a `Source`. Opens no picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline.synth.context import Box, fractions
from sightline.synth.source import Place, Source, numbers_at, records, relative, text_at
from sightline.synth.vocabulary import COCO_CATEGORIES


def read_contexts(path: Path, *, images: Path | None = None, split: str | None = None) -> Source:
    """The contexts of a file. Categories count as boxed wherever they occur if all of them are COCO's.

    Raises:
        DataError: a line is not such an object; the message names line and key.
    """
    source = Source(format="contexts", path=path)
    for record in records(path):
        place = Place(file=record.place)
        tree: dict[str, Any] = record.value  # type: ignore[assignment]
        captions = tree.get("captions", [])
        if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
            raise place.within("captions").error(captions, "a list of texts")
        image = relative(text_at(tree, "image", place), place.within("image"))
        source.add(text_at(tree, "id", place), image, captions, _boxes(source, tree.get("instances", []), place))
    named = {box.category for context in source.contexts for box in context.boxes}
    if named <= COCO_CATEGORIES:
        source.vocabulary = frozenset(named)
    return source


def _boxes(source: Source, instances: object, place: Place) -> Iterator[Box]:
    if not isinstance(instances, list):
        raise place.within("instances").error(instances, "a list of boxes")
    for number, instance in enumerate(instances):
        at = place.within(f"instances[{number}]")
        if not isinstance(instance, dict):
            raise at.error(instance, "an object with category and bbox")
        left, top, right, bottom = numbers_at(instance.get("bbox"), 4, at.within("bbox"))
        if max(left, top, right, bottom) > 2:
            raise at.within("bbox").error(
                instance["bbox"], "shares of width and height, 0 to 1", "divide pixels by them"
            )
        corners = fractions(left, top, right, bottom, width=1.0, height=1.0)
        if corners is None:
            source.left_out["box_degenerate"] += 1
        else:
            category = " ".join(text_at(instance, "category", at).lower().split())
            yield Box(category=category, corners=corners, crowd=bool(instance.get("iscrowd")))
