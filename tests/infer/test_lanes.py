"""Rows that go together: no padding is computed, rows that are over leave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.infer.generate import Prompt, generate
from sightline.infer.lanes import PIECE, Filling, compacted, prefill, prefill_new
from sightline.infer.memory import Memory
from sightline.infer.sampling import Sampling
from sightline.infer.words import StopRule
from sightline.model.vlm import VisionLanguageModel
from tests.fakes import tiny_model
from tests.infer.test_generate import PROMPTS
from tests.tiny_checkpoint import tiny_assistant


def watched(model: VisionLanguageModel) -> list[tuple[int, int]]:
    """The shapes [B, T] of all that goes through the language model from now on."""
    shapes: list[tuple[int, int]] = []
    decode = model.decode

    def watch(inputs: Tensor, *arguments: Any, **options: Any) -> Any:
        shapes.append((inputs.shape[0], inputs.shape[1]))
        return decode(inputs, *arguments, **options)

    model.decode = watch  # type: ignore[method-assign]
    return shapes


def test_prompts_are_computed_in_their_own_lengths_and_equal_ones_together() -> None:
    model = tiny_model()
    shapes = watched(model)
    with torch.inference_mode():
        (lane,) = prefill(model, PROMPTS)
    lengths = [len(prompt.ids) for prompt in PROMPTS]
    assert sorted(shapes) == sorted((lengths.count(length), length) for length in set(lengths))
    assert sorted(lane.rows) == list(range(len(PROMPTS)))
    assert [max(lengths) - lengths[row] for row in lane.rows] == lane.padding


@pytest.mark.parametrize("language", ["llama", "gemma2"])
def test_rows_that_are_over_are_not_computed(language: str) -> None:
    model = tiny_model("clip", language)
    free = generate(model, PROMPTS, sampling=Sampling(max_new_tokens=9), stop=StopRule(ids=frozenset(), decode=str))
    stop = StopRule(ids=frozenset({free[0][2], free[3][5], free[4][0]}), decode=str)
    shapes = watched(model)
    answers = generate(model, PROMPTS, sampling=Sampling(max_new_tokens=9), stop=stop)
    steps = [rows for rows, length in shapes if length == 1]
    lengths = [len(answer) for answer in answers]
    assert len(set(lengths)) > 1
    assert steps == [sum(length > step for length in lengths) for step in range(1, max(lengths))]
    assert answers == [answer[: len(given)] for answer, given in zip(free, answers, strict=True)]


def test_positions_that_only_finished_rows_had_are_dropped() -> None:
    model = tiny_model()
    with torch.inference_mode():
        (lane,) = prefill(model, PROMPTS)
        lane.keep({1, 3})
        assert min(lane.padding) == 0
        assert lane.cache.get_seq_length() == len(PROMPTS[3].ids)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 2], [0, 2]),
        ([1, 3], [3, 1]),
        ([3], [3]),
        ([0, 2, 4, 5], [0, 5, 2, 4]),
        ([], []),
    ],
)
def test_the_last_rows_fill_the_places_of_those_that_left(places: list[int], expected: list[int]) -> None:
    assert compacted(places) == expected


def test_a_drawn_answer_does_not_depend_on_the_rest_of_its_batch() -> None:
    model = tiny_model()
    sampling = Sampling(temperature=1.0, max_new_tokens=8, seed=3)
    stop = StopRule(ids=frozenset(), decode=str)
    together = generate(model, PROMPTS, sampling=sampling, stop=stop)
    assert together == [generate(model, [prompt], sampling=sampling, stop=stop)[0] for prompt in PROMPTS]
    assert generate(model, PROMPTS[::-1], sampling=sampling, stop=stop) == together[::-1]


def test_the_number_of_a_prompt_gives_it_draws_of_its_own() -> None:
    model = tiny_model()
    prompts = [Prompt(ids=PROMPTS[1].ids, pixels=PROMPTS[1].pixels, number=number) for number in range(3)]
    sampling = Sampling(temperature=1.0, max_new_tokens=8, seed=3)
    answers = generate(model, prompts, sampling=sampling, stop=StopRule(ids=frozenset(), decode=str))
    assert len({tuple(answer) for answer in answers}) == 3


def test_a_model_whose_states_cannot_be_stacked_answers_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    sampling, stop = Sampling(max_new_tokens=6), StopRule(ids=frozenset(), decode=str)
    wanted = generate(model, PROMPTS, sampling=sampling, stop=stop)
    monkeypatch.setattr("sightline.infer.lanes.stackable", lambda config: False)
    shapes = watched(model)
    assert generate(model, PROMPTS, sampling=sampling, stop=stop) == wanted
    assert {rows for rows, _ in shapes} == {1}


def test_a_prompt_in_pieces_is_the_prompt_at_once_and_the_memory_knows_what_was_computed() -> None:
    model, _ = tiny_assistant()
    ids = [3 + number % 50 for number in range(2 * PIECE + 7)]
    memory = Memory(image_tokens=4)
    shapes = watched(model)
    with torch.inference_mode():
        wanted, _ = model.decode(model.embed(torch.tensor([ids]), None))
        filling = Filling(model, Prompt(ids=ids, pixels=torch.zeros(0, 3, 28, 28)), memory, row=5)
        assert (filling.next, filling.step(), memory.ids) == (PIECE, None, ids[:PIECE])
        assert (filling.next, filling.step(), memory.ids) == (PIECE, None, ids[: 2 * PIECE])
        assert filling.next == 7
        lane = filling.step()
    assert lane is not None
    assert (lane.rows, lane.padding, memory.ids) == ([5], [0], ids)
    assert [length for _, length in shapes] == [len(ids), PIECE, PIECE, 7]
    torch.testing.assert_close(lane.logits, wanted)


def test_a_model_that_keeps_a_state_takes_a_prompt_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers go on from a state by one position only."""
    monkeypatch.setattr("sightline.infer.lanes.stackable", lambda config: False)
    model, _ = tiny_assistant()
    shapes = watched(model)
    with torch.inference_mode():
        prompt = Prompt(ids=[3] * (PIECE + 7), pixels=torch.zeros(0, 3, 28, 28))
        prefill_new(model, prompt, Memory(image_tokens=4))
    assert shapes == [(1, PIECE + 7)]
