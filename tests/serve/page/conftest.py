"""A real browser for the tests of the page: Debian's Chromium, driven by Playwright. Skipped where either is absent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.serve.page.scripted import Scripted
from tests.serve.page.visitor import Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Gone with the package: Playwright keeps an event loop in its thread, and other tests want one of their own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def desk(browser: Browser) -> Iterator[Page]:
    """A wide screen. It stays for all tests, since a new tab costs more than most of them: what one leaves behind lies
    under the address of its own server, where no other looks."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    yield context.new_page()
    context.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.stop()


@pytest.fixture
def visitor(desk: Page, server: Scripted) -> Iterator[Visitor]:
    """Somebody at the page, for the first time, on a wide screen. Every request and every error is kept."""
    visitor = Visitor(desk, server.url)
    yield visitor
    visitor.leave()
    assert visitor.errors == []
