"""How long samples are: lengths drawn like those of LLaVA-1.5's instruction mixture.

Comes in: a seed. Goes out: `Draft`s: how many tokens each question and answer of a sample has, and how many
pictures it shows. Knows no words, no files, no models.

The counts of samples are the published ones of `llava_v1_5_mix665k.json` (665,298 samples; haotian-liu/LLaVA issues
657 and 702). The exchanges per picture follow from the datasets' own sizes, since LLaVA merges all questions about a
picture into one conversation: VQAv2 443,757 questions / 82,783 pictures, GQA 943,000 / 72,140, OCR-VQA 1,002,146 /
207,572; Visual Genome is cut at ten regions and RefCOCO into parts of fewer than ten (LLaVA-1.5's appendix). The tokens
per question and answer are typical of each dataset, counting the instruction that LLaVA appends to the first question
and the coordinates it writes as text; they are estimates, not counted on the files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """A log-normal number of things: its median, and the standard deviation of its logarithm; at least one."""

    median: float
    sigma: float = 0.0
    most: int = 10**6

    def draw(self, noise: np.random.Generator) -> int:
        """One number."""
        drawn = self.median * math.exp(self.sigma * noise.standard_normal())
        return min(max(1, round(drawn)), self.most)


@dataclass(frozen=True, slots=True)
class Subset:
    """A part of the mixture; `extra` are the tokens that its first question has beyond the others."""

    name: str
    samples: int
    exchanges: Spread
    question: Spread
    answer: Spread
    extra: int = 0
    picture: bool = True


SHORT_ANSWER = 12
"""Tokens of LLaVA's "Answer the question using a single word or phrase." with Llama's tokenizer."""

INSTRUCT: tuple[Subset, ...] = (
    Subset("conversation", 57_712, Spread(4.5, 0.4, 10), Spread(12, 0.3), Spread(28, 0.7)),
    Subset("detail", 23_000, Spread(1), Spread(14, 0.3), Spread(125, 0.3)),
    Subset("reasoning", 77_000, Spread(1), Spread(16, 0.3), Spread(140, 0.35)),
    Subset("sharegpt", 40_688, Spread(3.5, 0.8, 30), Spread(35, 1.1, 800), Spread(230, 0.7, 900), picture=False),
    Subset("vqav2", 82_783, Spread(5.2, 0.3, 12), Spread(8, 0.25), Spread(1.4, 0.4), extra=SHORT_ANSWER),
    Subset("gqa", 72_140, Spread(12.2, 0.4, 40), Spread(11, 0.3), Spread(1.3, 0.3), extra=SHORT_ANSWER),
    Subset("okvqa", 8_998, Spread(1), Spread(11, 0.25), Spread(2, 0.5), extra=SHORT_ANSWER),
    Subset("ocrvqa", 80_000, Spread(4.8, 0.15, 6), Spread(9, 0.2), Spread(4, 0.8), extra=SHORT_ANSWER),
    Subset("aokvqa", 66_160, Spread(1), Spread(36, 0.25), Spread(1), extra=SHORT_ANSWER),
    Subset("textcaps", 21_953, Spread(1), Spread(70, 0.5), Spread(16, 0.25)),
    Subset("refcoco", 48_447, Spread(4, 0.5, 9), Spread(22, 0.4), Spread(12, 0.6)),
    Subset("visual genome", 86_417, Spread(8, 0.3, 10), Spread(22, 0.3), Spread(15, 0.5)),
)
"""Stage 2."""

CAPTIONS: tuple[Subset, ...] = (Subset("captions", 558_128, Spread(1), Spread(10, 0.3), Spread(14, 0.35)),)
"""Stage 1: one picture and its BLIP caption (blip_laion_cc_sbu_558k.json); the question is not written down there."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A sample before it has words: (question tokens, answer tokens) for each exchange."""

    subset: str
    exchanges: tuple[tuple[int, int], ...]
    pictures: int

    @property
    def tokens(self) -> int:
        """Tokens of all questions and answers, without the template's own."""
        return sum(map(sum, self.exchanges))


def draw(count: int, *, seed: int, mixture: tuple[Subset, ...] = INSTRUCT, limit: int) -> list[Draft]:
    """So many samples, drawn independently: a pure function of the arguments.

    Args:
        limit: most tokens of questions and answers in a sample; exchanges beyond it are left off, as LLaVA does with
            long dialogues, and the first is cut to it.
    """
    noise = np.random.default_rng([seed, count])
    weights = np.array([subset.samples for subset in mixture], dtype=float)
    chosen = noise.choice(len(mixture), size=count, p=weights / weights.sum())
    return [_draft(mixture[index], noise, limit) for index in chosen]


def _draft(subset: Subset, noise: np.random.Generator, limit: int) -> Draft:
    exchanges: list[tuple[int, int]] = []
    room = limit
    for number in range(subset.exchanges.draw(noise)):
        question = subset.question.draw(noise) + (subset.extra if number == 0 else 0)
        answer = subset.answer.draw(noise)
        if question + answer > room:
            if not exchanges:
                question = min(question, room // 2)
                exchanges.append((question, min(answer, room - question)))
            break
        exchanges.append((question, answer))
        room -= question + answer
    return Draft(subset.name, tuple(exchanges), int(subset.picture))
