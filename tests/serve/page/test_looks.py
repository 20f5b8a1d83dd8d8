"""The page for eyes, ears and fingers: themes, widths, keyboard, screen reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serve.page.scripted import Refusal, Scripted
from tests.serve.page.visitor import Visitor, painted

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TWO = [
    {
        "id": "align",
        "explain": True,
        "collect": True,
        "card": {"parts": {"vision": {"parameters": 5, "source": "vit"}}},
    },
    {"id": "instruct", "explain": True, "collect": True, "card": {"template": "own", "recipe": {"seed": 1}}},
]


# Elements that reach over the right edge; code and tables scroll by themselves, the closed shelf waits beside the page.
TOO_WIDE = """() => [...document.querySelectorAll("body *")]
  .filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
  .filter((each) => !each.closest("pre, table, .aside, #shelf"))
  .map((each) => each.outerHTML.slice(0, 80))"""

# Keeps what every live region comes to say.
LISTEN = """() => {
  window.heard = [];
  for (const each of document.querySelectorAll("[aria-live], [role=status], [role=alert], [role=log]")) {
    const hear = new MutationObserver(() => heard.push(each.textContent));
    hear.observe(each, { childList: true, subtree: true, characterData: true });
  }
}"""


@pytest.fixture(scope="module")
def phone(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 375, "height": 740}, has_touch=True, is_mobile=True)
    yield context.new_page()
    context.close()


@pytest.fixture
def caller(phone: Page, server: Scripted) -> Iterator[Visitor]:
    """Somebody at the page with a phone."""
    visitor = Visitor(phone, server.url)
    yield visitor
    visitor.leave()
    assert visitor.errors == []


def furnish(visitor: Visitor, server: Scripted, tmp_path: Path) -> None:
    """A conversation that shows about everything: pictures, Markdown, two columns, a heat map, a form, a failure."""
    server.script.models = TWO
    server.script.heat = [[[number / 6 for number in range(6)]] * 6] * 2
    server.script.pieces = [
        "# One\n\nA [link](https://elsewhere.test), `code`\n\n> quote\n\n| a |\n|---|\n| b |\n\n```\npre\n```"
    ]
    visitor.arrive().choose(painted(tmp_path, 1), painted(tmp_path, 2))
    visitor.ask("What is it?")
    visitor.settled("One")
    visitor.button("Where it looked").click()
    visitor.expect("The brighter a place")
    visitor.button("A bad answer").click()
    server.script.refusals = [Refusal(status=400, code="context_length_exceeded")] * 2
    visitor.ask("And this?")
    visitor.settled("too long for this model")
    visitor.choose(painted(tmp_path, 3))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(visitor: Visitor, server: Scripted, tmp_path: Path, theme: str) -> None:
    visitor.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    visitor.arrive().page.wait_for_selector(".example img")
    assert visitor.violations() == []
    furnish(visitor, server, tmp_path)
    assert visitor.violations() == []
    for opener in ("#open-settings", "#open-card"):
        visitor.page.locator(opener).click()
        assert visitor.violations() == []
        visitor.page.keyboard.press("Escape")


def test_axe_finds_nothing_serious_on_a_phone(caller: Visitor, server: Scripted, tmp_path: Path) -> None:
    furnish(caller, server, tmp_path)
    assert caller.violations() == []
    caller.button("Conversations").click()
    caller.still()  # it slides in
    assert caller.violations() == []


def test_a_phone_shows_everything_without_scrolling_sideways(caller: Visitor, server: Scripted, tmp_path: Path) -> None:
    caller.arrive().page.wait_for_selector(".example img")
    assert caller.page.evaluate(TOO_WIDE) == []
    furnish(caller, server, tmp_path)
    assert caller.page.evaluate(TOO_WIDE) == []
    first, second = (caller.answer(number).bounding_box() for number in (0, 1))
    assert first is not None
    assert second is not None
    assert first["y"] + first["height"] <= second["y"]  # columns become rows
    assert caller.page.evaluate("document.scrollingElement.scrollHeight <= innerHeight")  # the composer stays in reach


def test_on_a_phone_the_conversations_slide_in_and_out(caller: Visitor) -> None:
    caller.arrive().ask("First")
    caller.settled("A red circle.")
    opener = caller.page.get_by_role("button", name="Conversations")
    assert caller.page.get_by_role("navigation").count() == 0
    opener.click()
    caller.page.get_by_role("button", name="New conversation").wait_for()
    assert caller.page.evaluate("document.activeElement.id") == "new"
    caller.page.keyboard.press("Escape")
    caller.page.get_by_role("button", name="New conversation").wait_for(state="hidden")
    assert caller.page.evaluate("document.activeElement.id") == "open-shelf"
    opener.click()
    caller.page.get_by_role("button", name="New conversation").click()
    caller.page.get_by_role("heading", name="Ask about a picture").wait_for()


def test_dark_follows_the_system_until_it_is_switched(visitor: Visitor) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    visitor.arrive()
    light = visitor.page.evaluate(background)
    visitor.page.emulate_media(color_scheme="dark")
    dark = visitor.page.evaluate(background)
    assert light != dark
    switch = visitor.button("Dark colors")
    assert switch.get_attribute("aria-pressed") == "true"
    switch.click()
    assert visitor.page.evaluate(background) == light
    visitor.page.reload()
    assert visitor.page.evaluate(background) == light  # and remembers
    visitor.button("Settings").click()
    visitor.page.get_by_role("combobox", name="Colors").select_option("as the system")
    assert visitor.page.evaluate(background) == dark


def test_everything_is_done_with_the_keyboard_alone(visitor: Visitor, server: Scripted) -> None:
    press = visitor.page.keyboard.press

    def to(name: str, key: str = "Tab") -> None:
        for _ in range(60):
            press(key)
            if (
                visitor.page.evaluate(
                    "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"
                )
                == name
            ):
                ring = visitor.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert ring == "solid", f"no ring around {name}"
                return
        raise AssertionError(f"{name} is not reached")

    visitor.arrive()
    visitor.page.wait_for_selector(".example img")
    assert visitor.page.evaluate("document.activeElement.id") == "question"
    to("What does the sign say?", "Shift+Tab")
    press("Enter")
    visitor.settled("A red circle.")
    assert visitor.page.evaluate("document.activeElement.id") == "question"
    visitor.page.keyboard.type("Sure?")
    server.script.hold_after = 1
    press("Enter")
    visitor.page.wait_for_selector('[data-state="streaming"]')  # the answer before says the same words
    visitor.expect("A red")
    press("Escape")
    visitor.settled("Stopped.")
    server.script.hold_after = None
    to("Answer again", "Shift+Tab")
    press("Enter")
    visitor.settled("2 of 2")
    to("Edit the question", "Shift+Tab")
    press("Enter")
    visitor.page.keyboard.type(" Really?")
    press("Enter")
    visitor.settled("A red circle.")
    assert visitor.page.locator(".asked .words").last.inner_text() == "Sure? Really?"
    to("Settings", "Shift+Tab")
    press("Enter")
    visitor.page.get_by_role("dialog").wait_for()
    press("Escape")
    assert visitor.page.evaluate("document.activeElement.id") == "open-settings"


def test_a_screen_reader_hears_the_answer_once_and_whole(visitor: Visitor, server: Scripted) -> None:
    server.script.pieces = [f"word{number} " for number in range(30)]
    visitor.arrive().page.evaluate(LISTEN)
    visitor.ask("Count")
    visitor.settled("word29")
    heard = [words for words in visitor.page.evaluate("heard") if words]
    assert heard == ["Answering.", "Answer: " + "".join(server.script.pieces) + " "]


def test_headings_lead_from_answer_to_answer(visitor: Visitor) -> None:
    visitor.arrive().ask("First")
    visitor.settled("A red circle.")
    levels = visitor.page.get_by_role("heading").evaluate_all(
        "all => all.map((each) => each.tagName + ' ' + each.textContent)"
    )
    assert levels == ["H1 First", "H2 Question", "H3 Answer"]


def test_a_reader_who_scrolled_up_is_left_alone(visitor: Visitor, server: Scripted) -> None:
    server.script.pieces = [f"line {number}\n\n" for number in range(80)]
    server.script.hold_after = 60
    visitor.arrive().ask("Count")
    visitor.expect("line 59")
    top = "document.getElementById('scroll').scrollTop"
    assert visitor.page.evaluate(top) > 0  # it followed
    visitor.page.mouse.move(600, 300)
    visitor.still()
    followed = visitor.page.evaluate(top)
    visitor.page.mouse.wheel(0, -600)
    visitor.until(f"{top} < {followed}")
    visitor.still()
    before = visitor.page.evaluate(top)
    server.script.go_on.set()
    visitor.settled("line 79")
    assert visitor.page.evaluate(top) == before


def test_without_motion_nothing_moves(visitor: Visitor, server: Scripted) -> None:
    visitor.page.emulate_media(reduced_motion="reduce")
    server.script.hold_after = 0
    visitor.arrive().ask("Wait")
    visitor.page.locator(".dots i").first.wait_for()
    assert visitor.page.evaluate("document.getAnimations().length") == 0
    server.script.go_on.set()
    visitor.settled("A red circle.")


def test_a_hundred_turns_stay_usable(visitor: Visitor, server: Scripted) -> None:
    visitor.arrive().page.evaluate(
        """async () => {
          const { save } = await import("/store.js");
          const exchanges = Array.from({ length: 100 }, (_, number) => ({
            text: `Question ${number}`, pictures: [],
            columns: [{ model: "painted", shown: 0, tries: [{ text: "**Answer** ".repeat(40), state: "done" }] }],
          }));
          await save({ id: "long", title: "Long", updated: 1, exchanges });
        }"""
    )
    visitor.page.reload()

    def asked() -> float:
        """Milliseconds from a question to its answer."""
        began = visitor.page.evaluate("performance.now()")
        visitor.ask("One more")
        visitor.settled("A red circle.")
        return float(visitor.page.evaluate("performance.now()")) - began

    first = asked()
    visitor.page.get_by_role("button", name="Long", exact=True).click()
    assert asked() < 3 * first + 2000
    assert len(server.script.asked[1]["messages"]) == 201
