"""Whatever a model writes stays words: nothing runs, nothing is loaded, nothing leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.serve.page.scripted import Refusal, Scripted
from tests.serve.page.visitor import Visitor

HOSTILE = {
    "image with a handler": '<img src=x onerror="window.harm = 1">',
    "image from elsewhere": "![cat]({canary}/cat.png)",
    "image by reference": "![cat][1]\n\n[1]: {canary}/cat.png",
    "image as HTML": "<img src='{canary}/cat.png'>",
    "image of many sizes": "<img srcset='{canary}/cat.png 2x'><picture><source srcset='{canary}/c.png'></picture>",
    "script": "<script>window.harm = 1</script><script src='{canary}/x.js'></script>",
    "script in pieces": "<scr<script>ipt>window.harm = 1</scr</script>ipt>",
    "script link": "[press me](javascript:window.harm=1)",
    "script link, spelled": "[press me](java&#115;cript:window.harm=1) [or](\tjAvAsCrIpT:window.harm=1)",
    "script link as HTML": "<a href='javascript:window.harm=1'>press me</a>",
    "data link": "[press me](data:text/html,<script>window.harm=1</script>)",
    "link to a file": "[press me](file:///etc/passwd) [or](blob:x) [or](vbscript:x)",
    "style": "<style>@import '{canary}/x.css'; body { display: none }</style>",
    "style attribute": "<p style=\"position: fixed; inset: 0; background: url('{canary}/x.png')\">cover</p>",
    "style sheet": "<link rel=stylesheet href='{canary}/x.css'><link rel=prefetch href='{canary}/y'>",
    "SVG": "<svg onload='window.harm=1'><image href='{canary}/x.png'/><script>window.harm=1</script></svg>",
    "MathML": "<math><mtext><table><mglyph><style><!--</style>"
    "<img title='--&gt;&lt;img src=1 onerror=window.harm=1&gt;'>",
    "frame": "<iframe src='{canary}/x'></iframe><iframe srcdoc='<script>parent.harm=1</script>'></iframe>",
    "object": "<object data='{canary}/x'></object><embed src='{canary}/x'>",
    "form": "<form action='{canary}/x'><input autofocus onfocus='window.harm=1'><button>send</button></form>",
    "media": "<video src='{canary}/x' autoplay onerror='window.harm=1'></video><audio src='{canary}/y'></audio>",
    "refresh": "<meta http-equiv=refresh content='0;url={canary}/x'><base href='{canary}/'>",
    "elements with names of the page's": "<img name=body><form id=question></form><a id=composer>x</a>",
    "code": "```html\n<img src=x onerror='window.harm=1'>\n```\n\n`<script>window.harm=1</script>`",
    "table": "| <img src=x onerror='window.harm=1'> | b |\n|---|---|\n"
    "| [x](javascript:window.harm=1) | ![]({canary}/t.png) |",
    "link with a quote": "[x](https://example.com/\"onmouseover=\"window.harm=1) <https://example.com/'onfocus='harm>",
    "image words with markup": '![<img src=x onerror=window.harm=1>]({canary}/z.png "<b>")',
}

FORBIDDEN = (
    "img, picture, script, style, svg, math, iframe, object, embed, form, input, button, video, audio, link, meta, "
    "base, [style], [id], [name], [class], [onerror], [onload], [onfocus], [onmouseover]"
)
"""What no answer may bring into the page."""


@pytest.fixture
def canary() -> Iterator[list[str]]:
    """The address of a server that nobody should call, then every path that it was asked for."""
    calls: list[str] = []

    class Canary(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            calls.append(self.path)
            self.send_error(404)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Canary)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    calls.append(f"http://127.0.0.1:{server.server_address[1]}")
    yield calls
    server.shutdown()
    server.server_close()


def assert_inert(visitor: Visitor, canary: list[str]) -> None:
    page = visitor.page
    assert page.evaluate("window.harm") is None
    assert canary[1:] == []
    own = (visitor.url, "data:", "blob:")
    assert [address for address in visitor.requests if not address.startswith(own)] == []
    said = page.locator(".said")
    assert said.locator(FORBIDDEN).count() == 0
    for address in said.locator("a[href]").evaluate_all("links => links.map((link) => link.getAttribute('href'))"):
        assert address.startswith(("https://", "http://", "mailto:"))
    assert page.get_by_role("textbox", name="Question", exact=True).is_visible()


@pytest.mark.parametrize("policy", [True, False], ids=["with the content policy", "by the page alone"])
def test_hostile_answers_stay_words(visitor: Visitor, server: Scripted, canary: list[str], policy: bool) -> None:
    server.script.policy = policy
    visitor.arrive()
    for name, words in HOSTILE.items():
        server.script.pieces = [
            words.replace("{canary}", canary[0]),
            "\n\nend of it",
        ]
        visitor.ask(name)
        visitor.settled("end of it")
        visitor.page.mouse.move(600, 300)
        assert_inert(visitor, canary)
        visitor.button("New conversation").click()
    visitor.page.reload()
    visitor.page.get_by_role("button", name="media", exact=True).click()
    visitor.settled("end of it")
    visitor.page.wait_for_timeout(300)
    assert_inert(visitor, canary)


def test_the_sanitiser_holds_alone(visitor: Visitor, server: Scripted, canary: list[str]) -> None:
    server.script.policy = False
    visitor.arrive()
    for words in HOSTILE.values():
        visitor.page.evaluate(
            """async (html) => {
              const said = Object.assign(document.createElement("div"), { className: "said" });
              said.append((await import("/markdown.js")).sanitised(html));
              document.getElementById("exchanges").append(said);
            }""",
            words.replace("{canary}", canary[0]),
        )
        assert_inert(visitor, canary)
    visitor.page.wait_for_timeout(300)  # whatever was begun has come to its end
    assert_inert(visitor, canary)


def test_hostile_words_cut_anywhere_stay_words(visitor: Visitor, server: Scripted, canary: list[str]) -> None:
    words = "<img src=x onerror='window.harm=1'>![a](http://elsewhere.test/b.png)<script>window.harm=1</script>"
    server.script.pieces = [*words, "\n\nend of it"]
    visitor.arrive().ask("Letter by letter")
    visitor.settled("end of it")
    assert_inert(visitor, canary)


def test_a_picture_from_elsewhere_is_told_not_shown(visitor: Visitor, server: Scripted) -> None:
    server.script.pieces = ["![a cat](https://elsewhere.test/cat.png)"]
    visitor.arrive().ask("Show")
    assert (
        visitor.settled("elsewhere").locator(".said").inner_text() == "[picture: a cat, https://elsewhere.test/cat.png]"
    )


def test_markup_is_shown_as_it_was_written(visitor: Visitor, server: Scripted) -> None:
    server.script.pieces = ["Use <b>bold</b>\n\n<div>\nblock\n</div>"]
    visitor.arrive().ask("Show")
    said = visitor.settled("block").locator(".said").inner_text()
    assert "Use <b>bold</b>" in said
    assert "<div>" in said


def test_an_honest_link_leads_out_in_a_tab_of_its_own(visitor: Visitor, server: Scripted) -> None:
    server.script.pieces = ["See [my bank](https://elsewhere.test/login)."]
    visitor.arrive().ask("Where?")
    link = visitor.settled("my bank").get_by_role("link")
    assert link.evaluate("link => [link.href, link.target, link.rel, link.title]") == [
        "https://elsewhere.test/login",
        "_blank",
        "noopener noreferrer nofollow",
        "https://elsewhere.test/login",
    ]


def test_honest_markdown_is_set(visitor: Visitor, server: Scripted) -> None:
    server.script.pieces = [
        "# Title\n\n- one\n- **two**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n\n- [x] done"
    ]
    visitor.arrive().ask("Show")
    said = visitor.settled("Title").locator(".said")
    for element, words in {"h4": "Title", "strong": "two", "td >> nth=1": "2", "pre": "code"}.items():
        assert said.locator(element).inner_text().strip() == words
    assert "☑ done" in said.inner_text()


def test_questions_names_and_refusals_are_words_as_well(visitor: Visitor, server: Scripted, canary: list[str]) -> None:
    harm = "<img src=x onerror='window.harm=1'>"
    server.script.models = [
        {"id": f"a {harm}", "card": {"template": harm, "parts": {harm: {"parameters": 1, "source": harm}}}},
        {"id": "b"},
    ]
    server.script.refusals = [Refusal(status=400, code="bad", message=harm)] * 2
    visitor.arrive().ask(harm)
    visitor.settled("The server says: <img")
    visitor.page.locator("#open-card").click()
    visitor.page.keyboard.press("Escape")
    assert_inert(visitor, canary)
    assert visitor.page.locator("#conversations").inner_text() == harm
