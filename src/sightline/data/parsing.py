"""Samples from LLaVA and messages files.

Comes in: the path of a data file. Goes out: `Sample`s, and one `Rejection` for each one that cannot be
used. Knows nothing of tokens, templates or pixels: a picture is a path here, and nobody has opened it.

Two forms are read, decided per sample by its keys:

- LLaVA: `{"id", "image": str | [str], "conversations": [{"from": "human" | "gpt", "value": str}]}`;
- messages (OpenAI, Hugging Face): `{"id", "images", "messages": [{"role", "content": str | [part]}]}` with parts
  `{"type": "text", "text"}`, `{"type": "image", "image": path}`, `{"type": "image_url", "image_url": {"url": path}}`,
  or `{"type": "image"}` for the next file of the sample's `image` / `images`.

Somebody's text stays text. The one exception: in a sample with files, `<image>` in a user's string marks where the next
file goes, and there must be as many marks as files. (In a list of parts the parts are the marks, and text is text.)

Reasons of a `Rejection`, besides those of `reading`: `sample_not_object`, `unknown_key`, `id_missing`, `id_invalid`,
`id_duplicate`, `image_invalid`, `image_count`, `image_misplaced`, `conversation_missing`, `conversation_invalid`,
`turn_invalid`, `role_unknown`, `turn_order`, `question_empty`, `answer_empty`, `text_invalid`, `text_too_long`,
`text_surrogate`, `text_control`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from sightline.data.ids import Ids, numbered
from sightline.data.layouts import data_files, open_data, root_of
from sightline.data.reading import Record, SampleError
from sightline.data.sample import ImageRef, Rejection, Sample, Turn, canonical_content
from sightline.data.values import check_keys, checked_text, show
from sightline.errors import DataError, nearest

IMAGE_MARK = "<image>"
"""Where a file goes in a user's string (LLaVA's DEFAULT_IMAGE_TOKEN)."""

METADATA_KEYS = frozenset(
    {"model", "source", "data_source", "category", "metadata", "type", "question_id", "width", "height"}
)
"""Keys that published files carry and that change nothing here (`model` in LLaVA's 665K, `data_source` in NeXT's)."""

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""Names of the speakers in files -> ours. `system` may only come first."""

_FORMS = {"conversations": ("from", "value"), "messages": ("role", "content")}
_SAMPLE_KEYS = frozenset({"id", "image", "images", *_FORMS}) | METADATA_KEYS
_PART_KEYS = {"text": {"type", "text"}, "image": {"type", "image"}, "image_url": {"type", "image_url"}}
_URL_STARTS = ("http://", "https://", "file:", "data:")


def read_samples(
    path: Path, *, on_reject: Callable[[Rejection], None] | None = None, number_repeated_ids: bool = False
) -> list[Sample]:
    """Read a data file, in its order.

    Args:
        path: a file of any kind in `layouts`, or what stands for several.
        on_reject: called for each sample that cannot be used; without it the first one ends the reading.
        number_repeated_ids: let a second sample "x" become "x#2" instead of refusing it. LLaVA's own instruction files
            need it: there the id names the picture, and several samples share one.

    Raises:
        DataError: the file itself cannot be read, or a sample cannot be used and `on_reject` is None.
    """
    samples: list[Sample] = []
    for found in iterate_samples(path, number_repeated_ids=number_repeated_ids):
        if isinstance(found, Sample):
            samples.append(found)
        elif on_reject is None:
            raise DataError(found.message, reason=found.reason)
        else:
            on_reject(found)
    return samples


def iterate_samples(path: Path, *, number_repeated_ids: bool = False) -> Iterator[Sample | Rejection]:
    """The same one by one, good and bad in the file's order: whoever wants the first five reads no further."""
    return (found for found, _ in located_samples(path, None, number_repeated_ids=number_repeated_ids))


def located_samples(
    path: Path, images: Path | None, *, number_repeated_ids: bool = False
) -> Iterator[tuple[Sample | Rejection, Path]]:
    """The samples of all files that a path stands for, each with the folder that its pictures' names start from.

    Args:
        images: that folder, for files that do not hold their pictures; None: the file's own.
    """
    for each in data_files(Path(path)):
        file = open_data(each)
        root, ids = root_of(file, images), Ids(number_repeated=number_repeated_ids)
        for record in file.records():
            try:
                sample = parse_sample(record)
                number = ids.claim(sample.id, place=sample.source)
            except SampleError as error:
                yield rejection(record, error), root
            else:
                yield replace(sample, id=numbered(sample.id, number)), root


