"""The other routes: models, metrics, the page's files, the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest

from sightline.serve import page
from sightline.serve.figures import Figures, Histogram, Reading, render
from sightline.serve.refusals import REFUSALS, Refusal
from sightline.serve.schema import ChatRequest
from sightline.serve.service import card_of, names_of
from tests.serve.running import RED, Running, running, shown
from tests.tiny_checkpoint import tiny_assistant


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(tiny_assistant()) as found:
        yield found


def test_models_come_with_a_card(served: Running) -> None:
    (entry,) = served.ask("GET", "/v1/models").json["data"]
    model = served.service.models["tiny"].model
    for name, part in model.parts().items():
        assert entry["card"]["parts"][name]["parameters"] == sum(each.numel() for each in part.parameters())
    assert entry["card"]["template"] == "own"
    assert entry["context"] == 1024
    assert entry["limits"]["pictures"] == 8
    assert (entry["object"], entry["owned_by"], entry["collect"]) == ("model", "sightline", False)


def test_a_card_names_no_folder() -> None:
    model, processor = tiny_assistant()
    recipe = {
        "output": "/home/me/runs/x",
        "model": {"vision": "/srv/parts/clip", "language": "org/name", "connector": "linear"},
        "data": [{"path": "~/secret/data.json", "images": "../secret"}],
        "train": {"lr": {"connector": 1e-3}},
    }
    card = card_of(model, processor, {"recipe": recipe, "imported": {"from": "/home/me/llava"}})
    assert card["recipe"] == {
        "model": {"vision": "clip", "language": "org/name", "connector": "linear"},
        "data": [{"path": "data.json", "images": "secret"}],
        "train": {"lr": {"connector": 1e-3}},
    }
    assert card["parts"]["vision"]["source"] == "clip"
    assert card["imported"] == {"from": "llava"}


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/runs/a"], ["a"]),
        (["/runs/a", "/runs/b"], ["a", "b"]),
        (["/runs/one/trained", "/runs/two/trained"], ["one/trained", "two/trained"]),
        (["/runs/a", "/runs/a"], ["a-1", "a-2"]),
    ],
)
def test_names_tell_checkpoints_apart(paths: list[str], names: list[str]) -> None:
    assert names_of([PurePath(path) for path in paths]) == names


def test_metrics_are_prometheus_text_and_hold_no_words(served: Running) -> None:
    assert served.chat(messages=shown(RED, text="a secret question"), max_tokens=3).status == 200
    assert served.chat(n=2).status == 400
    reply = served.ask("GET", "/metrics")
    text = reply.body.decode()
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r'sightline_[a-z_]+(\{([a-z]+="[^"]*",?)*\})? [0-9.e+-]+')
    assert all(sample.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))
    assert 'sightline_rows{model="tiny"} 0' in text
    assert re.search(r'sightline_generated_tokens_total\{model="tiny"\} [1-9]', text)
    assert re.search(r'sightline_first_token_seconds_count\{model="tiny"\} [1-9]', text)
    assert 'sightline_refusals_total{status="400",code="unsupported_parameter"}' in text
    assert "secret" not in text


def test_buckets_hold_what_is_below_them() -> None:
    histogram = Histogram()
    for seconds in (0.005, 0.01, 0.02, 70.0):
        histogram.observe(seconds)
    lines = list(histogram.lines("x", 'm="t"'))
    assert lines[0] == 'x_bucket{m="t",le="0.01"} 2'
    assert lines[1] == 'x_bucket{m="t",le="0.025"} 3'
    assert lines[-3:] == ['x_bucket{m="t",le="+Inf"} 4', 'x_sum{m="t"} 70.035000', 'x_count{m="t"} 4']
    assert histogram.mean == pytest.approx(17.50875)


def test_labels_are_escaped() -> None:
    text = render([Reading(model='a"b\\c', figures=Figures(), rows=1, waiting=2)], {})
    assert 'sightline_rows{model="a\\"b\\\\c"} 1' in text


def test_addresses_and_methods_that_are_not_there_are_refused_in_openais_form(served: Running) -> None:
    for method, path, status, code in (
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/../../etc/passwd", 404, "not_found"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/worker_generate_stream", 404, "not_found"),
    ):
        reply = served.ask(method, path)
        assert (reply.status, reply.code) == (status, code)


def test_every_refusal_has_a_status_and_words_of_its_own() -> None:
    assert len({words for _, words in REFUSALS.values()}) == len(REFUSALS)
    for code in REFUSALS:
        body = Refusal(code, param="x").body()["error"]
        assert set(body) == {"message", "type", "param", "code"}


# The page


def test_the_page_is_a_fixed_list_of_files_under_a_strict_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "page"
    (folder / "vendor").mkdir(parents=True)
    for name in ("index.html", "app.js", "vendor/x.mjs", "vendor/purify.js", "notes.txt", "style.css"):
        (folder / name).write_text(name)
    (folder / "secret.py").write_text("x")
    monkeypatch.setattr(page.resources, "files", lambda name: tmp_path)
    files = page.page_files()
    assert set(files) == {"/", "/index.html", "/app.js", "/vendor/purify.js", "/style.css"}
    with running(tiny_assistant()) as served:
        reply = served.ask("GET", "/")
        assert (reply.status, reply.body) == (200, b"index.html")
        policy = reply.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "connect-src 'self'" in policy
        assert "img-src 'self' data: blob:" in policy
        assert "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert served.ask("GET", "/app.js").headers["content-type"].startswith("text/javascript")
        for missing in ("/secret.py", "/vendor/", "/vendor/../secret.py", "/vendor/%2e%2e/secret.py", "/app.js/"):
            assert served.ask("GET", missing).status == 404
        (folder / "late.js").write_text("x")
        assert served.ask("GET", "/late.js").status == 404


# The OpenAPI document


def schemas(node: Any) -> Iterator[str]:
    """Every reference in a document."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from schemas(value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas(value)


def test_the_document_describes_the_schema_that_is_checked(served: Running) -> None:
    document = served.ask("GET", "/openapi.json").json
    known = document["components"]["schemas"]
    assert {ref.rpartition("/")[2] for ref in schemas(document)} <= set(known)
    request = known["ChatRequest"]
    assert request["additionalProperties"] is False
    assert set(request["properties"]) == set(ChatRequest.model_fields)
    assert request["required"] == ["model", "messages"]
    paths = {path for path in document["paths"] if "{" not in path}
    for path in paths:
        for method in document["paths"][path]:
            assert served.ask(method.upper(), path).status not in (404, 405)
    assert "security" not in document
