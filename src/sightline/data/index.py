"""What a data file holds, as far as its text says: which samples can be used, where they lie, how long they are.

Comes in: a `DataFile`, a processor. Goes out: a `FileIndex`. Every sample is read, rendered and tokenised, by several
processes where there are many. The index is kept on disk under all that it depends on: the file's content and name
(which stands in messages), the processor's settings and tokenizer, the code of this package and the versions of the
libraries that tokenise. Opens no picture.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sightline.data import disk_cache
from sightline.data.crew import Crew
from sightline.data.data_file import DataFile
from sightline.data.disk_cache import WORTH_KEEPING, code_mark
from sightline.data.ids import Ids, numbered
from sightline.data.parsing import parse_sample, rejection
from sightline.data.processor import Processor
from sightline.data.reading import Place, SampleError
from sightline.data.sample import Rejection, Sample, refusal
from sightline.errors import DataError

CHUNK = 256
"""Samples of a task: tokenising them takes some tenths of a second."""
MOST_REJECTIONS = 10_000
"""Rejections of an index that is kept. With more of them the data is to be mended, not the start to be made quicker."""


@dataclass(frozen=True, kw_only=True)
class FileIndex:
    """N usable samples and the P different pictures that they name.

    Attributes:
        places: int64[N, 4]: bytes from and to, line, number in the file.
        numbers: int32[N]: what stands behind a repeated id.
        lengths: int32[N]: positions, pictures counted in full, after truncation.
        shown_from, shown: int64[N + 1], int32[M]: the pictures of sample i are
            `shown[shown_from[i] : shown_from[i + 1]]`.
        pictures: P names, in the order of their first showing.
        listed: whether the file is one JSON list.
        malformed: what is no sample, in the file's order.
        unfit: samples that cannot be trained on, each behind its number in the file.
    """

    places: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    shown_from: npt.NDArray[np.int64]
    shown: npt.NDArray[np.int32]
    pictures: tuple[str, ...]
    listed: bool
    malformed: tuple[Rejection, ...]
    unfit: tuple[tuple[int, Rejection], ...]


class _Judged(NamedTuple):
    """A sample that could be read. `fault` is why it cannot be trained on: the message and the reason."""

    id: str
    images: tuple[str, ...]
    length: int
    fault: tuple[str, str] | None


def index_file(
    file: DataFile, processor: Processor, *, sha256: str, number_repeated_ids: bool, crew: Crew[Processor]
) -> FileIndex:
    """The index of a file, found in the cache or made anew.

    Args:
        sha256: the file's.
        crew: shares `processor`.

    Raises:
        DataError: the file cannot be read to its end, or changes meanwhile.
    """
    made_by = {"processor": _mark_of(processor), "code": code_mark()}
    key = disk_cache.key_of(file=str(file.path), sha256=sha256, numbered=number_repeated_ids, **made_by)
    kept = disk_cache.recall("index", key)
    if kept is not None:
        return _from_arrays(kept)
    made = _make(file, number_repeated_ids=number_repeated_ids, crew=crew)
    if file.sha256() != sha256:  # it is read twice, and must have been the same both times
        raise DataError(f"{file.path}: it changes while it is read; wait until it is written", reason="data_changed")
    if len(made.lengths) >= WORTH_KEEPING and len(made.malformed) + len(made.unfit) <= MOST_REJECTIONS:
        disk_cache.keep("index", key, _to_arrays(made))
    return made


def _mark_of(processor: Processor) -> dict[str, Any]:
    """All that a processor's ids depend on."""
    tokenizer = processor.tokenizer
    return {
        "settings": processor.describe(),
        "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "chat_template": tokenizer.chat_template,
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "image_token": processor.image_token_id,
        "bos": processor.adds_bos,
    }