def rejection(record: Record, error: SampleError) -> Rejection:
    """Of a record that is no sample, or has the id of another one."""
    return Rejection(
        file=record.file,
        line=record.line,
        index=record.index,
        key=error.key,
        reason=error.reason,
        message=f"{record.place}: {error}",
        id=_readable_id(record.value),
    )


def parse_sample(record: Record) -> Sample:
    """Check everything about a record that can be checked for itself and without opening a picture.

    Raises:
        SampleError: it is no sample.
    """
    if record.fault is not None:
        raise record.fault
    value = record.value
    if not isinstance(value, dict):
        fix = "keep one list for the whole file, or one object per line"
        raise SampleError("", "sample_not_object", found=show(value), expected="a sample {...}", fix=fix)
    check_keys(value, _SAMPLE_KEYS, "", "unknown_key")
    identity = _identity(value)
    pictures = _Pictures(_named_images(value), has_parts=_shows_parts(value))
    system, turns = _conversation(value, pictures)
    pictures.check_count()
    return Sample(id=identity, images=tuple(pictures.paths), turns=turns, system=system, source=record.place)


def _identity(sample: dict[str, object]) -> str:
    if "id" not in sample:
        raise SampleError(
            "id", "id_missing", found="no id", expected="a text or an integer", fix="give each sample its own"
        )
    value = sample["id"]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise SampleError(
            "id", "id_invalid", found=show(value), expected="a text or an integer", fix="give each sample its own"
        )
    return checked_text(value, "id")


def _readable_id(value: object) -> str | None:
    """The id of a record whatever else is wrong with it; None where it has none that could be one."""
    try:
        return _identity(value) if isinstance(value, dict) else None
    except SampleError:
        return None


def _named_images(sample: dict[str, object]) -> list[str] | None:
    """The files under `image` or `images`, or None where a sample has neither key."""
    keys = [key for key in ("image", "images") if key in sample]
    if not keys:
        return None
    key, value = keys[0], sample[keys[0]]
    if len(keys) == 2:
        raise SampleError(
            key, "image_invalid", found="both image and images", expected="one of them", fix="join the lists"
        )
    if isinstance(value, list) and value:
        return [_path(item, f"{key}[{number}]") for number, item in enumerate(value)]
    return [_path(value, key)]


def _path(value: object, key: str) -> str:
    expected, fix = "the path of a picture", "leave the key out if the sample has no picture"
    if not isinstance(value, str) or not value.strip():
        raise SampleError(key, "image_invalid", found=show(value), expected=expected, fix=fix)
    if value.lower().startswith(_URL_STARTS):
        fix = "save the picture below the image root and name that file"
        raise SampleError(key, "image_invalid", found=show(value), expected=expected, fix=fix)
    return checked_text(value, key)


