"""The language model's texts: maps that name what lies where, and documents of which only answers are learnt."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import pairwise

import pytest

from sightline.demo import corpus
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
    SHARED_FROM,
    SMALL_TALK,
    SPELLING,
    SPELT_FROM,
    USER,
    Document,
    Piece,
    cards,
    cell_name,
    compare_turns,
    dialogue,
    find_turns,
    layout,
    map_words,
    short_turns,
    tile,
    write_document,
    write_map,
)
from sightline.demo.dataset import SEED as PICTURES_SEED
from sightline.demo.describe import CLEAR_OFFSET, place
from sightline.demo.teacher import SHORT_ANSWER, exchanges
from sightline.demo.world import CANVAS, SHAPES, Sign
from tests.demo.scenes import items, scene_of, scenes, thing, words_of

CELL = CANVAS / CELLS
FORM_OF_TEST = " b2 REDSTAR c2 REDSTAR b3 REDSTAR c3 REDSTAR f6 signcat"
DOCUMENTS = [write_document(start + index) for start, _ in CURRICULUM for index in range(150)]


def text_of(document: Document, *, learnt: bool | None = None) -> str:
    return "".join(piece.text for piece in document if learnt is None or piece.learnt == learnt)


# ---- maps ------------------------------------------------------------------------------------------------------------


def cells_of(words: str) -> dict[tuple[int, int], str]:
    """(row, column) -> what the map names there, in the order of the map."""
    found = words.split()
    return {
        (int(cell[1]) - 1, "abcdef".index(cell[0])): word for cell, word in zip(found[::2], found[1::2], strict=True)
    }


def test_a_map_lists_cells_row_by_row_with_what_lies_in_them() -> None:
    vocabulary = set(map_words())
    for scene in scenes():
        words = write_map(scene, random.Random(scene.index))
        assert words == "".join(f" {word}" for word in words.split())
        assert set(words.split()) <= vocabulary
        cells = list(cells_of(words))
        assert cells == sorted(cells)
        assert 2 * len(cells) == len(words.split())


def test_some_maps_name_empty_cells_and_some_do_not() -> None:
    maps = [cells_of(write_map(scene, random.Random(scene.index))) for scene in scenes()]
    empties = [sum(word == EMPTY for word in cells.values()) for cells in maps]
    assert 0.4 < sum(count == 0 for count in empties) / len(empties) < 0.9
    assert max(empties) > 20


def test_the_cell_under_a_center_names_what_lies_there() -> None:
    for scene in scenes():
        cells = cells_of(write_map(scene, random.Random(scene.index)))
        for item in items(scene):
            mates = [
                tile(other)
                for other in items(scene)
                if (other.x // CELL, other.y // CELL) == (item.x // CELL, item.y // CELL)
            ]
            assert cells[int(item.y // CELL), int(item.x // CELL)] in mates


def test_a_cell_names_only_what_reaches_into_it() -> None:
    for scene in scenes():
        for (row, column), word in cells_of(write_map(scene, random.Random(scene.index))).items():
            if word == EMPTY:
                continue
            reach = [
                item
                for item in items(scene)
                if tile(item) == word
                and abs((column + 0.5) * CELL - item.x) <= CELL / 2 + 26
                and abs((row + 0.5) * CELL - item.y) <= CELL / 2 + 20
            ]
            assert reach, f"{word} is not near cell {row}, {column}"


def test_maps_differ_in_how_much_of_a_cell_must_be_covered() -> None:
    scene = scene_of(thing("red", "star", x=40, y=43))
    sizes = {write_map(scene, random.Random(seed)).split().count("REDSTAR") for seed in range(20)}
    assert len(sizes) > 2
    assert min(sizes) >= 1


@pytest.mark.parametrize(("row", "column", "name"), [(0, 0, "a1"), (0, 5, "f1"), (5, 0, "a6"), (2, 1, "b3")])
def test_cells_are_named_by_column_and_row(row: int, column: int, name: str) -> None:
    assert cell_name(row, column) == name
    assert name in map_words()


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
    assert word in map_words()


def test_the_words_of_maps_are_unlike_one_another() -> None:
    assert len(map_words()) == len(set(map_words())) == 1 + 36 + 2 * 8 * 6 + 16 + 20


# ---- documents -------------------------------------------------------------------------------------------------------


def test_documents_are_functions_of_their_index() -> None:
    assert [write_document(index) for index in range(150)] == DOCUMENTS[:150]
    assert len({text_of(document) for document in DOCUMENTS}) > 0.96 * len(DOCUMENTS)
    assert write_document(3, seed=1) != write_document(3)


def test_the_language_models_scenes_are_not_those_of_the_pictures() -> None:
    assert SEED != PICTURES_SEED


def test_exactly_the_answers_and_their_ends_are_learnt() -> None:
    for document in DOCUMENTS:
        assert document[0].text == BOS
        assert not document[0].learnt
        if not any(piece.text == USER for piece in document):
            *context, caption = document[1:]
            assert (any(piece.learnt for piece in context), caption.learnt, caption.text[-1]) == (False, True, "\n")
            assert context[0].shared or cells_of(context[0].text)
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


def kind_of(document: Document) -> str:
    whole, learnt = text_of(document), text_of(document, learnt=True)
    if USER not in whole:
        return "caption"
    if SHORT_ANSWER in whole:
        return "prose" if "The picture shows" in whole else "short"
    if "The picture shows" in learnt:
        return "detail"
    if re.search(r"would (roll|stay)", learnt):
        return "reasoning"
    if any(question in whole for question, _ in SMALL_TALK):
        return "small talk"
    return "drill" if re.search(r"^(\d|\w+ (at|in|on) |(left|right|above|below)?,? ?\w+<)", learnt) else "sentences"


def test_all_kinds_of_documents_occur() -> None:
    kinds = Counter(kind_of(document) for document in DOCUMENTS)
    assert set(kinds) == {"caption", "short", "prose", "detail", "reasoning", "small talk", "sentences", "drill"}


def test_words_share_positions_in_the_last_maps_alone() -> None:
    assert [start for start, _ in CURRICULUM[-2:]] == [SHARED_FROM, SPELT_FROM]
    assert not any(piece.shared for document in DOCUMENTS[:-300] for piece in document)
    for late in (DOCUMENTS[-300:-150], DOCUMENTS[-150:]):
        assert sum(any(piece.shared for piece in document) for document in late) > 120


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (SHARED_FROM - 1, [" b2 REDSTAR c2 REDSTAR b3 REDSTAR c3 REDSTAR f6 signcat"]),
        (SHARED_FROM, [" b2 REDSTAR", " c2 REDSTAR", " b3 REDSTAR", " c3 REDSTAR", " f6 signcat"]),
        (
            SPELT_FROM,
            [" b2 red star large", " c2 red star large", " b3 red star large", " c3 red star large", " f6 signcat"],
        ),
    ],
)
def test_a_map_is_written_in_the_form_of_its_document(
    index: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "write_map", lambda scene, rng: FORM_OF_TEST)
    pieces = layout(scenes()[0], random.Random(0), index=index)
    assert [piece.text for piece in pieces] == expected
    assert {piece.shared for piece in pieces} == {index >= SHARED_FROM}


def test_every_thing_is_spelt_in_words_of_its_own() -> None:
    spelt = {tile(thing): f"{thing.color} {thing.shape} {thing.size}" for scene in scenes() for thing in scene.things}
    assert len(spelt) > 80
    assert all(SPELLING[word] == words for word, words in spelt.items())


def test_cards_say_everything_once_and_nothing_twice() -> None:
    for scene in scenes():
        lines = cards(scene, random.Random(scene.index)).splitlines()
        told = [" ".join(sorted(line.split())) for line in lines]
        assert sorted(told) == sorted(
            " ".join(sorted(f"{item.color} {item.shape} {item.size} {place(item)}".split())) for item in scene.things
        )
    written = "".join(cards(scene, random.Random(scene.index)) for scene in scenes())
    shape_first = [line.split()[0] in SHAPES for line in written.splitlines()]
    assert 0.15 < sum(shape_first) / len(shape_first) < 0.35


def test_hard_questions_come_last() -> None:
    def places_asked(documents: list[Document]) -> int:
        return sum(text_of(document).count("part of the picture") for document in documents)

    assert places_asked(DOCUMENTS[-150:]) > 2 * places_asked(DOCUMENTS[:150])


# ---- drills ----------------------------------------------------------------------------------------------------------


def test_a_look_up_is_answered_with_everything_that_matches() -> None:
    for scene in scenes():
        for question, answer in find_turns(scene, random.Random(scene.index), count=7):
            key = set(question.removesuffix("?").split())
            if key == {"sign"}:
                assert scene.sign is not None
                assert answer.split()[0] == scene.sign.text
                continue
            found = [item for item in scene.things if key <= words_of(item)]
            count, *listed = answer.split(", ")
            assert int(count) == len(found) == len(listed)
            assert sorted(" ".join(text.split()[:3]) for text in listed) == sorted(
                f"{item.size} {item.color} {item.shape}" for item in found
            )


def test_a_comparison_tells_sides_and_sizes() -> None:
    compared = 0
    for scene in scenes():
        for question, answer in compare_turns(scene, random.Random(scene.index), count=8):
            names = question.removesuffix("?").split(" or ")
            (one,), (other,) = (
                [item for item in scene.things if set(name.split()) <= words_of(item)] for name in names
            )
            told = answer.split(", ")
            bigger = (one.size == "large") - (other.size == "large")
            assert told[-1] == {0: "equal", 1: "larger", -1: "smaller"}[bigger]
            assert ("left" in told) == (one.x <= other.x - CLEAR_OFFSET)
            assert ("right" in told) == (one.x >= other.x + CLEAR_OFFSET)
            assert ("above" in told) == (one.y <= other.y - CLEAR_OFFSET)
            assert ("below" in told) == (one.y >= other.y + CLEAR_OFFSET)
            compared += 1
    assert compared > 200


def test_only_the_first_question_asks_for_short_answers() -> None:
    turns = short_turns(exchanges(scenes()[5], random.Random(1), count=4))
    assert [SHORT_ANSWER in question for question, _ in turns] == [True] + [False] * (len(turns) - 1)
    assert all(answer and "\n" not in answer for _, answer in turns)


def test_a_context_stands_before_the_first_question_only() -> None:
    document = dialogue([Piece(text="MA"), Piece(text="P")], [("One?", "1"), ("Two?", "2")])
    assert text_of(document) == f"{BOS}{USER}MAP\nOne?{ASSISTANT}1{END}{USER}Two?{ASSISTANT}2{END}"
    assert text_of(dialogue([], [("Hi?", "Yes")])) == f"{BOS}{USER}Hi?{ASSISTANT}Yes{END}"
    assert text_of(document, learnt=True) == f"1{END}2{END}"
