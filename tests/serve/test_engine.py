"""The engine: every answer is the one that the request gets alone, whoever comes, goes or fails beside it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sightline.data.processor import Processor
from sightline.data.sample import Turn
from sightline.infer.chat import ChatSession, question_content, stop_rule
from sightline.infer.sampling import Sampling
from sightline.model.vlm import VisionLanguageModel
from sightline.serve.engine import Engine
from sightline.serve.request import End, Event, Fault, Piece, Request
from sightline.serve.shelf import picture_keys
from tests.serve.running import BLUE, RED
from tests.tiny_checkpoint import tiny_assistant

NOISE = Image.effect_noise((50, 50), 90).convert("RGB")
PICTURES = (RED, BLUE, NOISE)


@dataclass
class Asked:
    """A request, and what came of it."""

    request: Request
    events: list[Event] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Piece))

    @property
    def tokens(self) -> int:
        return sum(isinstance(event, Piece) for event in self.events)

    @property
    def last(self) -> Event:
        return self.events[-1]

    def wait(self, seconds: float = 60) -> Asked:
        assert self.over.wait(seconds), "no end came"
        return self


def prepared(
    processor: Processor, text: str, pictures: Sequence[Image.Image], sampling: Sampling, before: Sequence[Turn] = ()
) -> Asked:
    """One question, as `ChatSession` would ask it."""
    pixels = processor.pixels(list(pictures))
    question = Turn(role="user", content=question_content(text, first=0, count=len(pictures)))
    ids = processor.prompt([*before, question])

    def deliver(event: Event) -> None:
        asked.events.append(event)
        if not isinstance(event, Piece):
            asked.over.set()

    request = Request(
        ids=ids, pixels=pixels, pictures=picture_keys(pixels), sampling=sampling, stop=stop_rule(processor), top=None,
        deliver=deliver, deadline=time.monotonic() + 120,
    )  # fmt: skip
    asked = Asked(request)
    return asked


def alone(model: VisionLanguageModel, processor: Processor, text: str, pictures: Any, sampling: Sampling) -> str:
    """What `sightline chat` says."""
    return ChatSession(model=model, processor=processor, sampling=sampling).ask(text, pictures)


@contextmanager
def engine_of(model: VisionLanguageModel, processor: Processor, **options: Any) -> Iterator[Engine]:
    engine = Engine(model, processor, **options)
    try:
        yield engine
    finally:
        engine.close()
        assert not engine.alive


def questions(count: int, *, seed: int, drawn: bool = False) -> list[tuple[str, list[Image.Image], Sampling]]:
    """Of all lengths, with up to two pictures; `drawn`: half of them not greedy."""
    dice = random.Random(seed)
    found = []
    for number in range(count):
        text = " ".join(dice.choice(["red", "what", "car", "é", "日本"]) for _ in range(dice.randint(1, 30)))
        pictures = [dice.choice(PICTURES) for _ in range(dice.choice([0, 0, 1, 1, 2]))]
        warm = drawn and number % 2 == 0
        sampling = Sampling(
            max_new_tokens=dice.randint(1, 24),
            temperature=0.8 if warm else 0.0,
            top_p=0.9 if warm else 1.0,
            top_k=dice.choice([0, 5]) if warm else 0,
            seed=dice.randrange(1000),
        )
        found.append((text, pictures, sampling))
    return found


def assert_as_alone(model: VisionLanguageModel, processor: Processor, mixes: Sequence[int], **options: Any) -> int:
    """How many answers were compared."""
    compared = 0
    for seed in mixes:
        asked = questions(12, seed=seed, drawn=True)
        wanted = [alone(model, processor, *question) for question in asked]
        dice = random.Random(seed)
        with engine_of(model, processor, rows=dice.choice([2, 3, 8]), **options) as engine:
            running = []
            for question in asked:
                running.append(prepared(processor, *question))
                engine.submit(running[-1].request)
                if dice.random() < 0.3:
                    time.sleep(0.003)
            for each, answer in zip(running, wanted, strict=True):
                assert each.wait().text == answer
                assert isinstance(each.last, End)
                compared += 1
    return compared


@pytest.mark.parametrize("language", ["llama", "qwen3", "gemma2", "mistral"])
def test_answers_under_load_are_those_of_chat_alone(language: str) -> None:
    """Greedy and drawn ones: a seed means the same numbers here and there."""
    model, processor = tiny_assistant(language=language)
    assert assert_as_alone(model, processor, range(2)) == 24


@pytest.mark.slow
def test_answers_under_load_are_those_of_chat_alone_five_hundred_times() -> None:
    model, processor = tiny_assistant()
    assert assert_as_alone(model, processor, range(100, 142)) >= 500


def test_a_cache_whose_rows_cannot_lie_together_gives_each_request_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.serve.engine.stackable", lambda config: False)
    model, processor = tiny_assistant()
    assert_as_alone(model, processor, [7])


class Watched:
    """The rows of every step of one model, and what its methods should do beside."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self.rows: list[int] = []
        self.prompts: list[int] = []
        self.encoded: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        decode, vision = model.decode, model.vision.forward

        def watched_decode(inputs: Tensor, *arguments: Any, **keys: Any) -> Any:
            self.gate.wait(30)
            if inputs.shape[1] == 1 and not inputs.is_floating_point():
                self.rows.append(inputs.shape[0])
            else:
                self.prompts.append(inputs.shape[1])
            return decode(inputs, *arguments, **keys)

        def watched_vision(pixels: Tensor) -> Tensor:
            self.encoded.append(len(pixels))
            found: Tensor = vision(pixels)
            return found

        model.decode = watched_decode  # type: ignore[method-assign]
        model.vision.forward = watched_vision  # type: ignore[method-assign]


