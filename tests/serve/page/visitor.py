"""What people do on the page, in the words of the tests."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.demo.paint import paint
from sightline.demo.world import draw_scene

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Request

AXE = Path(__file__).parent / "axe" / "axe.min.js"

# Hands the files of an input to the page as the browser does when somebody pastes or drops.
GIVE = """(input, kind) => {
  const carrier = new DataTransfer();
  for (const file of input.files) carrier.items.add(file);
  const how = { bubbles: true, cancelable: true };
  dispatchEvent(kind === "paste" ? new ClipboardEvent("paste", { clipboardData: carrier, ...how })
                                 : new DragEvent(kind, { dataTransfer: carrier, ...how }));
}"""
INPUT = "() => Object.assign(document.createElement('input'), { type: 'file' })"


class Visitor:
    """Somebody in a tab that nobody else has meanwhile.

    `requests`: every address it asked for, `bodies`: what it sent; `errors`: what it threw.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self._listeners: dict[Any, Any] = {
            "request": self._keep,
            "pageerror": lambda error: self.errors.append(str(error)),
            "dialog": lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()),
        }
        page.set_default_timeout(60_000)
        for event, listener in self._listeners.items():
            page.on(event, listener)

    def _keep(self, request: Request) -> None:
        self.requests.append(request.url)
        if request.post_data:
            self.bodies.append(json.loads(request.post_data))

    def leave(self) -> None:
        """Leaves the tab to the next one, as it was found."""
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)
        self.page.unroute_all()
        self.page.emulate_media(color_scheme="null", reduced_motion="null")
        self.page.mouse.move(0, 0)
        self.page.goto("about:blank")

    def forget(self) -> None:
        """Clears all that this browser keeps for the server."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("Storage.clearDataForOrigin", {"origin": self.url, "storageTypes": "all"})

    def arrive(self) -> Visitor:
        self.page.goto(self.url)
        self.page.wait_for_selector("#open-card:not([hidden])")
        return self

    # What is on the page

    @property
    def field(self) -> Locator:
        return self.page.get_by_role("textbox", name="Question", exact=True)

    def answer(self, number: int = -1) -> Locator:
        answers = self.page.locator(".answer")
        return answers.last if number == -1 else answers.nth(number)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True).last

    def expect(self, words: str) -> None:
        """Waits for the words to be on view."""
        self.page.get_by_text(words).last.wait_for()

    def settled(self, words: str = "") -> Locator:
        """The last answer, once it is whole and holds the words."""
        self.page.locator(".answer").filter(has_text=words).last.wait_for()
        self.page.wait_for_selector("body:not(.answering)")
        return self.answer()

    # What somebody does

    def ask(self, words: str) -> None:
        self.field.fill(words)
        self.field.press("Enter")

    def choose(self, *files: Path) -> None:
        before = self.page.locator("#pending li").count()
        self.page.set_input_files("#files", [str(file) for file in files])
        self.page.locator("#pending li").nth(before + len(files) - 1).wait_for()

    def give(self, kind: str, file: Path) -> None:
        """Pastes or drops a file. Its name decides what the browser says it is."""
        carrier = self.page.evaluate_handle(INPUT).as_element()
        assert carrier is not None
        carrier.set_input_files(str(file))
        carrier.evaluate(GIVE, kind)

    def until(self, expression: str, *, seconds: float = 60) -> None:
        """Waits for an expression to become true in the page."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"it did not come: {expression}"
            self.page.wait_for_timeout(20)

    def still(self) -> None:
        """Waits until nothing moves, and nothing scrolls, any more."""
        self.until("Promise.all(document.getAnimations().map((each) => each.finished)).then(() => true)")
        place = "document.getElementById('scroll').scrollTop"
        self.until(
            f"new Promise((then) => {{ const before = {place};"
            f" requestAnimationFrame(() => requestAnimationFrame(() => then({place} === before))) }})"
        )

    def violations(self) -> list[str]:
        """What axe-core calls serious or critical, one line each."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        return [
            f"{each['id']}: {node['html'][:120]} {node['any'][0]['message'] if node['any'] else ''}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]


def painted(folder: Path, index: int) -> Path:
    """A picture of the painted world, as PNG."""
    file = folder / f"scene-{index}.png"
    paint(draw_scene(index, seed=5)).save(file)
    return file


def noise(width: int, height: int) -> np.ndarray:
    """Pixels that no encoder can make small."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sent_bytes(part: dict[str, Any]) -> bytes:
    """The picture of an `image_url` part."""
    return base64.b64decode(part["image_url"]["url"].partition(",")[2])
