"""Captions: TextCaps, COCO, Flickr30k for stage 2; CC3M and LAION-CC-SBU for stage 1.

Comes in: their official files. Goes out: dialogues of one exchange.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from sightline.convert.dialogue import BRIEF, CAPTION, Dialogue, Item, LeftOut, one_line
from sightline.convert.formats import Options
from sightline.convert.questions import ocr_lines
from sightline.convert.source import Source, columns, rows, samples
from sightline.errors import DataError


class _Chooser:
    """Captions to dialogues: each picture's first that is not empty, or all.

    LLaVA-1.5 has one caption for each picture of TextCaps (21,953 of both); which of the five is not published.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._seen: set[str] = set()

    def take(self, identity: str, image: str, caption: str, place: str, *, note: str = "") -> Item:
        caption = one_line(caption)
        if not caption:
            return LeftOut(reason="caption_empty", place=place)
        if self._options.captions == "first" and image in self._seen:
            return LeftOut(reason="other_caption", place=place)
        self._seen.add(image)
        return _captioned(identity, image, CAPTION + note, caption)


def textcaps(source: Source, options: Options) -> Iterator[Item]:
    """TextCaps, an entry a caption; with the words that Rosetta read in the picture, as in LLaVA-1.5's mixture."""
    path = source.main(f"TextCaps_0.1_{options.split}.json")
    words, chooser = ocr_lines(source, options) if options.ocr else {}, _Chooser(options)
    for row in rows(path, ["data"]):
        name = row.name("image_id")
        note = words.get(name, "")
        yield chooser.take(name, options.picture(id=name), row.text("caption_str"), row.place, note=note)


def coco(source: Source, options: Options) -> Iterator[Item]:
    """COCO's captions of 2017 or 2014."""
    path = source.main(f"captions_{options.split}2017.json", f"captions_{options.split}2014.json")
    folder, chooser = path.stem.rpartition("_")[2], _Chooser(options)
    names = {row.integer("id"): row.name("file_name") for row in rows(path, ["images"])}
    for row in rows(path, ["annotations"]):
        number = row.integer("image_id")
        if number in names:
            image = options.picture(id=number, name=names[number], folder=folder)
            yield chooser.take(f"{number:012d}", image, row.text("caption"), row.place)
        else:
            yield LeftOut(reason="picture_unknown", place=row.place)


def flickr30k(source: Source, options: Options) -> Iterator[Item]:
    """Flickr30k's `results_20130124.token` (all pictures), or `dataset_flickr30k.json` (Karpathy's splits)."""
    path = source.main("dataset_flickr30k.json", "results_20130124.token")
    chooser = _Chooser(options)
    if path.suffix == ".json":
        for row in rows(path, ["images"]):
            sentences = row.rows("sentences")
            if row.text("split") != options.split:
                yield LeftOut(reason="other_split", place=row.place, units=len(sentences))
                continue
            name = row.name("filename")
            for found in sentences:
                yield chooser.take(_stem(name), options.picture(name=name), found.text("raw"), found.place)
        return
    for number, (place, cells) in enumerate(columns(path)):
        name, mark, _ = cells[0].partition("#")
        if len(cells) == 2 and mark:
            yield chooser.take(_stem(name), options.picture(name=name), cells[1], place)
        else:
            yield _no_row(place, "a picture's name with #number, a tab, a caption", first=number == 0)


def cc3m(source: Source, options: Options) -> Iterator[Item]:
    """Conceptual Captions: caption, tab, address. Pictures are named by the row's number, from 0.

    LLaVA's 595K names them so (`GCC_train_000000000.jpg`); give --pictures what your downloader writes.
    """
    names = {"train": "Train_GCC-training.tsv", "val": "Validation_GCC-1.1.0-Validation.tsv"}
    number = 0
    for place, cells in columns(source.main(names[options.split])):
        if number == 0 and [cell.strip().lower() for cell in cells] == ["caption", "url"]:
            continue  # the head that img2dataset wants
        if len(cells) == 2:
            yield _brief(options.picture(index=number), cells[0], place)
        else:
            yield _no_row(place, "a caption, a tab, an address", first=number == 0)
        number += 1


def laion_cc_sbu(source: Source, options: Options) -> Iterator[Item]:
    """LLaVA-1.5's 558K: the file with BLIP's captions, or the one with conversations, of which the answer is taken."""
    for row in samples(source.main("blip_laion_cc_sbu_558k_meta.json", "blip_laion_cc_sbu_558k.json")):
        image = options.picture(name=row.name("image"))
        if "blip_caption" in row.value or "conversations" not in row.value:
            yield _brief(image, row.text("blip_caption"), row.place)
            continue
        answers = [turn.text("value") for turn in row.rows("conversations") if turn.text("from") == "gpt"]
        yield _brief(image, answers[0] if answers else "", row.place)


def _brief(image: str, caption: str, place: str) -> Item:
    """A sample of stage 1."""
    caption = one_line(caption)
    return _captioned(_stem(image), image, BRIEF, caption) if caption else LeftOut(reason="caption_empty", place=place)


def _captioned(identity: str, image: str, prompt: str, caption: str) -> Dialogue:
    return Dialogue(id=identity, image=image, turns=((prompt, caption),), units=1)


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _no_row(place: str, expected: str, *, first: bool) -> LeftOut:
    """A line that is none of the table's. The first one says that this is another file."""
    if first:
        words = f"{place}: found another line, expected {expected}; check that it is this dataset's official file"
        raise DataError(words, reason="row_invalid")
    return LeftOut(reason="row_invalid", place=place)
