"""What a model sees of a sample: segments, ids, labels, pictures, for people and programs to look at.

Comes in: a data file, the `Processor` of a recipe or checkpoint, the folder of the pictures. Goes out: one `Inspection`
per sample, in the file's order, the unusable ones with the reason. Ids, labels and verdicts are those of training,
because the code is. Reads no further than it is asked to, and of a picture only the header. Knows no models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from sightline.data.batch import plan_rows
from sightline.data.image import read_header
from sightline.data.parsing import located_samples
from sightline.data.processor import Processor
from sightline.data.sample import Rejection, Sample, refusal
from sightline.data.segments import ImageSegment, TextSegment
from sightline.data.tokens import COLLAPSED_IMAGE, IGNORE, EncodedSegment
from sightline.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenSegment:
    """A rendered segment with its ids, which stand at `start`, `start` + 1, ... of the model's row.

    `text` is what was written: words, the name of a token, the path of a picture. `bos` is the token that the tokenizer
    writes by itself. `ids` of a picture are its placeholders.
    """

    kind: Literal["bos", "text", "token", "picture"]
    text: str
    trained: bool
    start: int
    ids: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.start + len(self.ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenPicture:
    """A picture of the sample; `fault` is why it cannot be used, and then size and mode are None.

    `size` is width and height as a viewer shows it, `mode` the file's (`RGB`, `L`, `P`, ...). The model sees `tiles`
    squares of `tile_size` pixels, made by `policy`, as `tokens` features.
    """

    path: str
    root: Path
    size: tuple[int, int] | None
    mode: str | None
    policy: str
    tiles: int
    tile_size: int
    tokens: int
    fault: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Where a sample stands among packed rows: positions `start` to `end` of row `row`, both counted from 0."""

    row: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """One sample as a model sees it.

    `segments` are uncut; `input_ids` and `labels` are what `max_length` leaves, each picture one -200; `positions`
    counts what they take, pictures in full. `span` is None when the sample is refused, or rows are not packed.
    """

    id: str | None
    source: str
    template: str
    max_length: int
    segments: tuple[SeenSegment, ...] = ()
    pictures: tuple[SeenPicture, ...] = ()
    input_ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    supervised_text: str = ""
    positions: int = 0
    span: Span | None = None
    refused: Rejection | None = None

    @property
    def cut(self) -> int:
        """Positions beyond `max_length`."""
        return self.segments[-1].end - self.positions if self.segments else 0

    @property
    def trained(self) -> int:
        """Positions that are trained on."""
        return len(self.labels) - self.labels.count(IGNORE)

    @property
    def share(self) -> float:
        """Trained positions among all of the sample's, from 0 to 1."""
        return self.trained / self.positions if self.positions else 0.0

    @property
    def notes(self) -> list[str]:
        """What somebody should know: why the sample is refused, which picture cannot be used."""
        refused = [self.refused.message] if self.refused is not None else []
        return refused + [picture.fault for picture in self.pictures if picture.fault is not None]

    def to_json(self) -> dict[str, Any]:
        """As `sightline inspect --json` prints it."""
        return {
            "id": self.id,
            "source": self.source,
            "template": self.template,
            "input_ids": self.input_ids,
            "labels": self.labels,
            "supervised_text": self.supervised_text,
            "images": [{key: value for key, value in asdict(one).items() if key != "root"} for one in self.pictures],
            "segments": [
                {"kind": part.kind, "text": part.text, "trained": part.trained, "start": part.start, "end": part.end}
                for part in self.segments
            ],
            "positions": self.positions,
            "cut": self.cut,
            "trained": self.trained,
            "share": round(self.share, 6),
            "pack": None if self.span is None else asdict(self.span),
            "reason": None if self.refused is None else self.refused.reason,
            "message": None if self.refused is None else self.refused.message,
        }


def inspect_file(
    data: Path, processor: Processor, *, root: Path | None, only: str | None = None, limit: int | None = None
) -> Iterator[Inspection]:
    """The samples of a file, good and bad, in its order; a second sample `x` is called `x#2`.

    Args:
        root: folder that the pictures' paths start from; None: the file's own.
        only: the id of the one sample to look at.
        limit: at most so many.

    Raises:
        DataError: the file cannot be read, or has no sample called `only`.
    """
    shown = 0
    for found, folder in located_samples(data, root, number_repeated_ids=True):
        if only is not None and found.id != only:
            continue
        if isinstance(found, Sample):
            yield inspect_sample(found, processor, root=folder)
        else:
            yield _unread(found, processor)
        shown += 1
        if shown == limit or only is not None:
            return
    if only is not None and not shown:
        raise DataError(f'{data}: no sample with the id "{only}"; check --id', reason="id_unknown")


