"""All that is wrong with data files, found in one pass before anything is trained.

Comes in: data files and where their pictures are; perhaps a processor, and pictures that an evaluation will show. Goes
out: `Findings`, every problem with its place and a reason to count by. Samples are judged by several processes, by the
code that training reads them with; beyond what training refuses, words and copies are looked at. Nothing is changed,
and no picture is decoded unless that is asked for. Without a processor neither torch nor transformers is imported.

Reasons, besides those of `reading`, `parsing`, `image`, `tar_file` and `parquet_file`: `special_token`, `box_range`,
`box_order`, `sample_duplicate`, `evaluation_image`; with a processor those of `tokens.truncate` and of the template.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sightline.data.check_tasks import Lines, Places, tasks
from sightline.data.crew import Crew
from sightline.data.data_file import DataFile
from sightline.data.ids import Ids
from sightline.data.known_pictures import digests, known_pictures
from sightline.data.layouts import open_data, root_of
from sightline.data.parsing import parse_sample, rejection
from sightline.data.picture_checks import picture_faults
from sightline.data.reading import FileError, Place, Record, SampleError
from sightline.data.sample import ImageRef, Rejection, Sample, refusal
from sightline.data.text_checks import bad_box, special_pattern, special_token
from sightline.errors import DataError

if TYPE_CHECKING:
    from sightline.data.processor import Processor

MOST_KEPT = 200_000
"""Problems that are kept with their words; of any further ones only the number (and the sample, for `fix`)."""
MAY_BE_MEANT = (
    "special_token", "box_range", "box_order", "sample_duplicate", "id_duplicate", "evaluation_image",
)  # fmt: skip
"""Reasons that a user may know better about. Training refuses `id_duplicate` unless it is told to number them."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How data is checked: `processor` tells what training would cut off; reasons of `ignored` are no problems."""

    processor: Processor | None = None
    decode: bool = False
    number_repeated_ids: bool = False
    ignored: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class FileFindings:
    """What was found in one file, for `fix`: the places of its records, int64[N, 4], and which of them are bad.

    `broken_at`: the byte from which on the file could not be read; None: it was read to its end.
    """

    path: Path
    file: DataFile | None = None
    root: Path = Path()
    places: array[int] = field(default_factory=lambda: array("q"))
    listed: bool = False
    bad: set[int] = field(default_factory=set)
    broken_at: int | None = None

    @property
    def name(self) -> str:
        """As it stands in messages."""
        return str(self.path if self.file is None else self.file.path)

    def place(self, number: int) -> Place:
        """Where record `number` lies."""
        start, end, line, element = self.places[4 * number : 4 * number + 4]
        return Place(start, end, line, element if self.listed else None)

    def __len__(self) -> int:
        return len(self.places) // 4


@dataclass(kw_only=True)
class Findings:
    """What was found in all files: `counts` counts problems by reason, `problems` are the first `MOST_KEPT` of them."""

    files: list[FileFindings] = field(default_factory=list)
    problems: list[Rejection] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    pictures: int = 0

    @property
    def samples(self) -> int:
        """Records of all files, good and bad."""
        return sum(len(each) for each in self.files)

    @property
    def clean(self) -> int:
        """Records without a problem."""
        return self.samples - sum(len(each.bad) for each in self.files)

    def add(self, problem: Rejection) -> None:
        """Notes a problem."""
        self.counts[problem.reason] += 1
        if len(self.problems) < MOST_KEPT:
            self.problems.append(problem)


class _Verdict(NamedTuple):
    """A record: its id if it is a sample, what it is a copy by, its pictures, its problems."""

    at: Place
    id: str | None
    digest: bytes
    images: tuple[str, ...]
    problems: tuple[Rejection, ...]


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """What every process needs."""

    settings: Settings
    pattern: re.Pattern[str]


def check_files(
    paths: Sequence[Path],
    settings: Settings,
    *,
    images: Path | None = None,
    evaluation: Sequence[Path] = (),
    processes: int | None = None,
    say: Callable[[str], None],
) -> Findings:
    """Checks data files, in order.

    Args:
        images: the folder that the pictures' paths start from; None: each file's own.
        evaluation: folders of pictures that must not be among them, compared by the bytes of the files.
        processes: None: one for each core.
        say: takes a line about each file that is done.

    Raises:
        DataError: a file cannot be opened, or changes meanwhile.
    """
    processor = settings.processor
    names = () if processor is None else processor.tokenizer.all_special_tokens
    findings = Findings()
    seen: dict[bytes, str] = {}
    with Crew(_Judge(settings=settings, pattern=special_pattern(names)), processes=processes) as crew:
        known = known_pictures(evaluation, crew)
        for path in paths:
            run = _FileRun(findings, settings, path, images, seen)
            run.read(crew)
            run.look(crew, known)
            say(f"{path}: {len(run.found):,} samples checked, {len(run.found.bad):,} with problems")
    order = {each.name: number for number, each in enumerate(findings.files)}
    findings.problems.sort(key=lambda one: (order[one.file], one.line, one.index or 0))
    return findings