def never_stops(asked: Asked) -> Asked:
    asked.request.stop = replace(asked.request.stop, ids=frozenset(), texts=())
    return asked


def test_requests_join_between_steps_and_leave_when_done() -> None:
    model, processor = tiny_assistant()
    watched = Watched(model)
    with engine_of(model, processor) as engine:
        long = never_stops(prepared(processor, "one", [], Sampling(max_new_tokens=200)))
        engine.submit(long.request)
        while len(watched.rows) < 5:
            time.sleep(0.001)
        short = never_stops(prepared(processor, "another", [RED], Sampling(max_new_tokens=10)))
        engine.submit(short.request)
        short.wait()
        assert long.tokens < 200, "the short one did not wait for the long one"
        long.wait()
    assert watched.rows.count(2) == 9, "ten tokens: the first came of the prompt"
    assert watched.rows[-1] == 1
    assert (long.tokens, short.tokens) == (200, 10)
    assert long.last == End(reason="length", prompt_tokens=len(long.request.ids), tokens=200, reused=0)


def test_no_more_rows_than_allowed_and_first_come_first_served() -> None:
    model, processor = tiny_assistant()
    watched = Watched(model)
    watched.gate.clear()
    ended: list[int] = []
    with engine_of(model, processor, rows=2) as engine:
        asked = [never_stops(prepared(processor, "word " * n, [], Sampling(max_new_tokens=5))) for n in range(1, 8)]
        for number, each in enumerate(asked):
            deliver = each.request.deliver
            each.request.deliver = lambda event, number=number, deliver=deliver: (  # type: ignore[misc]
                ended.append(number) if isinstance(event, End) else None,
                deliver(event),
            )
            engine.submit(each.request)
        assert sum(engine.load) == 7
        watched.gate.set()
        for each in asked:
            each.wait()
    assert max(watched.rows) == 2
    assert ended == sorted(ended)


def test_pictures_that_wait_together_are_encoded_together_and_each_once() -> None:
    model, processor = tiny_assistant()
    watched = Watched(model)
    watched.gate.clear()
    with engine_of(model, processor) as engine:
        first = prepared(processor, "wait", [], Sampling(max_new_tokens=1))
        engine.submit(first.request)
        while engine.load[1]:
            time.sleep(0.001)
        pairs = ([RED], [BLUE, RED], [RED])
        asked = [prepared(processor, "what", pictures, Sampling(max_new_tokens=2)) for pictures in pairs]
        for each in asked:
            engine.submit(each.request)
        watched.gate.set()
        for each in asked:
            each.wait()
        again = prepared(processor, "and this", [BLUE], Sampling(max_new_tokens=2))
        engine.submit(again.request)
        again.wait()
    assert watched.encoded == [2]
    assert engine.figures.pictures == 2


