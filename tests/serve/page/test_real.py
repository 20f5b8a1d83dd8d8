"""The page and the real server together, over two tiny models: what neither can show alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sightline.serve.feedback import Collection
from tests.serve.page.scripted import POLICY
from tests.serve.page.visitor import Visitor, painted, sent_bytes
from tests.serve.running import Running, running
from tests.tiny_checkpoint import tiny_assistant

if TYPE_CHECKING:
    from playwright.sync_api import Page


# How dark each point of a heat map is.
SHADE = """canvas => [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]
  .filter((_, place) => place % 4 === 3)"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what people think."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def server(desk: Page, kept: Path) -> Iterator[Running]:
    collection = Collection(kept / "kept.jsonl")
    with running(tiny_assistant(), tiny_assistant("llama-3"), collection=collection) as server:
        yield server


@pytest.fixture
def visitor(desk: Page, server: Running) -> Iterator[Visitor]:
    visitor = Visitor(desk, server.address)
    yield visitor
    visitor.forget()
    visitor.leave()
    assert visitor.errors == []


def kept_answers(visitor: Visitor) -> list[dict[str, Any]]:
    """The answers of the newest conversation, as the browser keeps them: before Markdown."""
    tries: list[dict[str, Any]] = visitor.page.evaluate(
        """async () => {
          const [newest] = await (await import("/store.js")).load();
          const columns = newest.exchanges.flatMap(({ columns }) => columns);
          return columns.map(({ model, tries }) => ({ model, ...tries.at(-1) }));
        }"""
    )
    return tries


def greedy(visitor: Visitor, tokens: int = 12) -> None:
    visitor.button("Settings").click()
    visitor.page.get_by_label("Temperature").fill("0")
    visitor.page.get_by_label("Longest answer").fill(str(tokens))
    visitor.button("Done").click()


def test_upload_ask_stream_and_a_second_turn(visitor: Visitor, server: Running, tmp_path: Path) -> None:
    picture = painted(tmp_path, 1)
    visitor.arrive()
    greedy(visitor)
    visitor.choose(picture)
    visitor.ask("What is it?")
    visitor.settled("12 tokens")
    visitor.ask("And now?")
    visitor.page.locator(".answer").nth(3).wait_for()
    visitor.settled("12 tokens")
    assert sent_bytes(visitor.bodies[0]["messages"][0]["content"][0]) == picture.read_bytes()
    found = {(body["model"], len(body["messages"])): body for body in visitor.bodies}
    answers = kept_answers(visitor)
    assert len(answers) == len(found) == 4
    for number, answer in enumerate(answers):  # what the API says to the same question, not streamed
        body = found[answer["model"], 1 if number < 2 else 3]
        reply = server.ask("POST", "/v1/chat/completions", {**body, "stream": False, "stream_options": None}).json
        assert answer["text"] == reply["choices"][0]["message"]["content"]
        assert answer["usage"]["completion_tokens"] == reply["usage"]["completion_tokens"]


def test_stop_ends_the_work_on_the_server(visitor: Visitor, server: Running) -> None:
    visitor.arrive()
    greedy(visitor, 900)
    visitor.ask("Count to a thousand")
    visitor.page.wait_for_selector('[data-state="streaming"]')
    visitor.button("Stop answering").click()
    visitor.settled("Stopped.")
    server.wait_until(lambda: server.service.taken == 0, seconds=60)
    assert any(served.engine.figures.ended["cancelled"] for served in server.service.models.values())


def test_a_refusal_of_the_real_server_is_said(visitor: Visitor) -> None:
    visitor.arrive().ask("long " * 3000)
    visitor.settled("The conversation is too long for this model.")


def test_where_each_of_two_models_looked_lies_over_the_picture(
    visitor: Visitor, server: Running, tmp_path: Path
) -> None:
    visitor.arrive()
    greedy(visitor, 4)
    visitor.choose(painted(tmp_path, 1))
    visitor.ask("What is it?")
    visitor.page.locator(".answer").nth(1).wait_for()
    visitor.settled("4 tokens")
    shown = []
    for number, answer in enumerate(kept_answers(visitor)):
        column = visitor.answer(number)
        assert column.locator(".heat").count() == 0
        column.get_by_role("button", name="Where it looked").click()
        column.get_by_text("The brighter a place").wait_for()
        asked = visitor.bodies[-1]
        assert (asked["model"], asked["answer"]) == (answer["model"], answer["text"])
        told = server.ask("POST", "/v1/explain", asked).json
        assert np.max(told["heat"]) > 0
        shade = column.locator(".heat canvas").evaluate(SHADE)
        np.testing.assert_allclose(shade, 190 * (1 - np.sqrt(told["heat"][0])).ravel(), atol=1)
        assert column.locator(".heat canvas").bounding_box() == column.locator(".heat img").bounding_box()
        shown.append(shade)
    assert visitor.page.locator(".heat").count() == 2
    assert shown[0] != shown[1], "each its own"


def test_a_judgement_becomes_training_data(visitor: Visitor, kept: Path, tmp_path: Path) -> None:
    picture = painted(tmp_path, 1)
    visitor.arrive()
    greedy(visitor, 4)
    visitor.choose(picture)
    visitor.ask("What is it?")
    visitor.settled("4 tokens")
    visitor.button("A bad answer").click()
    visitor.page.get_by_role("textbox", name="What should it have said?").fill("A star.")
    visitor.page.locator(".judgement button").click()
    visitor.expect("Kept as training data.")
    (sample,) = [json.loads(line) for line in (kept / "kept.jsonl").read_text().splitlines()]
    assert [turn["value"] for turn in sample["conversations"]] == ["<image>\nWhat is it?", "A star."]
    assert (kept / "kept-pictures" / sample["image"]).read_bytes() == picture.read_bytes()


def test_the_policy_is_the_one_the_tests_use(server: Running) -> None:
    assert server.ask("GET", "/").headers["content-security-policy"] == POLICY
