"""CIDEr-D, BLEU and ROUGE-L where their values can be seen by eye; recorded figures are compared elsewhere."""

from __future__ import annotations

import math

import pytest

from sightline.evaluate.caption_metrics import bleu, cider_d, common_length, rouge_l


def test_a_caption_equal_to_its_reference_scores_ten_in_cider() -> None:
    captions = ["a red cat sits here", "two dogs run over there"]
    assert cider_d(captions, [[caption] for caption in captions]).each == pytest.approx([10.0, 10.0])


def test_one_picture_alone_scores_nothing_in_cider() -> None:
    assert cider_d(["a red cat"], [["a red cat"]]).overall == 0


def test_an_empty_caption_is_legal() -> None:
    truths = [["a cat"], ["a dog runs"]]
    assert cider_d(["", "a dog runs"], truths).each[0] == 0
    assert rouge_l(["", "a dog runs"], truths).each == [0.0, 1.0]
    assert [round(metric.each[0], 6) for metric in bleu(["", "a dog runs"], truths)] == [0, 0, 0, 0]


def test_words_of_every_picture_weigh_nothing_in_cider() -> None:
    assert cider_d(["a", "a"], [["a"], ["a"]]).each == [0.0, 0.0]


def test_cider_has_less_for_a_caption_of_another_length() -> None:
    """Three words and one are two pairs apart, and the other words lengthen the vector."""
    truths = [["red"], ["blue"]]
    same = cider_d(["red", "blue"], truths).each[0]
    longer = cider_d(["red x y", "blue"], truths).each[0]
    weight = math.log(2)
    cosine = weight * weight / (weight * math.sqrt(3 * weight**2))
    assert same == pytest.approx(10 / 4)
    assert longer == pytest.approx(10 / 4 * cosine * math.exp(-4 / 72))


def test_bleu_clips_counts_and_takes_the_closest_length() -> None:
    found = bleu(["the the the"], [["the cat", "the cat is here now"]])
    assert found[0].overall == pytest.approx(1 / 3, abs=1e-6)  # one `the` in each reference; 2 words are closest to 3
    short = bleu(["cat"], [["the cat", "the cat is"]])
    assert short[0].overall == pytest.approx(math.exp(1 - 2), abs=1e-6)


def test_rouge_takes_best_precision_and_best_recall_of_different_references() -> None:
    found = rouge_l(["a b c"], [["a b x y", "c"]]).overall
    precision, recall = 2 / 3, 1.0
    assert found == pytest.approx((1 + 1.44) * precision * recall / (recall + 1.44 * precision))


@pytest.mark.parametrize(
    ("first", "second", "length"), [("abcd", "acd", 3), ("", "ab", 0), ("ab", "ba", 1), ("x", "y", 0)]
)
def test_longest_common_subsequence(first: str, second: str, length: int) -> None:
    assert common_length(list(first), list(second)) == length