def test_the_next_turn_of_a_conversation_computes_only_what_is_new() -> None:
    model, processor = tiny_assistant()
    watched = Watched(model)
    greedy = Sampling(max_new_tokens=8)
    talk = ChatSession(model=model, processor=processor, sampling=greedy)
    with engine_of(model, processor) as engine:
        first = prepared(processor, "What is it?", [RED], greedy)
        engine.submit(first.request)
        answer = first.wait().text
        before = [Turn(role="user", content=question_content("What is it?", first=0, count=1))]
        before.append(Turn(role="assistant", content=(answer,)))
        second = prepared(processor, "And now?", [], greedy, before)
        second.request.pixels = processor.pixels([RED])
        second.request.pictures = picture_keys(second.request.pixels)
        watched.prompts.clear()
        engine.submit(second.request)
        second.wait()
        again = prepared(processor, "And now?", [], greedy, before)
        again.request.pixels, again.request.pictures = processor.pixels([BLUE]), picture_keys(processor.pixels([BLUE]))
        engine.submit(again.request)
        again.wait()
    assert isinstance(second.last, End)
    assert second.last.reused >= len(first.request.ids)
    assert watched.prompts[0] == len(second.request.ids) - second.last.reused
    assert isinstance(again.last, End)
    first_place = again.request.ids.index(processor.image_token_id)
    assert again.last.reused == first_place, "another picture: nothing of it and behind it is known"
    assert [talk.ask("What is it?", [RED]), talk.ask("And now?")] == [answer, second.text]


def test_a_request_that_is_cancelled_gets_no_further_token_and_gives_its_row_back() -> None:
    model, processor = tiny_assistant()
    watched = Watched(model)
    with engine_of(model, processor, rows=1) as engine:
        asked = never_stops(prepared(processor, "one", [], Sampling(max_new_tokens=900)))
        engine.submit(asked.request)
        waiting = prepared(processor, "other", [], Sampling(max_new_tokens=900))
        engine.submit(waiting.request)
        while asked.tokens < 3:
            time.sleep(0.001)
        watched.gate.clear()
        tokens, waiting.request.cancelled, asked.request.cancelled = asked.tokens, True, True
        assert engine.load[0] == 1, "the row is taken until the step is over"
        watched.gate.set()
        assert asked.wait().last == Fault(code="cancelled")
        assert asked.tokens <= tokens + 1
        assert waiting.wait().last == Fault(code="cancelled")
        assert engine.load == (0, 0)


def test_a_request_that_takes_too_long_ends() -> None:
    model, processor = tiny_assistant()
    with engine_of(model, processor) as engine:
        asked = never_stops(prepared(processor, "one", [], Sampling(max_new_tokens=900)))
        asked.request.deadline = time.monotonic() + 0.05
        engine.submit(asked.request)
        assert asked.wait().last == Fault(code="timeout")


@pytest.mark.parametrize("error", [RuntimeError("secret"), IndexError("secret"), MemoryError()])
def test_a_token_that_breaks_the_step_of_a_batch_ends_its_own_request_alone(error: Exception) -> None:
    """In a batch nobody can say which row it was: each goes on by itself, and the one that fails again is over."""
    model, processor = tiny_assistant()
    sampling = Sampling(max_new_tokens=12)
    texts = [f"word {'x' * n}" for n in range(8)]
    wanted = [alone(model, processor, text, [RED], sampling) for text in texts]
    answers = [ChatSession(model=model, processor=processor, sampling=sampling) for _ in texts]
    ids = []
    for session, text in zip(answers, texts, strict=True):
        session.ask(text, [RED])
        assert session.last is not None
        ids.append(session.last.answer_ids)
    fed = [set(answer[:-1]) for answer in ids]
    victims, token = min(
        ([number for number, each in enumerate(fed) if token in each], token) for token in set().union(*fed)
        if sum(token in each for each in fed) == 1
    )  # fmt: skip
    decode = model.decode

    def failing(inputs: Tensor, *arguments: Any, **keys: Any) -> Any:
        if not inputs.is_floating_point() and (inputs == token).any():
            raise error
        return decode(inputs, *arguments, **keys)

    model.decode = failing  # type: ignore[method-assign]
    lines: list[str] = []
    with engine_of(model, processor, told=lines.append) as engine:
        asked = [prepared(processor, text, [RED], sampling) for text in texts]
        for each in asked:
            engine.submit(each.request)
        for number, each in enumerate(asked):
            each.wait()
            if number in victims:
                assert each.last == Fault(code="memory" if isinstance(error, MemoryError) else "failed")
            else:
                assert each.text == wanted[number]
        model.decode = decode  # type: ignore[method-assign]
        after = prepared(processor, texts[0], [RED], sampling)
        engine.submit(after.request)
        assert after.wait().text == wanted[0]
    assert len(lines) == 1
    assert "secret" not in lines[0]


