"""POST /v1/explain: the heat of a tiny model, and one line for what cannot be explained."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sightline.data.sample import ImageRef, Turn
from sightline.infer.explain import explain, to_json
from tests.serve.running import BLUE, RED, Running, address_of, running, shown
from tests.tiny_checkpoint import tiny_assistant

MODEL = tiny_assistant()


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(MODEL) as found:
        yield found


def asked(**body: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": shown(RED), "answer": "Red car."} | body


def test_the_heat_is_that_of_the_function_for_each_picture(served: Running) -> None:
    reply = served.ask("POST", "/v1/explain", asked(messages=shown(RED, BLUE)))
    assert reply.status == 200
    found = reply.json
    assert (found["width"], found["height"], found["words"]) == (4, 4, ["Red", "car."])
    turn = Turn(role="user", content=(ImageRef(index=0), "\n", ImageRef(index=1), "\nWhat?"))
    expected = to_json(explain(*MODEL, [turn], [RED, BLUE], "Red car."))
    np.testing.assert_allclose(found["heat"], expected["heat"], atol=2e-4)
    assert 0 < np.max(found["heat"]) <= 1


def test_the_card_says_that_there_is_an_explanation(served: Running) -> None:
    assert served.ask("GET", "/v1/models").json["data"][0]["explain"] is True
    assert "/v1/explain" in served.ask("GET", "/openapi.json").json["paths"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"messages": shown()}, 400, "nothing_to_explain"),
        ({"answer": "  "}, 400, "nothing_to_explain"),
        ({"answer": ""}, 400, "invalid_value"),
        ({"answer": "a\0b"}, 400, "invalid_text"),
        ({"answer": "word " * 2000}, 400, "context_length_exceeded"),
        ({"answer": "x" * 60_000}, 400, "context_length_exceeded"),
        ({"messages": shown(address_of(b"\x89PNG\r\n\x1a\n"))}, 400, "image_unreadable"),
        ({"messages": shown("https://example.com/x.png")}, 400, "image_url_not_allowed"),
        ({"messages": [*shown(RED), {"role": "assistant", "content": "x"}]}, 400, "roles_must_alternate"),
        ({"model": "other"}, 404, "model_not_found"),
        ({"words": [0, 1]}, 400, "unknown_parameter"),
    ],
)
def test_what_cannot_be_explained_is_refused_and_its_seat_is_free(
    served: Running, body: dict[str, Any], status: int, code: str
) -> None:
    reply = served.ask("POST", "/v1/explain", asked(**body))
    assert (reply.status, reply.code) == (status, code)
    served.wait_until(lambda: served.service.taken == 0)


def test_answers_go_on_while_one_is_explained_and_stay_the_same(served: Running) -> None:
    alone = served.chat(messages=shown(BLUE), max_tokens=12).json["choices"][0]["message"]
    replies: list[int] = []

    def look() -> None:
        replies.extend(served.ask("POST", "/v1/explain", asked()).status for _ in range(3))

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    for _ in range(3):
        assert served.chat(messages=shown(BLUE), max_tokens=12).json["choices"][0]["message"] == alone
    for thread in looking:
        thread.join()
    assert replies == [200] * 6
    served.wait_until(lambda: served.service.taken == 0)
