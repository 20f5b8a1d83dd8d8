"""The folder of a probe: pictures, and a file with one question to a line.

Comes in: questions with painted pictures. Goes out: the folder, complete or not at all; and its questions again. A line
has the fields of LLaVA's question files, `question_id`, `image`, `text`, `category`, and beside them `label`, `options`
and `more`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.atomic import new_directory
from sightline.errors import DataError
from sightline.evaluate.result_files import numbered_lines, read_text, refuse
from sightline.evaluate.tasks.task import Question

IMAGES = "images"


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """One question.

    Attributes:
        picture: as painted; None for a question without one. Questions with one `picture_name` share it.
        label: the right answer; of `options`, where there are any.
        more: what the scorer needs to know besides.
    """

    id: str
    category: str
    text: str
    label: str
    picture: Image.Image | None = None
    picture_name: str = ""
    options: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


def write(made: Iterable[Made], folder: Path, name: str, about: Mapping[str, object]) -> int:
    """Writes the folder; how many questions it has.

    Args:
        name: of the file of questions.
        about: what the folder was made from, for its manifest.

    Raises:
        DataError: the folder is there, and holds something else.
    """
    if folder.exists() and not (folder / name).is_file() and any(folder.iterdir()):
        raise DataError(f"{folder}: is there and holds something else; give a new folder", reason="folder_taken")
    lines = []
    with new_directory(folder, info={"probe": name, **about}) as staging:
        (staging / IMAGES).mkdir()
        written: set[str] = set()
        for one in made:
            image = ""
            if one.picture is not None:
                image = f"{IMAGES}/{one.picture_name or one.id.replace('/', '-')}.png"
                if image not in written:
                    one.picture.save(staging / image)
                    written.add(image)
            lines.append(
                {
                    "question_id": one.id,
                    "image": image,
                    "text": one.text,
                    "category": one.category,
                    "label": one.label,
                    "options": list(one.options),
                    "more": dict(one.more),
                }
            )
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (staging / name).write_text(text, encoding="utf-8")
    return len(lines)


def read(paths: Sequence[Path], command: str) -> list[Question]:
    """The questions of a folder, for scorers and for whoever asks them. `command`: what makes such a file.

    Raises:
        DataError: a file is another one.
    """
    found = []
    for path in paths:
        for number, entry in numbered_lines(read_text(path), path):
            if not isinstance(entry, dict) or not {"question_id", "text", "category", "label", "more"} <= entry.keys():
                raise refuse(f"{path}:{number}", f"expected a question of {command}")
            found.append(
                Question(
                    id=str(entry["question_id"]),
                    image=entry.get("image", ""),
                    text=entry["text"],
                    options=tuple(entry.get("options", ())),
                    answers=(entry["label"],),
                    group=entry["category"],
                    more=entry["more"],
                )
            )
    return found