def test_a_picture_that_breaks_the_encoder_ends_its_own_request_alone() -> None:
    model, processor = tiny_assistant()
    poison = picture_keys(processor.pixels([NOISE]))
    vision = model.vision.forward

    def failing(pixels: Tensor) -> Tensor:
        if poison[0] in picture_keys(pixels):
            raise ValueError("secret")
        found: Tensor = vision(pixels)
        return found

    wanted = alone(model, processor, "what", [RED], Sampling(max_new_tokens=5))
    model.vision.forward = failing  # type: ignore[method-assign]
    watched = Watched(model)
    watched.gate.clear()
    with engine_of(model, processor) as engine:
        blocker = prepared(processor, "wait", [], Sampling(max_new_tokens=1))
        engine.submit(blocker.request)
        while engine.load[1]:
            time.sleep(0.001)
        asked = [prepared(processor, "what", [each], Sampling(max_new_tokens=5)) for each in (RED, NOISE, RED)]
        for each in asked:
            engine.submit(each.request)
        watched.gate.set()
        assert [each.wait().text for each in asked] == [wanted, "", wanted]
    assert asked[1].last == Fault(code="failed")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_end_their_own_request_alone(value: float) -> None:
    model, processor = tiny_assistant()
    decode = model.decode

    def spoiled(inputs: Tensor, *arguments: Any, **keys: Any) -> Any:
        logits, cache = decode(inputs, *arguments, **keys)
        if inputs.shape[0] == 2:
            logits = logits.clone()
            logits[1] = value
        return logits, cache

    wanted = alone(model, processor, "what", [], Sampling(max_new_tokens=30))
    model.decode = spoiled  # type: ignore[method-assign]
    watched = Watched(model)
    watched.gate.clear()
    with engine_of(model, processor) as engine:
        asked = [prepared(processor, text, [], Sampling(max_new_tokens=30)) for text in ("what", "why not")]
        for each in asked:
            engine.submit(each.request)
        watched.gate.set()
        assert asked[0].wait().text == wanted
        assert asked[1].wait().last == Fault(code="failed")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_dies_tells_everybody_and_takes_nothing_more() -> None:
    model, processor = tiny_assistant()

    def dying(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    model.decode = dying  # type: ignore[method-assign]
    engine = Engine(model, processor)
    asked = [prepared(processor, "one", [], Sampling()) for _ in range(3)]
    for each in asked:
        engine.submit(each.request)
    for each in asked:
        assert each.wait().last == Fault(code="stopping")
    engine.close()
    late = prepared(processor, "late", [], Sampling())
    engine.submit(late.request)
    assert late.wait().last == Fault(code="stopping")
    assert not engine.alive


def test_chances_are_those_of_the_whole_distribution_and_the_token_is_the_likeliest() -> None:
    model, processor = tiny_assistant()
    with engine_of(model, processor) as engine:
        asked = prepared(processor, "what", [RED], Sampling(max_new_tokens=5))
        asked.request.top = 3
        engine.submit(asked.request)
        asked.wait()
    for event in asked.events[:-1]:
        assert isinstance(event, Piece)
        own, *likeliest = event.chances
        assert own == likeliest[0]
        assert [each.logprob for each in likeliest] == sorted((each.logprob for each in likeliest), reverse=True)
        assert own.logprob < 0


def test_a_probe_makes_an_idle_engine_step() -> None:
    model, processor = tiny_assistant()
    with engine_of(model, processor) as engine:
        before = engine.stepped
        time.sleep(0.05)
        assert engine.stepped == before
        engine.probe()
        while engine.stepped == before:
            time.sleep(0.001)
