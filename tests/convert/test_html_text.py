"""Pieces of web pages: what is one, and the text that it shows."""

from __future__ import annotations

import pytest

from sightline.convert.html_text import is_html, plain_text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<div>a</div>", True),
        ('<div class="markdown prose">\n<p>a</p>\n</div>', True),
        ("<p>a</p>", True),
        ("<P>a</P>", True),
        ("Use <div>a</div>.", False),
        ("```html\n<div>a</div>\n```", False),
        ("<b>a</b>", False),
        ("<div>a", False),
        ("a < b", False),
        ("", False),
    ],
)
def test_only_a_text_that_is_all_page_is_one(text: str, answer: bool) -> None:
    assert is_html(text) is answer


@pytest.mark.parametrize(
    ("html", "text"),
    [
        pytest.param("<div><p>One.</p><p>Two &lt;b&gt;.</p></div>", "One.\n\nTwo <b>.", id="paragraphs, entities"),
        pytest.param("<p>a\n   b<br>c</p>", "a b\nc", id="blanks and breaks"),
        pytest.param("<ul><li>a</li><li><p>b</p></li></ul>", "- a\n- b", id="list"),
        pytest.param("<ol><li>a<ul><li>x</li></ul></li><li>b</li></ol>", "1. a\n  - x\n\n2. b", id="list in a list"),
        pytest.param("<p>Call <code>f()</code> <strong>now</strong>.</p>", "Call `f()` **now**.", id="inline"),
        pytest.param(
            '<pre><div>python<button>Copy</button></div><code class="language-python">if a:\n    b()\n</code></pre>',
            "```python\nif a:\n    b()\n```",
            id="code keeps its blanks, not the bar over it",
        ),
        pytest.param("<p>So:</p><pre>a  b</pre><p>c</p>", "So:\n\n```\na  b\n```\n\nc", id="plain code"),
        pytest.param("<div><svg><text>x</text></svg><script>y()</script>z</div>", "z", id="what is not shown"),
        pytest.param("<div>1 &amp;&amp; 2 &nbsp; é</div>", "1 && 2 é", id="unicode"),
        pytest.param("<div></p></li>a</ol></div>", "a", id="tags that nobody opened"),
    ],
)
def test_the_text_that_a_page_shows(html: str, text: str) -> None:
    assert plain_text(html) == text
