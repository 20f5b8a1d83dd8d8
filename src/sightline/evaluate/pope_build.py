"""POPE's questions for anybody's pictures.

Comes in: pictures with the objects annotated on them. Goes out: yes/no questions in the three sets of POPE (Li et al.,
arXiv 2305.10355, section 5.1; RUCAIBox/POPE), in its files. A picture with at least k kinds of objects gets k questions
about objects that are there and k, in turn with them, about objects that are not:

- random: any object of the other pictures;
- popular: the object that is on most pictures;
- adversarial: the object that is most often together with the one that was just asked about.

No object is asked about twice on one picture, and what was asked of the present ones is the same in all sets.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.atomic import write_atomic
from sightline.errors import DataError
from sightline.evaluate.coco_file import Annotated
from sightline.evaluate.prompts import SHORT
from sightline.evaluate.tasks.pope import FIRST_IDS, SETS

PER_PICTURE = 3
PICTURES = 500
"""Both as in the paper: 500 pictures with three questions of either kind."""


@dataclass(frozen=True)
class Built:
    """Questions by set, and what was left out.

    Attributes:
        few_objects: pictures with fewer kinds of objects than are to be asked about.
        few_absent: pictures on which nearly every kind of object is, so that too few absent ones are left.
    """

    sets: Mapping[str, list[dict[str, Any]]]
    pictures: int
    few_objects: int
    few_absent: int


def spelled(name: str) -> str:
    """The question about an object, in POPE's words."""
    return f"Is there {'an' if name[:1].lower() in tuple('aeiou') else 'a'} {name} in the image?"


def build(
    pictures: Sequence[Annotated], *, per_picture: int = PER_PICTURE, most: int = PICTURES, seed: int = 0
) -> Built:
    """The three sets. The same for the same arguments, in whatever order the pictures come.

    Args:
        per_picture: k above.
        most: pictures that are drawn, where there are more that fit.

    Raises:
        DataError: no picture fits.
    """
    everything = Counter(name for picture in pictures for name in picture.objects)
    together = _together(pictures)
    enough = [picture for picture in pictures if len(picture.objects) >= per_picture]
    fitting = [picture for picture in enough if len(everything) - len(picture.objects) >= per_picture]
    if not fitting:
        raise DataError(
            f"no picture has {per_picture} kinds of objects on it while {per_picture} other kinds are not; annotate "
            "more, or ask fewer questions of each (--per-picture)",
            reason="too_few_objects",
        )
    fitting.sort(key=lambda picture: picture.id)
    drawn = random.Random(f"pope/{seed}").sample(fitting, min(most, len(fitting)))
    sets: dict[str, list[dict[str, Any]]] = {name: [] for name in SETS}
    for name, questions in sets.items():
        for picture in drawn:
            for present, absent in _asked(picture, name, per_picture, everything, together, seed):
                for object_name, label in ((present, "yes"), (absent, "no")):
                    questions.append(
                        {
                            "question_id": len(questions) + 1,
                            "image": picture.file_name,
                            "text": spelled(object_name),
                            "label": label,
                        }
                    )
    return Built(sets, len(drawn), len(pictures) - len(enough), len(enough) - len(fitting))


def _together(pictures: Sequence[Annotated]) -> dict[str, Counter[str]]:
    """On how many pictures two objects are both."""
    found: dict[str, Counter[str]] = {}
    for picture in pictures:
        for name in picture.objects:
            found.setdefault(name, Counter()).update(other for other in picture.objects if other != name)
    return found


def _asked(
    picture: Annotated,
    chosen_set: str,
    per_picture: int,
    everything: Counter[str],
    together: Mapping[str, Counter[str]],
    seed: int,
) -> Iterator[tuple[str, str]]:
    """Pairs of a present object and an absent one. Of equally frequent objects the first by name is taken."""
    present = random.Random(f"pope/{seed}/{picture.id}").sample(sorted(picture.objects), per_picture)
    chance = random.Random(f"pope/{seed}/{picture.id}/{chosen_set}")
    left = sorted(set(everything) - set(picture.objects))
    for name in present:
        if chosen_set == "random":
            absent = chance.choice(left)
        else:
            count = everything if chosen_set == "popular" else together[name]
            absent = max(left, key=lambda other: (count[other], everything[other]))
        left.remove(absent)
        yield name, absent


def write(built: Built, folder: Path) -> list[Path]:
    """POPE's three label files, and LLaVA's question file over all of them, under the names that scripts look for."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    asked: list[dict[str, Any]] = []
    for name, questions in built.sets.items():
        paths.append(folder / f"coco_pope_{name}.json")
        write_atomic(paths[-1], _lines(questions))
        asked += [
            {
                "question_id": FIRST_IDS[name] + question["question_id"],
                "image": question["image"],
                "text": question["text"] + SHORT,
                "category": name,
            }
            for question in questions
        ]
    paths.append(folder / "llava_pope_test.jsonl")
    write_atomic(paths[-1], _lines(asked))
    return paths


def _lines(entries: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
