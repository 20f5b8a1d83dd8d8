"""Regions and what people call them: RefCOCO, RefCOCO+, RefCOCOg, Visual Genome.

Comes in: their official files, RefCOCO's references as JSON. Goes out: dialogues that ask for the box of a phrase or
for the phrase of a box, boxes as the original writes them or in another convention of `geometry`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sightline.convert.dialogue import Exchange, Item, LeftOut, dialogue, merged, one_line, sentence
from sightline.convert.formats import Options
from sightline.convert.source import Row, Source, rows
from sightline.geometry import CONVENTIONS, Box

WHERE = "Please provide the bounding box coordinate of the region this sentence describes: {}"
WHAT = "Please provide a short description for this region: {}."
"""LLaVA-1.5's two questions (arXiv 2310.03744, table 7; the data of its mixture)."""

SEGMENT = 9
"""Most exchanges in a dialogue of RefCOCO: LLaVA cuts longer ones to "fewer than 10" (arXiv 2310.03744, A.2)."""

REFERENCES = ("refs(unc).json", "refs(umd).json", "refs(google).json", "refs.json")
"""The references as JSON; the official ones are pickles, and docs/convert.md says how to turn one into JSON."""


def refcoco(source: Source, options: Options) -> Iterator[Item]:
    """Any of the three: each sentence of each reference is a unit."""
    references = source.find(*REFERENCES)
    if references is None:
        fix = "the official refs(...).p are pickles and are not read; docs/convert.md has the command for JSON"
        raise source.missing(*REFERENCES, fix=fix)
    return merged(_referred(references, source, options), at_most=SEGMENT)


def visual_genome(source: Source, options: Options) -> Iterator[Item]:
    """Visual Genome's region descriptions: at most `per_picture` of each picture, 10 in LLaVA-1.5's mixture."""
    pictures = {}
    for row in rows(source.file("image_data.json")):
        folder = PurePosixPath(row.text("url")).parent.name
        pictures[row.integer("image_id")] = (row.side("width"), row.side("height"), folder)
    for row in rows(source.file("region_descriptions.json")):
        number, regions = row.integer("id"), row.rows("regions")
        if number not in pictures:
            yield LeftOut(reason="picture_unknown", place=row.place, units=len(regions))
            continue
        width, height, folder = pictures[number]
        image = options.picture(id=number, folder=folder)
        order = list(range(len(regions)))
        random.Random(f"regions/{options.seed}/{number}").shuffle(order)
        kept: dict[int, Exchange] = {}
        while order and len(kept) < (options.per_picture or len(regions)):
            region = regions[order[-1]]
            box = Box.of_extent(*(region.integer(key) for key in ("x", "y", "width", "height")))
            key, words = f"{number}/{region.name('region_id')}", region.text("phrase")
            asked = _asked(region, str(number), image, words, box, (width, height), options, key)
            if isinstance(asked, LeftOut):
                yield asked
            else:
                kept[order[-1]] = asked
            order.pop()
        if order:
            yield LeftOut(reason="over_per_picture", place=row.place, units=len(order))
        if kept:
            yield dialogue([kept[index] for index in sorted(kept)])


def _referred(references: Path, source: Source, options: Options) -> Iterator[Exchange | LeftOut]:
    wanted = {row.integer("ann_id") for row in rows(references)}
    sizes: dict[int, tuple[int, int]] = {}
    boxes: dict[int, Box] = {}
    for row in rows(source.file("instances.json"), ["images", "annotations"]):
        number = row.integer("id")
        if row.section == "images":
            sizes[number] = row.side("width"), row.side("height")
        elif number in wanted:
            boxes[number] = Box.of_extent(*row.numbers("bbox", 4))
    for row in rows(references):
        sentences, picture, annotation = row.rows("sentences"), row.integer("image_id"), row.integer("ann_id")
        reason = None
        if row.text("split") != options.split:
            reason = "other_split"
        elif annotation not in boxes:
            reason = "annotation_missing"
        elif picture not in sizes:
            reason = "picture_unknown"
        if reason is not None:
            yield LeftOut(reason=reason, place=row.place, units=len(sentences))
            continue
        image, identity = options.picture(id=picture), f"{picture:012d}"
        for number, found in enumerate(sentences):
            words, key = found.text("sent"), f"{row.name('ref_id')}/{number}"
            yield _asked(found, identity, image, words, boxes[annotation], sizes[picture], options, key)


def _asked(
    row: Row, identity: str, image: str, words: str, box: Box, size: tuple[int, int], options: Options, key: str
) -> Exchange | LeftOut:
    """A region asked for by its phrase, or the other way: by the toss of a coin, as in LLaVA-1.5's mixture.

    A box is cut at the picture's edge. One of which nothing is left there, or after rounding, is left out.
    """
    phrase, convention = one_line(words), CONVENTIONS[options.boxes]
    if not phrase.strip(". "):
        return LeftOut(reason="phrase_empty", place=row.place)
    inside = box.within(*size)
    if inside.is_empty:
        return LeftOut(reason="box_outside", place=row.place)
    numbers = convention.numbers(inside, *size)
    if convention.box(numbers, *size).is_empty:
        return LeftOut(reason="box_too_small", place=row.place)
    written = str(list(numbers))
    if random.Random(f"{options.seed}/{key}").random() < 0.5:
        question, answer = WHERE.format(phrase.rstrip(". ") + "."), written
    else:
        question, answer = WHAT.format(written), sentence(phrase)
    return Exchange(id=identity, image=image, question=question, answer=answer)
