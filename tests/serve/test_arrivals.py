"""Arrivals: what comes in holds up nobody for longer than a piece of it takes, and changes no answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from sightline.data.processor import Processor
from sightline.infer.lanes import PIECE
from sightline.infer.sampling import Sampling
from sightline.model.vlm import VisionLanguageModel
from sightline.serve.arrivals import ENCODED_TOGETHER
from sightline.serve.engine import Engine
from sightline.serve.request import End, Fault
from tests.serve.running import BLUE, RED
from tests.serve.test_engine import Asked, alone, engine_of, never_stops, prepared
from tests.tiny_checkpoint import tiny_assistant

LONG = "what red car " * 90
"""More than two pieces, in the toy tokenizer."""


class Order:
    """What the model does, in its order: `step` for everybody's next token, `piece` of a prompt, `pictures`.

    Attributes:
        before: called before each of them with what it is.
    """

    def __init__(self, model: VisionLanguageModel) -> None:
        self.done: list[tuple[str, int]] = []
        self.before: Callable[[str], None] = lambda what: None
        decode, vision = model.decode, model.vision.forward

        def watched_decode(inputs: Tensor, *arguments: Any, **keys: Any) -> Any:
            rows, length = inputs.shape[:2]
            step = not inputs.is_floating_point()
            self._note("step" if step else "piece", rows if step else length)
            return decode(inputs, *arguments, **keys)

        def watched_vision(pixels: Tensor) -> Tensor:
            self._note("pictures", len(pixels))
            found: Tensor = vision(pixels)
            return found

        model.decode = watched_decode  # type: ignore[method-assign]
        model.vision.forward = watched_vision  # type: ignore[method-assign]

    def _note(self, what: str, size: int) -> None:
        self.before(what)
        self.done.append((what, size))

    def between_steps(self) -> list[list[tuple[str, int]]]:
        """What was done in each gap between two steps, without the empty ones."""
        return [list(part) for step, part in groupby(self.done, lambda each: each[0] == "step") if not step]


def running(engine: Engine, processor: Processor) -> Asked:
    """A request whose tokens are coming."""
    asked = never_stops(prepared(processor, "one", [], Sampling(max_new_tokens=900)))
    engine.submit(asked.request)
    while asked.tokens < 2:
        time.sleep(0.001)
    return asked


def gaps_of(model: VisionLanguageModel, processor: Processor, asked: Sequence[Asked]) -> list[list[tuple[str, int]]]:
    """What is done between the steps of an answer while these requests come in, all in the same gap."""
    order = Order(model)

    def submit_all(what: str) -> None:
        order.before = lambda what: None
        for each in asked:
            engine.submit(each.request)

    with engine_of(model, processor) as engine:
        one = running(engine, processor)
        order.done.clear()
        order.before = submit_all
        for each in asked:
            each.wait()
        one.request.cancelled = True
        one.wait()
    return order.between_steps()


def test_a_long_prompt_comes_in_piece_by_piece_with_a_step_of_the_others_between() -> None:
    model, processor = tiny_assistant()
    wanted = alone(model, processor, LONG, [RED], Sampling(max_new_tokens=6))
    order = Order(model)
    with engine_of(model, processor) as engine:
        one = running(engine, processor)
        order.done.clear()
        long = prepared(processor, LONG, [RED], Sampling(max_new_tokens=6))
        engine.submit(long.request)
        assert long.wait().text == wanted
        one.request.cancelled = True
        one.wait()
    positions = len(long.request.ids)
    pieces = [PIECE] * (positions // PIECE) + [positions % PIECE]
    assert order.between_steps() == [[("pictures", 1)], *([("piece", size)] for size in pieces)]
    assert positions > 2 * PIECE
    assert isinstance(long.last, End)
    assert (long.last.prompt_tokens, long.last.reused) == (positions, 0)


@pytest.mark.parametrize("language", ["llama", "gemma2"])
def test_long_prompts_in_any_company_are_answered_as_alone(language: str) -> None:
    """Also where windows slide (gemma2), and with what an earlier conversation left."""
    model, processor = tiny_assistant(language=language)
    words = ["red ", "what car ", "é 日本 "]
    asked = [(words[n % 3] * (9 + 20 * (n % 4)), [RED, BLUE][: n % 3], Sampling(max_new_tokens=12)) for n in range(8)]
    asked.append((asked[3][0] + "more", *asked[3][1:]))
    wanted = [alone(model, processor, *question) for question in asked]
    with engine_of(model, processor, rows=4) as engine:
        together = [prepared(processor, *question) for question in asked]
        for each in together:
            engine.submit(each.request)
        assert [each.wait().text for each in together] == wanted
        assert (engine.figures.reused > PIECE) == (language == "llama"), "windows keep too little for another turn"


def test_short_prompts_that_come_together_join_between_the_same_two_steps() -> None:
    model, processor = tiny_assistant()
    asked = [never_stops(prepared(processor, f"word {n}", [], Sampling(max_new_tokens=4))) for n in range(5)]
    together = gaps_of(model, processor, asked)
    assert [len(gap) for gap in together] == [5]
    assert sum(size for _, size in together[0]) < PIECE


def test_no_more_pictures_than_a_batch_are_encoded_between_two_steps() -> None:
    model, processor = tiny_assistant()
    asked = [
        prepared(processor, "what", [Image.new("RGB", (9, 9), (number, 5 * other, 0)) for other in range(5)],
                 Sampling(max_new_tokens=2))
        for number in range(3)
    ]  # fmt: skip
    encoded = [[size for what, size in gap if what == "pictures"] for gap in gaps_of(model, processor, asked)]
    assert [sizes for sizes in encoded if sizes] == [[5], [5], [5]]
    assert ENCODED_TOGETHER < 10


@pytest.mark.parametrize("how", ["cancelled", "timeout"])
def test_a_request_that_ends_between_two_pieces_gives_its_place_back_at_once(how: str) -> None:
    model, processor = tiny_assistant()
    order = Order(model)
    with engine_of(model, processor, rows=1) as engine:
        long = prepared(processor, LONG, [], Sampling(max_new_tokens=6))
        after = prepared(processor, "after", [], Sampling(max_new_tokens=6))

        def end(what: str) -> None:
            order.before = lambda what: None
            assert engine.load == (1, 1)
            if how == "cancelled":
                long.request.cancelled = True
            else:
                long.request.deadline = 0.0

        order.before = lambda what: (engine.submit(after.request), setattr(order, "before", end))[0]
        engine.submit(long.request)
        assert long.wait().events == [Fault(code=how)]
        assert isinstance(after.wait().last, End)
    pieces = [size for what, size in order.done if what == "piece"]
    assert pieces == [PIECE, PIECE, len(after.request.ids)], "the piece that it was in is finished, no other begun"


def test_a_prompt_that_fails_in_its_second_piece_fails_alone() -> None:
    model, processor = tiny_assistant()
    wanted = alone(model, processor, "after", [], Sampling(max_new_tokens=6))
    order = Order(model)
    lines: list[str] = []

    def fail(what: str) -> None:
        if sum(size == PIECE for _, size in order.done) == 1:
            order.before = lambda what: None
            raise RuntimeError("secret")

    order.before = fail
    with engine_of(model, processor, told=lines.append) as engine:
        asked = [prepared(processor, text, [], Sampling(max_new_tokens=6)) for text in (LONG, "after")]
        for each in asked:
            engine.submit(each.request)
        assert asked[0].wait().last == Fault(code="failed")
        assert asked[1].wait().text == wanted
    assert len(lines) == 1
    assert "secret" not in lines[0]
