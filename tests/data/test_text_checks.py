"""Special tokens and boxes in words: what is found, and what is left alone."""

from __future__ import annotations

import pytest

from sightline.data.text_checks import bad_box, special_pattern, special_token


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Done.</s>", "</s>"),
        ("<s> first", "<s>"),
        ("a <|im_end|> b", "<|im_end|>"),
        ("<|endoftext|>", "<|endoftext|>"),
        ("<|eot_id|>", "<|eot_id|>"),
        ("<image> as words", "<image>"),
        ("<im_patch><im_start>", "<im_patch>"),
        ("[INST] do", "[INST]"),
        ("x [/INST]", "[/INST]"),
        ("<<SYS>>", "<<SYS>>"),
        ("<end_of_turn>", "<end_of_turn>"),
        ("<unk>", "<unk>"),
        ("<own_token>", "<own_token>"),
        ("a < b and c > d", None),
        ("<b>bold</b> <script>", None),
        ("<|", None),
        ("<images>", None),
        ("USER: hello ASSISTANT: hi", None),
        ("[1] and [INS]", None),
        ("", None),
    ],
)
def test_special_tokens(text: str, found: str | None) -> None:
    assert special_token(text, special_pattern(["<own_token>", "!", "word"])) == found


def test_names_that_are_words_or_single_signs_are_no_special_tokens() -> None:
    assert special_token("a word! and $ more", special_pattern(["word", "!", "$"])) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("at [0.1, 0.2, 1.3, 0.4].", ("[0.1, 0.2, 1.3, 0.4]", "box_range")),
        ("[-0.1,0.2,0.3,0.4]", ("[-0.1,0.2,0.3,0.4]", "box_range")),
        ("[12.5, 3, 80, 90]", ("[12.5, 3, 80, 90]", "box_range")),
        ("[0.6, 0.2, 0.3, 0.4]", ("[0.6, 0.2, 0.3, 0.4]", "box_order")),
        ("[0.1, 0.9, 0.3, 0.4]", ("[0.1, 0.9, 0.3, 0.4]", "box_order")),
        ("good [0, 0.2, 1, 0.4], bad [0.5, 0, 0.4, 1]", ("[0.5, 0, 0.4, 1]", "box_order")),
        ("[.5, .6, .7, 1.01]", ("[.5, .6, .7, 1.01]", "box_range")),
        ("[[0.1, 0.2, 0.3, 1.4]]", ("[0.1, 0.2, 0.3, 1.4]", "box_range")),
        ("[0.0, 0.0, 1.0, 1.0]", None),
        ("[0.3, 0.3, 0.3, 0.3]", None),
        ("[1, 2, 3, 4]", None),
        ("[300, 200, 100, 50]", None),
        ("[0.1, 0.2, 1.3]", None),
        ("[0.1, 0.2, 1.3, 0.4, 5]", None),
        ("(0.1, 0.2, 1.3, 0.4)", None),
        ("[a, 0.2, 1.3, 0.4]", None),
    ],
)
def test_boxes(text: str, found: tuple[str, str] | None) -> None:
    assert bad_box(text) == found
