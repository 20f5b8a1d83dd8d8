"""A real browser for the tests of the page: Debian's Chromium, driven by Playwright. Skipped where either is absent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.serve.page.scripted import Scripted
from tests.serve.page.visitor import Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.stop()


@pytest.fixture
def visitor(browser: Browser, server: Scripted) -> Iterator[Visitor]:
    """Somebody at the page, in a fresh profile, on a wide screen. Every request and every error is kept."""
    visitor = Visitor(browser, server.url)
    yield visitor
    visitor.leave()
    assert visitor.errors == []
