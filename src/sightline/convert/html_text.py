"""The text that a piece of a web page shows, in Markdown where that keeps code and lists.

Comes in: a turn of a conversation that was saved as HTML. Goes out: text. Knows the elements that chat pages use; any
other is passed over and its text kept.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

_ELEMENT = re.compile(r"<(div|p|ol|ul|pre|h[1-6]|table)\b[^>]*>.*</\1>", re.DOTALL | re.IGNORECASE)
_BLOCKS = frozenset({"p", "div", "ul", "ol", "table", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6"})
_SILENT = frozenset({"script", "style", "button", "svg"})
_MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*"}


def is_html(text: str) -> bool:
    """Whether all of it is block elements. A text that merely holds some, such as an answer about HTML, is not."""
    return _ELEMENT.fullmatch(text) is not None


def plain_text(html: str) -> str:
    """Paragraphs, lists, code and emphasis as Markdown; tags and what is never shown are gone."""
    page = _Page()
    page.feed(html)
    page.close()
    return page.text()


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[str] = []
        self._lists: list[int | None] = []  # the last number of each open list; None: without numbers
        self._silent = 0
        self._code = 0  # open <pre>
        self._fence = 0  # where the last one starts in the pieces

    def text(self) -> str:
        joined = "".join(self._pieces)
        return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", joined)).strip()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag == "pre":
            self._code += 1
            self._fence = len(self._pieces)
            self._pieces.append("\n\n```\n")
        elif tag == "code" and self._code:  # what stands before it is the page's bar over the code
            self._pieces[self._fence :] = [f"\n\n```{_language(attributes)}\n"]
        elif tag == "code":
            self._pieces.append("`")
        elif tag == "br":
            self._pieces.append("\n")
        elif tag == "li":
            self._pieces.append(self._bullet())
        elif tag in _BLOCKS and not self._code:
            self._pieces.append("" if self._lists else "\n\n")
        elif tag in _MARKS and not self._code:
            self._pieces.append(_MARKS[tag])
        if tag in ("ul", "ol"):
            self._lists.append(0 if tag == "ol" else None)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == "pre":
            self._code = max(0, self._code - 1)
            self._pieces.append("```\n\n" if self._pieces[-1].endswith("\n") else "\n```\n\n")
        elif tag == "code" and not self._code:
            self._pieces.append("`")
        elif tag in _BLOCKS and not self._code:
            self._pieces.append("\n\n" if len(self._lists) <= (tag in ("ul", "ol")) else "\n")
        elif tag in _MARKS and not self._code:
            self._pieces.append(_MARKS[tag])
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        self._pieces.append(data if self._code else re.sub(r"\s+", " ", data))

    def _bullet(self) -> str:
        depth = "  " * max(0, len(self._lists) - 1)
        number = self._lists[-1] if self._lists else None
        if number is None:
            return f"\n{depth}- "
        self._lists[-1] = number + 1
        return f"\n{depth}{number + 1}. "


def _language(attributes: list[tuple[str, str | None]]) -> str:
    """Of a <code>, by its class, as highlighters write it."""
    found = re.search(r"\blanguage-(\w+)", dict(attributes).get("class") or "")
    return found.group(1) if found else ""