@dataclass(kw_only=True)
class _Draft:
    """An index while it is made."""

    places: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[int] = field(default_factory=lambda: array("i"))
    lengths: array[int] = field(default_factory=lambda: array("i"))
    shown_from: array[int] = field(default_factory=lambda: array("q", [0]))
    shown: array[int] = field(default_factory=lambda: array("i"))
    pictures: dict[str, int] = field(default_factory=dict)
    malformed: list[Rejection] = field(default_factory=list)
    unfit: list[tuple[int, Rejection]] = field(default_factory=list)

    def add(self, at: Place, ordinal: int, number: int, found: _Judged) -> None:
        self.places.extend((at.start, at.end, at.line, ordinal))
        self.numbers.append(number)
        self.lengths.append(found.length)
        self.shown.extend(self.pictures.setdefault(name, len(self.pictures)) for name in found.images)
        self.shown_from.append(len(self.shown))

    def finished(self, *, listed: bool) -> FileIndex:
        return FileIndex(
            places=np.array(self.places, np.int64).reshape(-1, 4),
            numbers=np.array(self.numbers, np.int32),
            lengths=np.array(self.lengths, np.int32),
            shown_from=np.array(self.shown_from, np.int64),
            shown=np.array(self.shown, np.int32),
            pictures=tuple(self.pictures),
            listed=listed,
            malformed=tuple(self.malformed),
            unfit=tuple(self.unfit),
        )


def _make(file: DataFile, *, number_repeated_ids: bool, crew: Crew[Processor]) -> FileIndex:
    """Reads the file once here, for the places of its records, which the crew reads again and judges."""
    draft, ids = _Draft(), Ids(number_repeated=number_repeated_ids)
    name, ordinal, listed = str(file.path), -1, False
    for (_, places), verdicts in crew.map(_judge, _chunks(file)):
        for at, found in zip(places, verdicts, strict=True):
            ordinal, listed = ordinal + 1, at.element is not None
            if isinstance(found, Rejection):
                draft.malformed.append(found)
                continue
            try:
                number = ids.claim(found.id, place=at.within(name))
            except SampleError as error:
                draft.malformed.append(rejection(file.record(at), error))
                continue
            if found.fault is None:
                draft.add(at, ordinal, number, found)
            else:
                sample = Sample(id=numbered(found.id, number), images=(), turns=(), source=at.within(name))
                message, reason = found.fault
                draft.unfit.append((ordinal, refusal(sample, DataError(message, reason=reason))))
    return draft.finished(listed=listed)


def _chunks(file: DataFile) -> Iterator[tuple[DataFile, list[Place]]]:
    places = (record.at for record in file.records())
    while chunk := list(itertools.islice(places, CHUNK)):
        yield file, chunk


def _judge(processor: Processor, task: tuple[DataFile, Sequence[Place]]) -> list[_Judged | Rejection]:
    file, places = task
    return [_judge_one(processor, file, at) for at in places]


def _judge_one(processor: Processor, file: DataFile, at: Place) -> _Judged | Rejection:
    record = file.record(at)
    try:
        sample = parse_sample(record)
    except SampleError as error:
        return rejection(record, error)
    try:
        length, fault = len(processor.encode(sample).ids), None
    except DataError as error:
        length, fault = 0, (str(error), error.reason)
    return _Judged(sample.id, sample.images, length, fault)


_ARRAYS = ("places", "numbers", "lengths", "shown_from", "shown")


def _to_arrays(index: FileIndex) -> dict[str, npt.NDArray[Any]]:
    rest = {
        "listed": index.listed,
        "malformed": [asdict(found) for found in index.malformed],
        "unfit": [[ordinal, asdict(found)] for ordinal, found in index.unfit],
    }
    names = "\0".join(index.pictures)  # which is in no text of a sample
    return {name: getattr(index, name) for name in _ARRAYS} | {
        "pictures": np.frombuffer(names.encode(), np.uint8),
        "rest": np.frombuffer(json.dumps(rest).encode(), np.uint8),
    }


def _from_arrays(arrays: disk_cache.Arrays) -> FileIndex:
    rest = json.loads(arrays["rest"].tobytes())
    names = arrays["pictures"].tobytes().decode()
    return FileIndex(
        **{name: arrays[name] for name in _ARRAYS},
        pictures=tuple(names.split("\0")) if names else (),
        listed=rest["listed"],
        malformed=tuple(Rejection(**found) for found in rest["malformed"]),
        unfit=tuple((ordinal, Rejection(**found)) for ordinal, found in rest["unfit"]),
    )
