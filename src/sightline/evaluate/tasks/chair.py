"""CHAIR: which of the objects that a caption mentions are not on the picture (Rohrbach et al., arXiv 1809.02156).

Comes in: captions, an instances file in COCO's format, perhaps the reference captions, whose objects count as present
too, as in the paper. Goes out: CHAIR_i, the share of mentions that are of no object there, and CHAIR_s, the share of
captions with such a mention. Which words mean an object is told by a table of ours, or of the user's: figures made with
another table, such as the paper's, are not comparable. Categories outside the table stand for themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from sightline.evaluate.coco_file import is_instances, pictures_of
from sightline.evaluate.result_files import Row, read_json, refuse
from sightline.evaluate.results import mean, ratio
from sightline.evaluate.tasks.task import AnswerTask, Question, Rules, Scored, by_id

IRREGULAR = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "mouse": "mice",
    "goose": "geese",
    "ox": "oxen",
    "calf": "calves",
    "sheep": "sheep",
    "policeman": "policemen",
    "gentleman": "gentlemen",
}
YOUNG = frozenset({"baby", "adult"})
"""Before an animal these are no people: a baby elephant is one elephant, as the original has it."""
ANIMALS = frozenset({"bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"})
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")

Vocabulary = Mapping[tuple[str, ...], str]
"""Words in a row -> the category that they mean."""


def plurals(word: str) -> list[str]:
    """A noun and its plural by the rules of English spelling."""
    if word in IRREGULAR:
        return [word, IRREGULAR[word]]
    if word.endswith("fe"):
        return [word, word[:-2] + "ves"]
    if len(word) > 1 and word.endswith("y") and word[-2] not in "aeiou":
        return [word, word[:-1] + "ies"]
    return [word, word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")]


def vocabulary(categories: Iterable[str], synonyms: Mapping[str, Sequence[str]]) -> Vocabulary:
    """All ways to mention one of the categories: its name and its synonyms, singular and plural of the last word.

    A name of a category always means that category, also where it is a synonym of another.
    """
    found: dict[tuple[str, ...], str] = {}
    names = sorted(categories)
    spoken = [(name, name) for name in names] + [(word, name) for name in names for word in synonyms.get(name, ())]
    for phrase, name in spoken:
        words = _WORD.findall(phrase.lower())
        for last in plurals(words[-1]):
            found.setdefault((*words[:-1], last), name)
    return found


def mentions(caption: str, known: Vocabulary) -> list[str]:
    """The categories that a caption mentions, in its order and as often as it does. The longest phrase counts: a hot
    dog is no dog."""
    words = _WORD.findall(caption.lower())
    longest = max((len(phrase) for phrase in known), default=0)

    def phrase_at(place: int) -> tuple[int, str]:
        for length in range(min(longest, len(words) - place), 0, -1):
            phrase = tuple(words[place : place + length])
            if phrase in known:
                return length, known[phrase]
        return 0, ""

    found: list[str] = []
    place = 0
    while place < len(words):
        length, name = phrase_at(place)
        is_young = words[place] in YOUNG and phrase_at(place + 1)[1] in ANIMALS
        if name and not is_young:
            found.append(name)
        place += max(length, 1)
    return found


@cache
def default_synonyms() -> dict[str, list[str]]:
    """The package's table: for each of COCO's categories, other words that captions use for it."""
    table: dict[str, list[str]] = json.loads((files("sightline.evaluate") / "synonyms.json").read_text("utf-8"))
    return table


def questions(paths: Sequence[Path]) -> list[Question]:
    """Reads instances_*.json, perhaps captions_*.json, perhaps a table of synonyms `{category: [words]}`."""
    instances: list[tuple[Path, Any]] = []
    captions: dict[str, list[str]] = {}
    synonyms: Mapping[str, Sequence[str]] = default_synonyms()
    for path in paths:
        content = read_json(path)
        if is_instances(content):
            instances.append((path, content))
        elif isinstance(content, dict) and isinstance(content.get("annotations"), list):
            for entry in content["annotations"]:
                captions.setdefault(str(entry["image_id"]), []).append(entry["caption"])
        elif isinstance(content, dict) and content and all(isinstance(words, list) for words in content.values()):
            synonyms = content
        else:
            raise refuse(path, "expected COCO's instances or captions, or synonyms {category: [words]}")
    if not instances:
        raise refuse(", ".join(map(str, paths)), "no instances file among them; add instances_*.json")
    pictures = [picture for path, content in instances for picture in pictures_of(content, path)]
    names = {str(category["name"]) for _, content in instances for category in content["categories"]}
    known = vocabulary(names, synonyms)
    return [
        Question(
            id=picture.id,
            image=picture.file_name,
            answers=tuple(
                dict.fromkeys(
                    [*picture.objects, *(m for text in captions.get(picture.id, ()) for m in mentions(text, known))]
                )
            ),
            more={"known": known},
        )
        for picture in pictures
    ]


def score(asked: Sequence[Question], rows: Sequence[Row | None], protocol: str) -> Scored:
    """Shares from 0 to 1. `coverage`: the mean share of a picture's objects that its caption mentions; `objects`: the
    mean number of mentions. A caption that says nothing invents nothing, so read CHAIR beside both."""
    values: dict[str, float] = {}
    said = invented = 0
    covered: list[float] = []
    for question, row in zip(asked, rows, strict=True):
        assert row is not None
        found, present = mentions(row.text, question.more["known"]), set(question.answers)
        wrong = sum(name not in present for name in found)
        said, invented = said + len(found), invented + wrong
        values[question.id] = float(wrong == 0)
        if present:
            covered.append(len(present & set(found)) / len(present))
    share = mean(list(values.values()))
    figures = {
        "chair_i": ratio(invented, said),
        "chair_s": None if share is None else 1 - share,
        "coverage": mean(covered),
        "objects": ratio(said, len(values)),
    }
    return Scored(figures, values)


CHAIR = AnswerTask(
    name="chair",
    title="CHAIR",
    metric="chair_i",
    protocols={"official": Rules("mentions of objects that neither boxes nor reference captions have")},
    questions=questions,
    pair=by_id("image_id", "question_id"),
    score=score,
    decimals=4,
)
