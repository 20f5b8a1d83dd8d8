"""The language model's texts: maps that name what lies where, and documents of which only answers are learnt."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import pairwise

import pytest

from sightline.demo.corpus import (
    ASSISTANT,
    BOS,
    CELLS,
    CURRICULUM,
    EMPTY,
    END,
    IMAGE,
    PAD,
    SEED,
    SMALL_TALK,
    USER,
    Document,
    dialogue,
    short_turns,
    tile,
    tiles,
    write_document,
    write_map,
)
from sightline.demo.dataset import SEED as PICTURES_SEED
from sightline.demo.teacher import SHORT_ANSWER, exchanges
from sightline.demo.world import CANVAS, Sign
from tests.demo.scenes import items, scene_of, scenes, thing

CELL = CANVAS / CELLS
DOCUMENTS = [write_document(index) for index in [*range(150), *range(CURRICULUM[1][0], CURRICULUM[1][0] + 150)]]


def text_of(document: Document, *, learnt: bool | None = None) -> str:
    return "".join(piece.text for piece in document if learnt is None or piece.learnt == learnt)


# ---- maps ------------------------------------------------------------------------------------------------------------


def grid(words: str) -> list[list[str]]:
    cells = words.split()
    return [cells[start : start + CELLS] for start in range(0, len(cells), CELLS)]


def test_a_map_has_a_word_for_each_of_36_cells() -> None:
    vocabulary = set(tiles())
    for scene in scenes():
        words = write_map(scene, random.Random(scene.index))
        assert words == "".join(f" {word}" for word in words.split())
        assert len(words.split()) == 36
        assert set(words.split()) <= vocabulary


def test_the_cell_under_a_center_names_what_lies_there() -> None:
    for scene in scenes():
        cells = grid(write_map(scene, random.Random(scene.index)))
        for item in items(scene):
            mates = [
                tile(other)
                for other in items(scene)
                if (other.x // CELL, other.y // CELL) == (item.x // CELL, item.y // CELL)
            ]
            assert cells[int(item.y // CELL)][int(item.x // CELL)] in mates


def test_a_cell_names_only_what_reaches_into_it() -> None:
    for scene in scenes():
        for row, line in enumerate(grid(write_map(scene, random.Random(scene.index)))):
            for column, word in enumerate(line):
                if word == EMPTY:
                    continue
                reach = [
                    item
                    for item in items(scene)
                    if tile(item) == word
                    and abs((column + 0.5) * CELL - item.x) <= CELL / 2 + 20
                    and abs((row + 0.5) * CELL - item.y) <= CELL / 2 + 20
                ]
                assert reach, f"{word} is not near cell {row}, {column}"


def test_maps_differ_in_how_much_of_a_cell_must_be_covered() -> None:
    scene = scene_of(thing("red", "star", x=40, y=43))
    sizes = {write_map(scene, random.Random(seed)).split().count("REDSTAR") for seed in range(20)}
    assert len(sizes) > 2
    assert min(sizes) >= 1


@pytest.mark.parametrize(
    ("item", "word"),
    [
        (thing("red", "star", "small"), "redstar"),
        (thing("red", "star", "large"), "REDSTAR"),
        (Sign(text="cat", x=0, y=0), "signcat"),
        (Sign(text="17", x=0, y=0), "sign17"),
    ],
)
def test_tiles_spell_color_shape_and_size(item: object, word: str) -> None:
    assert tile(item) == word  # type: ignore[arg-type]
    assert word in tiles()


def test_tiles_are_unlike_one_another() -> None:
    assert len(tiles()) == len(set(tiles())) == 1 + 2 * 8 * 6 + 16 + 20


# ---- documents -------------------------------------------------------------------------------------------------------


def test_documents_are_functions_of_their_index() -> None:
    assert [write_document(index) for index in range(150)] == DOCUMENTS[:150]
    assert len({text_of(document) for document in DOCUMENTS}) > 290
    assert write_document(3, seed=1) != write_document(3)


def test_the_language_models_scenes_are_not_those_of_the_pictures() -> None:
    assert SEED != PICTURES_SEED


def test_exactly_the_answers_and_their_ends_are_learnt() -> None:
    for document in DOCUMENTS:
        assert document[0].text == BOS
        assert not document[0].learnt
        if not any(piece.text == USER for piece in document):
            layout, caption = document[1:]
            assert (layout.learnt, caption.learnt, caption.text[-1]) == (False, True, "\n")
            assert len(layout.text.split()) == 36
            continue
        roles = [piece.text for piece in document if piece.special]
        turns = roles.count(USER)
        assert roles == [BOS, *[USER, ASSISTANT, END] * turns]
        for before, piece in pairwise(document):
            if piece.text == END or before.text == ASSISTANT:
                assert piece.learnt
            else:
                assert not piece.learnt


def test_words_never_spell_a_special_token() -> None:
    for document in DOCUMENTS:
        for piece in document:
            if not piece.special:
                assert not any(token in piece.text for token in (BOS, END, PAD, IMAGE, USER, ASSISTANT))


def test_all_kinds_of_documents_occur() -> None:
    kinds: Counter[str] = Counter()
    for document in DOCUMENTS:
        whole = text_of(document)
        if USER not in whole:
            kinds["caption"] += 1
        elif SHORT_ANSWER in whole:
            kinds["map" if whole.count(f" {EMPTY} ") > 3 else "prose"] += 1
        elif "The picture shows" in text_of(document, learnt=True):
            kinds["detail"] += 1
        elif re.search(r"would (roll|stay)", text_of(document, learnt=True)):
            kinds["reasoning"] += 1
        elif any(question in whole for question, _ in SMALL_TALK):
            kinds["small talk"] += 1
        else:
            kinds["sentences"] += 1
    assert set(kinds) == {"caption", "map", "prose", "detail", "reasoning", "small talk", "sentences"}


def test_only_the_first_question_asks_for_short_answers() -> None:
    turns = short_turns(exchanges(scenes()[5], random.Random(1), count=4))
    assert [SHORT_ANSWER in question for question, _ in turns] == [True] + [False] * (len(turns) - 1)
    assert all(answer and "\n" not in answer for _, answer in turns)


def test_a_context_stands_before_the_first_question_only() -> None:
    document = dialogue("MAP", [("One?", "1"), ("Two?", "2")])
    assert text_of(document) == f"{BOS}{USER}MAP\nOne?{ASSISTANT}1{END}{USER}Two?{ASSISTANT}2{END}"
    assert text_of(dialogue("", [("Hi?", "Yes")])) == f"{BOS}{USER}Hi?{ASSISTANT}Yes{END}"
    assert text_of(document, learnt=True) == f"1{END}2{END}"
