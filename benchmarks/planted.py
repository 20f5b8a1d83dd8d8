"""Data with known defects: clean samples about small pictures, and among them some of every class of defect.

Comes in: a folder, how many clean samples, how many defects of each class. Goes out: a JSONL file, and for each reason
the lines that a check has to report it for. All content is made here.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

SEED = 20
PICTURES = 12
THINGS = ("dog", "kettle", "bridge", "tulip", "tram", "ladder", "owl", "kite")
PLACES = ("on a sofa", "beside a window", "in the rain", "under a lamp", "at a market", "on a hill")

Sample = dict[str, Any]
Spoil = Callable[[Sample], Sample | bytes]


@dataclass(kw_only=True)
class Planted:
    """A data set: `expected` has the lines for each reason; none where it is clean."""

    data: Path
    images: Path
    evaluation: Path
    expected: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))


def clean_sample(number: int, luck: random.Random) -> Sample:
    """A conversation that no other sample has: with a picture (of many turns, with a box), or without one."""
    thing, place = luck.choice(THINGS), luck.choice(PLACES)
    turns = [
        (f"What can be seen in picture {number}?", f"A {thing} {place}."),
        ("Is it day? Answer with yes or no.", luck.choice(("Yes", "No"))),
        (f"Where is the {thing}?", f"[{luck.uniform(0, 0.4):.2f}, 0.10, {luck.uniform(0.5, 1):.2f}, 1.0]"),
        ("Count to four, please.", "[1, 2, 3, 4], in brackets & <b>bold</b>."),
    ][: 1 + number % 4]
    found: Sample = {"id": f"clean-{number}", "conversations": _talk(turns)}
    if number % 5:
        found["image"] = f"{number % PICTURES}.png"
        found["conversations"][0]["value"] = "<image>\n" + turns[0][0]
    return found


def plant(folder: Path, *, clean: int, each: int) -> Planted:
    """Writes `data.jsonl` with `each` defects of every class, in places drawn by lot among `clean` clean samples."""
    folder.mkdir(parents=True, exist_ok=True)
    planted = Planted(data=folder / "data.jsonl", images=folder / "images", evaluation=folder / "evaluation")
    _write_pictures(planted)
    luck = random.Random(SEED)
    records: list[tuple[str | None, bytes]] = [
        (None, json.dumps(clean_sample(number, luck)).encode()) for number in range(clean)
    ]
    spoiled = [(reason, spoil) for reason, spoils in DEFECTS.items() for spoil in spoils]
    number = clean
    for reason, spoil in spoiled * each:
        number += 1
        sample = clean_sample(5 * number + 1, luck)  # one with a picture
        found = spoil(sample | {"id": f"bad-{number}"})
        raw = found if isinstance(found, bytes) else json.dumps(found).encode()
        records.insert(luck.randrange(1, len(records) + 1), (reason, raw))
    originals = [json.loads(raw) for reason, raw in records if reason is None]
    for first in luck.sample(originals, each):  # copies stand behind what they are copies of
        number += 1
        other = clean_sample(5 * number + 1, luck) | {"id": first["id"]}
        records.append(("id_duplicate", json.dumps(other).encode()))
        records.append(("sample_duplicate", json.dumps(first | {"id": f"copy-{number}"}).encode()))
    if each:
        records.append(("json_truncated", records[0][1][:40]))
    for line, (planned, _) in enumerate(records, start=1):
        if planned is not None:
            planted.expected[planned].add(line)
    planted.data.write_bytes(b"\n".join(raw for _, raw in records) + (b"" if each else b"\n"))
    return planted


def _talk(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    speakers = ("human", "gpt")
    return [{"from": who, "value": words} for pair in turns for who, words in zip(speakers, pair, strict=True)]


def _with(**changes: Any) -> Spoil:
    return lambda sample: sample | changes


def _without(key: str) -> Spoil:
    return lambda sample: {name: value for name, value in sample.items() if name != key}


def _said(words: Any, *, turn: int = 1) -> Spoil:
    """Another text in a turn."""

    def spoil(sample: Sample) -> Sample:
        sample["conversations"][turn]["value"] = words
        return sample

    return spoil


def _turns(*turns: Any) -> Spoil:
    return _with(conversations=list(turns))


def _bytes(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda sample: change(json.dumps(sample).encode())


def _long_question(sample: Sample) -> Sample:
    """Too long to leave room for its answer."""
    return sample | {"conversations": _talk([(f"<image>\n{sample['id']}{400 * ' no'}", "This.")])}


def _two_pictures(sample: Sample) -> Sample:
    """The second of them far from the start."""
    sample["conversations"] = _talk([(f"<image>{sample['id']}{400 * ' no'}<image>", "This.")])
    return sample | {"image": ["1.png", "2.png"]}


_ASKED = {"from": "human", "value": "<image>\nWhat?"}
_ANSWERED = {"from": "gpt", "value": "This."}

DEFECTS: dict[str, list[Spoil]] = {
    "json_invalid": [_bytes(lambda raw: raw[:30]), _bytes(lambda raw: raw + b"}"), lambda _: b"not JSON at all"],
    "json_duplicate_key": [_bytes(lambda raw: raw[:-1] + b', "id": "again"}')],
    "json_not_finite": [_bytes(lambda raw: raw[:-1] + b', "width": NaN}')],
    "json_too_deep": [lambda _: b"[" * 100_000],
    "not_utf8": [_bytes(lambda raw: raw.replace(b"What", b"Wh\xff\xfet"))],
    "sample_not_object": [lambda _: b"[1, 2]", lambda _: b'"words"', lambda _: b"null"],
    "unknown_key": [_with(imagee="1.png")],
    "id_missing": [_without("id")],
    "id_invalid": [_with(id=None), _with(id=" "), _with(id=1.5)],
    "image_invalid": [_with(image=None), _with(image=""), _with(image=[]), _with(image="https://example.org/a.png")],
    "image_count": [_with(image=["1.png", "2.png"]), _said("no mark", turn=0), _said("<image><image> Two?", turn=0)],
    "image_misplaced": [_said("<image> here")],
    "conversation_missing": [_without("conversations")],
    "conversation_invalid": [_with(conversations=[]), _with(conversations=None), _with(conversations={})],
    "turn_invalid": [_turns(_ASKED, "This."), _turns(_ASKED, _ANSWERED | {"weight": 0})],
    "role_unknown": [_turns(_ASKED, {"from": "robot", "value": "This."})],
    "turn_order": [_turns(_ANSWERED), _turns(_ASKED), _turns(_ASKED, _ASKED, _ANSWERED)],
    "question_empty": [_turns(_ASKED, _ANSWERED, {"from": "human", "value": " "}, _ANSWERED)],
    "answer_empty": [_said(""), _said(" \n")],
    "text_invalid": [_said(None), _said(7), _said(["a"])],
    "text_control": [_said("a\x00b"), _said("a\x07b")],
    "text_surrogate": [_said("a\ud800b")],
    "text_too_long": [_said("long " * 200_001)],
    "special_token": [
        _said("Done.</s>"), _said("a <|im_end|> b"), _said("[INST] Ignore that. [/INST]"),
        lambda sample: _without("image")(sample),  # the mark is words now
    ],
    "box_range": [_said("It is at [0.1, 0.2, 1.3, 0.4]."), _said("[-0.1, 0.2, 0.3, 0.4]"), _said("[12.5, 3, 80, 90]")],
    "box_order": [_said("It is at [0.6, 0.2, 0.3, 0.4]."), _said("[0.1, 0.9, 0.3, 0.4]")],
    "image_missing": [_with(image="none.png")],
    "image_empty": [_with(image="empty.png")],
    "image_unreadable": [_with(image="text.png"), _with(image="cut.png")],
    "image_unsupported_format": [_with(image="vector.png")],
    "image_too_large": [_with(image="bomb.png")],
    "image_too_small": [_with(image="dot.png")],
    "image_aspect": [_with(image="line.png")],
    "image_animated": [_with(image="film.gif")],
    "image_not_a_file": [_with(image="folder")],
    "image_path_outside_root": [_with(image="../data.jsonl"), _with(image="/etc/hostname")],
    "evaluation_image": [_with(image="shown.png")],
    "no_supervised_tokens": [_long_question],
    "image_tokens_truncated": [_two_pictures],
}  # fmt: skip
"""What is to be reported -> ways to come by it. The last two need a processor of at most 256 positions."""


def _write_pictures(planted: Planted) -> None:
    planted.images.mkdir(exist_ok=True)
    planted.evaluation.mkdir(exist_ok=True)
    luck = random.Random(SEED)
    for number in range(PICTURES):
        color = (luck.randrange(256), luck.randrange(256), luck.randrange(256))
        Image.new("RGB", (30 + number, 40), color).save(planted.images / f"{number}.png")
    shown = Image.new("RGB", (33, 44), (1, 2, 3))
    for path in (planted.images / "shown.png", planted.evaluation / "question.png"):
        shown.save(path)
    Image.new("RGB", (33, 44), (3, 2, 1)).save(planted.evaluation / "other.png")
    (planted.images / "empty.png").write_bytes(b"")
    (planted.images / "text.png").write_text("<html>Not found</html>")
    (planted.images / "cut.png").write_bytes((planted.images / "1.png").read_bytes()[:20])
    (planted.images / "vector.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (planted.images / "bomb.png").write_bytes(png_of_zeros(14_000, 14_000))
    (planted.images / "dot.png").write_bytes(png_of_zeros(1, 1))
    (planted.images / "line.png").write_bytes(png_of_zeros(2000, 3))
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    frames[0].save(planted.images / "film.gif", save_all=True, append_images=frames[1:])
    (planted.images / "folder").mkdir(exist_ok=True)


def png_of_zeros(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel; of a large one only the header is true."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes((1 + (width + 7) // 8) * min(height, 100)))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    file = io.BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return file.getvalue()
