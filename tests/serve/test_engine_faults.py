"""What fails beside a request, and when memory is short: who is told so, what is kept, and that the engine goes on."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from typing import Any

import pytest
import torch

from sightline.infer.lanes import Lane
from sightline.infer.sampling import Sampling
from sightline.serve.engine import Engine
from sightline.serve.request import End, Fault
from tests.serve.running import RED
from tests.serve.test_engine import Asked, Watched, alone, engine_of, never_stops, prepared
from tests.tiny_checkpoint import tiny_assistant

OTHERS = ("what", "why not", "é 日本")
LONG = Sampling(max_new_tokens=20)
WARM = Sampling(max_new_tokens=20, temperature=0.7, top_k=7, seed=1)


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def choosing(asked: Asked, error: Exception, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("sightline.serve.engine.choose", failing(error))


def spelling(asked: Asked, error: Exception, patch: pytest.MonkeyPatch) -> None:
    asked.request.stop = replace(asked.request.stop, decode=failing(error))


def weighing(asked: Asked, error: Exception, patch: pytest.MonkeyPatch) -> None:
    asked.request.top = 3
    patch.setattr("sightline.serve.engine.chances_of", failing(error))


@pytest.mark.parametrize("error", [RuntimeError("secret"), torch.OutOfMemoryError("secret")])
@pytest.mark.parametrize("what", [choosing, spelling, weighing])
def test_a_row_whose_next_token_fails_ends_alone_and_is_not_remembered(
    what: Callable[..., None], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = tiny_assistant()
    wanted = [alone(model, processor, text, [RED], LONG) for text in OTHERS]
    lines: list[str] = []
    watched = Watched(model)
    watched.gate.clear()
    with engine_of(model, processor, told=lines.append) as engine:
        victim = prepared(processor, "name three", [RED], WARM)
        asked = [prepared(processor, text, [RED], LONG) for text in OTHERS]
        with monkeypatch.context() as patch:
            what(victim, error, patch)
            for each in (asked[0], victim, *asked[1:]):
                engine.submit(each.request)
            watched.gate.set()
            assert victim.wait().last == Fault(code="memory" if isinstance(error, torch.OutOfMemoryError) else "failed")
            assert [each.wait().text for each in asked] == wanted
        again = prepared(processor, "name three", [RED], WARM)
        engine.submit(again.request)
        assert again.wait().text == alone(model, processor, "name three", [RED], WARM)
        assert isinstance(again.last, End)
        assert again.last.reused < len(again.request.ids) - 1, "no more than is also the others' beginning"
    assert len(lines) == 1
    assert "secret" not in lines[0]


@pytest.mark.parametrize("error", [RuntimeError("secret"), MemoryError()])
def test_rows_of_a_lane_that_cannot_let_others_go_fail_and_the_next_request_is_answered(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = tiny_assistant()
    wanted = alone(model, processor, "what", [RED], LONG)
    keep = Lane.keep
    broken: list[int] = []

    def breaking(lane: Lane, rows: Container[int]) -> None:
        if len(lane.rows) == 3 and not all(row in rows for row in lane.rows):
            broken.append(len(lane.rows))
            raise error
        keep(lane, rows)

    monkeypatch.setattr(Lane, "keep", breaking)
    watched = Watched(model)
    watched.gate.clear()
    with engine_of(model, processor) as engine:
        lengths = (30, 5, 30)
        asked = [never_stops(prepared(processor, "x" * n, [], Sampling(max_new_tokens=n))) for n in lengths]
        for each in asked:
            engine.submit(each.request)
        watched.gate.set()
        assert isinstance(asked[1].wait().last, End)
        fault = Fault(code="memory" if isinstance(error, MemoryError) else "failed")
        assert [each.wait().last for each in (asked[0], asked[2])] == [fault, fault]
        after = prepared(processor, "what", [RED], LONG)
        engine.submit(after.request)
        assert after.wait().text == wanted
        assert engine.load == (0, 0)
    assert broken == [3]


def test_a_conversation_for_which_there_is_no_memory_makes_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_assistant()

    def reused(engine: Engine, text: str) -> int:
        asked = prepared(processor, text, [], LONG)
        engine.submit(asked.request)
        last = asked.wait().last
        assert isinstance(last, End)
        return last.reused

    with engine_of(model, processor) as engine:
        reused(engine, "what")
        assert reused(engine, "what") > 0
        with monkeypatch.context() as patch:
            patch.setattr(Lane, "copied", failing(torch.OutOfMemoryError()))
            reused(engine, "why not")
        assert reused(engine, "what") == 0


def test_in_bf16_an_answer_is_that_of_chat() -> None:
    model, processor = tiny_assistant()
    model.to(torch.bfloat16)
    for sampling in (LONG, WARM):
        with engine_of(model, processor) as engine:
            asked = prepared(processor, "what", [RED], sampling)
            asked.request.top = 2
            engine.submit(asked.request)
            assert asked.wait().text == alone(model, processor, "what", [RED], sampling)
            assert isinstance(asked.last, End)
