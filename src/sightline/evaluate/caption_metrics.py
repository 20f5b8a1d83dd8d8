"""CIDEr-D, BLEU-1 to 4 and ROUGE-L of captions, as coco-caption computes them (tylin/coco-caption, pycocoevalcap 1.2).

Comes in: tokenised captions: for each picture one that is scored and its references. Goes out: a figure over all and
one for each picture. Tokenises nothing. METEOR is not among them: it is a Java program with tables of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

ORDERS = 4
"""n-grams of one to four words."""
SIGMA = 6.0
"""CIDEr-D's penalty: a Gaussian of this width over the difference in length."""
BETA = 1.2
"""ROUGE-L weighs recall this much more than precision."""
SMALL, TINY = 1e-9, 1e-15
"""What coco-caption's BLEU adds to denominators and numerators."""

Ngram = tuple[str, ...]


class Metric(NamedTuple):
    """Over all pictures, and of each."""

    overall: float
    each: list[float]


class _Vector(NamedTuple):
    weights: list[dict[Ngram, float]]
    norms: list[float]
    length: int


def ngrams(caption: str) -> Counter[Ngram]:
    """How often each sequence of one to four words is in a caption."""
    words = caption.split()
    return Counter(tuple(words[at : at + n]) for n in range(1, ORDERS + 1) for at in range(len(words) - n + 1))


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Metric:
    """How alike a caption's n-grams are to the references', weighted by how few pictures have them; times ten.

    The pictures' number and the frequencies are those of the references given: one picture alone scores 0. A caption's
    length is counted in pairs of words, as the original counts it.
    """
    tests = [ngrams(caption) for caption in captions]
    truths = [[ngrams(reference) for reference in group] for group in references]
    frequency = Counter(ngram for group in truths for ngram in set().union(*group))
    pictures = math.log(len(truths)) if truths else 0.0
    each = []
    for test, group in zip(tests, truths, strict=True):
        vector = _vector(test, frequency, pictures)
        total = [0.0] * ORDERS
        for reference in group:
            for n, value in enumerate(_similarity(vector, _vector(reference, frequency, pictures))):
                total[n] += value
        each.append(sum(total) / ORDERS / len(group) * 10)
    return Metric(sum(each) / len(each), each)


def _vector(counts: Counter[Ngram], frequency: Counter[Ngram], pictures: float) -> _Vector:
    weights: list[dict[Ngram, float]] = [{} for _ in range(ORDERS)]
    squares = [0.0] * ORDERS
    for ngram, count in counts.items():
        weight = count * (pictures - math.log(max(1, frequency[ngram])))
        weights[len(ngram) - 1][ngram] = weight
        squares[len(ngram) - 1] += weight * weight
    pairs = sum(count for ngram, count in counts.items() if len(ngram) == 2)
    return _Vector(weights, [math.sqrt(square) for square in squares], pairs)


def _similarity(test: _Vector, truth: _Vector) -> list[float]:
    """The clipped cosine of each order, under the penalty for a difference in length."""
    penalty = math.exp(-((test.length - truth.length) ** 2) / (2 * SIGMA**2))
    found = []
    for own, other, norm, length in zip(test.weights, truth.weights, test.norms, truth.norms, strict=True):
        shared = sum(min(weight, other[ngram]) * other[ngram] for ngram, weight in own.items() if ngram in other)
        found.append((shared / (norm * length) if norm and length else shared) * penalty)
    return found


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[Metric]:
    """BLEU-1 to 4 over all n-grams of all captions; of the references the one closest in length counts as theirs.

    The only smoothing is that of the tiny constants. One picture's figure has the penalty for its own length.
    """
    correct, guesses = [0] * ORDERS, [0] * ORDERS
    length = wanted = 0
    each: list[list[float]] = [[] for _ in range(ORDERS)]
    for caption, group in zip(captions, references, strict=True):
        words = len(caption.split())
        lengths = [len(reference.split()) for reference in group]
        length, wanted = length + words, wanted + min((abs(one - words), one) for one in lengths)[1]
        found = _matches(caption, group)
        tried = [max(0, words - n) for n in range(ORDERS)]
        for n, value in enumerate(_geometric(found, tried)):
            each[n].append(value * _brevity(words, min((abs(one - words), one) for one in lengths)[1]))
        correct = [total + one for total, one in zip(correct, found, strict=True)]
        guesses = [total + one for total, one in zip(guesses, tried, strict=True)]
    penalty = _brevity(length, wanted)
    return [Metric(value * penalty, own) for value, own in zip(_geometric(correct, guesses), each, strict=True)]


def _matches(caption: str, group: Sequence[str]) -> list[int]:
    """Of each order, how many n-grams of the caption are in some reference, each as often as in that at most."""
    most: Counter[Ngram] = Counter()
    for reference in group:
        most |= ngrams(reference)
    found = [0] * ORDERS
    for ngram, count in ngrams(caption).items():
        found[len(ngram) - 1] += min(most[ngram], count)
    return found


def _geometric(correct: Sequence[int], guesses: Sequence[int]) -> list[float]:
    product, found = 1.0, []
    for n in range(ORDERS):
        product *= (correct[n] + TINY) / (guesses[n] + SMALL)
        found.append(product ** (1 / (n + 1)))
    return found


def _brevity(length: int, wanted: int) -> float:
    ratio = (length + TINY) / (wanted + SMALL)
    return math.exp(1 - 1 / ratio) if ratio < 1 else 1.0


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Metric:
    """The longest common subsequence's best precision and best recall over the references, which need not be one's."""
    each = [_rouge(caption, group) for caption, group in zip(captions, references, strict=True)]
    return Metric(sum(each) / len(each), each)


def _rouge(caption: str, group: Sequence[str]) -> float:
    words = caption.split(" ")
    parted = [reference.split(" ") for reference in group]
    common = [common_length(words, reference) for reference in parted]
    precision = max(one / len(words) for one in common)
    recall = max(one / len(reference) for one, reference in zip(common, parted, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence of words."""
    above = [0] * (len(second) + 1)
    for word in first:
        current = [0]
        for column, other in enumerate(second):
            current.append(above[column] + 1 if word == other else max(above[column + 1], current[-1]))
        above = current
    return above[-1]