def _shows_parts(sample: dict[str, object]) -> bool:
    """Whether a content part of a messages sample is a picture."""
    turns = sample.get("messages")
    contents = [turn.get("content") for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(isinstance(part, dict) and part.get("type") in ("image", "image_url") for part in parts)


class _Pictures:
    """Hands out a sample's files in reading order."""

    def __init__(self, named: list[str] | None, *, has_parts: bool) -> None:
        self.expected = named is not None or has_parts  # whether a mark means anything in this sample
        self.named = named or []
        self.paths: list[str] = []
        self.taken = 0

    def next(self, path: str | None = None) -> ImageRef:
        """The next place: for `path`, or for the next of the sample's named files (checked by `check_count`)."""
        if path is None:
            path = self.named[self.taken] if self.taken < len(self.named) else ""
            self.taken += 1
        self.paths.append(path)
        return ImageRef(index=len(self.paths) - 1)

    def check_count(self) -> None:
        """Every named file is seen exactly once."""
        if self.taken == len(self.named):
            return
        raise SampleError(
            "image", "image_count", found=f"{len(self.named)} files and {self.taken} places for them",
            expected=f"one {IMAGE_MARK} per file", fix=f"write {IMAGE_MARK} into a user's turn where each file is seen",
        )  # fmt: skip


def _conversation(sample: dict[str, object], pictures: _Pictures) -> tuple[str | None, tuple[Turn, ...]]:
    """The system text, if there is one, and the turns, alternating from user to assistant."""
    forms = [form for form in _FORMS if form in sample]
    if len(forms) != 1:
        found = "neither" if not forms else "both"
        raise SampleError(
            "conversations", "conversation_missing", found=f"{found} of conversations and messages",
            expected="one of them", fix="give each sample its turns under one key",
        )  # fmt: skip
    form = forms[0]
    value = sample[form]
    if not isinstance(value, list) or not value:
        raise SampleError(
            form, "conversation_invalid", found=show(value), expected="a list of turns",
            fix="give at least one exchange",
        )  # fmt: skip
    system: str | None = None
    turns: list[Turn] = []
    for number, entry in enumerate(value):
        key = f"{form}[{number}]"
        role, content = _turn(entry, key, form=form, pictures=pictures)
        if role == "system" and number == 0:
            system = "".join(part for part in content if isinstance(part, str))
        else:
            turns.append(_in_order(role, content, key, position=len(turns)))
    if not turns or turns[-1].role != "assistant":
        raise SampleError(
            form, "turn_order", found="no answer at the end", expected="an assistant's turn at the end",
            fix="add the answer or remove the last question",
        )  # fmt: skip
    return system, tuple(turns)


def _in_order(role: str, content: tuple[str | ImageRef, ...], key: str, *, position: int) -> Turn:
    """The turn, if it is this speaker's and says something."""
    expected: Literal["user", "assistant"] = "user" if position % 2 == 0 else "assistant"
    if role != expected:
        raise SampleError(
            key, "turn_order", found=f"a turn of {role}", expected=f"one of {expected}",
            fix="questions and answers must alternate, the first is the user's",
        )  # fmt: skip
    words = "".join(part for part in content if isinstance(part, str))
    if role == "assistant" and not words.strip():
        raise SampleError(
            key, "answer_empty", found="an empty answer", expected="words to learn",
            fix="write the answer or drop the turn",
        )  # fmt: skip
    if role == "user" and not words.strip() and not any(isinstance(part, ImageRef) for part in content):
        raise SampleError(
            key, "question_empty", found="an empty question", expected="words or a picture",
            fix="write it or drop the turn",
        )  # fmt: skip
    return Turn(role=expected, content=content)


def _turn(entry: object, key: str, *, form: str, pictures: _Pictures) -> tuple[str, tuple[str | ImageRef, ...]]:
    """One turn's role, by our name for it, and its content."""
    role_key, content_key = _FORMS[form]
    if not isinstance(entry, dict):
        raise SampleError(
            key, "turn_invalid", found=show(entry), expected=f"an object with {role_key} and {content_key}",
            fix="write each turn as an object",
        )  # fmt: skip
    check_keys(entry, {role_key, content_key}, key, "turn_invalid")
    role = entry.get(role_key)
    if not isinstance(role, str) or role not in ROLES:
        raise SampleError(
            f"{key}.{role_key}", "role_unknown", found=show(role), expected=f"one of {', '.join(ROLES)}",
            fix=f"rename the speaker{nearest(str(role), ROLES)}",
        )  # fmt: skip
    where = f"{key}.{content_key}"
    value = entry.get(content_key)
    if isinstance(value, list) and form == "messages":
        pieces = [_part(part, f"{where}[{number}]", ROLES[role], pictures) for number, part in enumerate(value)]
    else:
        pieces = _marked(checked_text(value, where), where, ROLES[role], pictures)
    return ROLES[role], canonical_content(pieces)


def _marked(text: str, key: str, role: str, pictures: _Pictures) -> list[str | ImageRef]:
    """A string with its marks as places; in a sample without files every mark is text."""
    if not pictures.expected or IMAGE_MARK not in text:
        return [text]
    if role != "user":
        raise _misplaced(key, f"{IMAGE_MARK} in a turn of {role}")
    pieces: list[str | ImageRef] = []
    for number, words in enumerate(text.split(IMAGE_MARK)):
        if number:
            pieces.append(pictures.next())
        pieces.append(words)
    return pieces


def _part(part: object, key: str, role: str, pictures: _Pictures) -> str | ImageRef:
    """One content part of the messages form: text, or a picture. Keys that are null count as absent, as in tables."""
    if isinstance(part, dict):
        part = {name: value for name, value in part.items() if value is not None}
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind not in _PART_KEYS:
        raise SampleError(
            key,
            "turn_invalid",
            found=show(part),
            expected=f"a part of type {', '.join(_PART_KEYS)}",
            fix="rewrite the part",
        )
    check_keys(part, _PART_KEYS[kind], key, "turn_invalid")
    if kind == "text":
        text = checked_text(part.get("text"), f"{key}.text")
        if role != "user" and pictures.expected and IMAGE_MARK in text:
            raise _misplaced(f"{key}.text", f"{IMAGE_MARK} in a turn of {role}")
        return text
    if role != "user":
        raise _misplaced(key, f"a picture in a turn of {role}")
    if kind == "image":
        return pictures.next(_path(part["image"], f"{key}.image") if "image" in part else None)
    address = part.get("image_url")
    url = address.get("url") if isinstance(address, dict) else address
    return pictures.next(_path(url, f"{key}.image_url"))


def _misplaced(key: str, found: str) -> SampleError:
    return SampleError(
        key, "image_misplaced", found=found, expected="pictures in the user's turns", fix="move it to the question"
    )