def in_rows(seen: Iterable[Inspection], *, row_length: int, step: int) -> Iterator[Inspection]:
    """The same samples with their places in packed rows, as if every `step` of them in the file's order were a step's.

    A run draws its steps by lot, but packs them by this plan.

    Args:
        row_length: positions of a row.
    """
    rows = 0
    samples = iter(seen)
    while window := list(islice(samples, step)):
        good = [one for one in window if one.refused is None]
        pictures = [tuple(picture.path for picture in one.pictures) for one in good]
        spans: dict[int, Span] = {}
        for row in plan_rows([one.positions for one in good], limit=row_length, together=pictures):
            start = 0
            for index in row:
                end = start + good[index].positions
                spans[id(good[index])] = Span(row=rows, start=start, end=end)
                start = end
            rows += 1
        yield from (replace(one, span=spans.get(id(one))) for one in window)


def inspect_sample(sample: Sample, processor: Processor, *, root: Path) -> Inspection:
    """One sample, wherever it will lie."""
    refused = None
    pieces: list[EncodedSegment] = []
    try:
        pieces = processor.pieces(sample)
        processor.encode(sample)  # the judge of training
    except DataError as error:
        refused = refusal(sample, error)
    segments = _placed(pieces, sample, processor)
    end = min(segments[-1].end if segments else 0, processor.settings.max_length)
    input_ids, labels = _collapsed(segments, end=end)
    return Inspection(
        id=sample.id,
        source=sample.source,
        template=processor.settings.template,
        max_length=processor.settings.max_length,
        segments=segments,
        pictures=tuple(_picture(path, processor, root) for path in sample.images),
        input_ids=input_ids,
        labels=labels,
        supervised_text=_trained_text([label for label in labels if label != IGNORE], processor),
        positions=end,
        refused=refused,
    )


def _unread(rejection: Rejection, processor: Processor) -> Inspection:
    """A record that is no sample: there is nothing to see but the reason."""
    place = f"{rejection.file}:{rejection.line}" + ("" if rejection.index is None else f"[{rejection.index}]")
    settings = processor.settings
    return Inspection(
        id=rejection.id, source=place, template=settings.template, max_length=settings.max_length, refused=rejection
    )


def _placed(pieces: list[EncodedSegment], sample: Sample, processor: Processor) -> tuple[SeenSegment, ...]:
    segments: list[SeenSegment] = []
    start = 0
    for piece in pieces:
        kind, text = _named(piece, sample, processor)
        segments.append(SeenSegment(kind=kind, text=text, trained=piece.trained, start=start, ids=tuple(piece.ids)))
        start += len(piece.ids)
    return tuple(segments)


def _named(
    piece: EncodedSegment, sample: Sample, processor: Processor
) -> tuple[Literal["bos", "text", "token", "picture"], str]:
    if piece.segment is None:
        return "bos", processor.tokenizer.convert_ids_to_tokens(piece.ids[0])
    if isinstance(piece.segment, TextSegment):
        return "text", piece.segment.text
    if isinstance(piece.segment, ImageSegment):
        return "picture", sample.images[piece.segment.index]
    return "token", piece.segment.token


def _collapsed(segments: tuple[SeenSegment, ...], *, end: int) -> tuple[list[int], list[int]]:
    """Ids and labels up to position `end`, each picture one `COLLAPSED_IMAGE`; one that does not fit is left out."""
    input_ids: list[int] = []
    labels: list[int] = []
    for segment in segments:
        kept = list(segment.ids[: max(0, end - segment.start)])
        if segment.kind == "picture":
            kept = [COLLAPSED_IMAGE] if segment.end <= end else []
        input_ids += kept
        labels += kept if segment.trained else [IGNORE] * len(kept)
    return input_ids, labels


def _trained_text(ids: list[int], processor: Processor) -> str:
    """What the trained ids spell, special tokens included.

    As the original's tokenizers wrote it: those of the `legacy` kind keep the space of the first word piece, the others
    drop it.
    """
    text: str = processor.tokenizer.decode(ids)
    dropped = bool(ids) and processor.tokenizer.convert_ids_to_tokens(ids[0]).startswith("▁") and text[:1] != " "
    return f" {text}" if dropped and processor.legacy else text


def _picture(path: str, processor: Processor, root: Path) -> SeenPicture:
    size, mode, fault = None, None, None
    try:
        width, height, mode = read_header(path, root=root)
        size = (width, height)
    except DataError as error:
        fault = f"{error} ({error.reason})"
    settings = processor.settings
    return SeenPicture(
        path=path, root=root, size=size, mode=mode, policy=settings.image_policy, tiles=1,
        tile_size=settings.image_size, tokens=settings.image_tokens, fault=fault,
    )  # fmt: skip