class _FileRun:
    """The check of one file."""

    def __init__(
        self, findings: Findings, settings: Settings, path: Path, images: Path | None, seen: dict[bytes, str]
    ) -> None:
        self.findings, self.settings, self.seen = findings, settings, seen
        self.found = FileFindings(path=path)
        findings.files.append(self.found)
        self.ids = Ids(number_repeated=settings.number_repeated_ids or "id_duplicate" in settings.ignored)
        self.names: dict[str, int] = {}
        self.shown = array("i")  # pairs of a record and a picture
        try:
            self.found.file = open_data(path)
            self.found.root = root_of(self.found.file, images)
        except DataError as error:
            if error.reason in ("file_missing", "file_unreadable"):
                raise
            self._break(error)  # a damaged Parquet file is found when it is opened

    def read(self, crew: Crew[_Judge]) -> None:
        """Reads and judges all records."""
        if self.found.file is None:
            return
        broken: list[DataError] = []
        for _, verdicts in crew.map(_judge, tasks(self.found.file, on_broken=broken.append)):
            for verdict in verdicts:
                self._take(verdict)
        if not len(self.found) and not broken:
            words = "found no samples, expected at least one; check how the file was made"
            broken = [DataError(f"{self.found.path}: {words}", reason="file_empty")]
        for error in broken:
            self._break(error)

    def _break(self, error: DataError) -> None:
        """The file cannot be read from here on."""
        self.found.broken_at = self.found.places[-3] if self.found.places else 0
        line = error.line if isinstance(error, FileError) else 0
        problem = Rejection(file=self.found.name, line=line, key="", reason=error.reason, message=str(error))
        self.findings.add(problem)

    def _take(self, verdict: _Verdict) -> None:
        number, at = len(self.found), verdict.at
        self.found.listed = at.element is not None
        self.found.places.extend((at.start, at.end, at.line, number))
        for problem in verdict.problems:
            self._note(number, problem)
        if verdict.id is None:
            return
        place = at.within(self.found.name)
        try:
            self.ids.claim(verdict.id, place=place)
        except SampleError as error:
            self._note(number, self._rejected(at, verdict.id, error))
        first = self.seen.setdefault(verdict.digest, place)
        if first != place:
            self._note(number, self._rejected(at, verdict.id, _copy_of(first)))
        for name in verdict.images:
            self.shown.extend((number, self.names.setdefault(name, len(self.names))))

    def look(self, crew: Crew[_Judge], known: Mapping[bytes, str]) -> None:
        """Looks at the pictures."""
        names, root = list(self.names), self.found.root
        self.findings.pictures += len(names)
        faults = picture_faults(names, root, crew=crew, decode=self.settings.decode)
        if known and "evaluation_image" not in self.settings.ignored:
            for place, digest in enumerate(digests(names, root, frozenset(known), crew)):
                if digest in known and place not in faults:
                    words = f"the same picture as {known[digest]}, which an evaluation shows; leave one of them out"
                    faults[place] = f"{names[place]!a}: {words}", "evaluation_image"
        pairs = np.frombuffer(self.shown, np.int32).reshape(-1, 2)
        for number, picture in pairs[np.isin(pairs[:, 1], list(faults))].tolist():
            assert self.found.file is not None
            message, reason = faults[picture]
            sample = parse_sample(self.found.file.record(self.found.place(number)))
            self._note(number, refusal(sample, DataError(message, reason=reason)))

    def _note(self, number: int, problem: Rejection) -> None:
        if problem.reason in self.settings.ignored:
            return
        self.found.bad.add(number)
        self.findings.add(problem)

    def _rejected(self, at: Place, identity: str, error: SampleError) -> Rejection:
        record = Record(file=self.found.name, at=at, value={"id": identity}, fault=error)
        return rejection(record, error)


def _copy_of(place: str) -> SampleError:
    return SampleError(
        "", "sample_duplicate", found=f"the words and pictures of {place} again", expected="each sample once",
        fix="drop the copy",
    )  # fmt: skip


def _judge(judge: _Judge, task: Lines | Places) -> list[_Verdict]:
    return [_verdict(judge, record) for record in task.records()]


def _verdict(judge: _Judge, record: Record) -> _Verdict:
    try:
        sample = parse_sample(record)
    except SampleError as error:
        return _Verdict(record.at, None, b"", (), (rejection(record, error),))
    problems = [rejection(record, error) for error in _suspicions(sample, judge.pattern)]
    if judge.settings.processor is not None:
        try:
            judge.settings.processor.encode(sample)
        except DataError as error:
            problems.append(refusal(sample, error))
    return _Verdict(record.at, sample.id, _digest(sample), sample.images, tuple(problems))


def _digest(sample: Sample) -> bytes:
    """Of words and pictures. Texts hold no control characters, so these can stand between and in place of parts."""
    parts = [*sample.images, "\x01", "\x02" if sample.system is None else sample.system]
    for turn in sample.turns:
        parts.append("\x03")
        parts += ["\x04" if isinstance(part, ImageRef) else part for part in turn.content]
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=16).digest()


def _suspicions(sample: Sample, pattern: re.Pattern[str]) -> Iterable[SampleError]:
    """What is suspicious in a sample's words, each reason once."""
    found: dict[str, SampleError] = {}
    texts = [(part, number) for number, turn in enumerate(sample.turns) for part in turn.content]
    for text, number in [(sample.system or "", -1), *texts]:
        if isinstance(text, ImageRef):
            continue
        key = "system" if number < 0 else f"turn {number}"
        token = special_token(text, pattern)
        if token is not None:
            found.setdefault("special_token", _token_fault(key, token))
        box = bad_box(text) if sample.images and number >= 0 else None
        if box is not None:
            found.setdefault(box[1], _box_fault(key, *box))
    return found.values()


def _token_fault(key: str, token: str) -> SampleError:
    return SampleError(
        key, "special_token", found=f"the special token {token!a} as text", expected="words",
        fix="take it out, or keep it as words with --ignore special_token",
    )  # fmt: skip


def _box_fault(key: str, written: str, reason: str) -> SampleError:
    expected = "numbers from 0 to 1" if reason == "box_range" else "x1 <= x2 and y1 <= y2"
    fix = "write [x1, y1, x2, y2] as parts of the picture's sides"
    return SampleError(key, reason, found=f"the box {written[:60]}", expected=expected, fix=fix)
