"""How answers lean, right or wrong: towards yes, towards an option's place.

Comes in: what was said and what is right. Goes out: figures that stand beside a benchmark's own, which they do not
change. Pure.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

from sightline.evaluate.results import ratio


def yes_no(said: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Of pairs of answer and label: how often yes is said, and how often it is right to.

    `yes_excess` is the one less the other: above 0 for a yes-sayer. `yes_to_yes` and `yes_to_no` are the rates of hits
    and of false alarms; `other` counts answers that are neither, which are in no share of yes.
    """
    count = Counter(said)
    n = count.total()
    answered = ratio(sum(number for (answer, _), number in count.items() if answer == "yes"), n)
    true = ratio(sum(number for (_, label), number in count.items() if label == "yes"), n)

    def rate(label: str) -> float | None:
        return ratio(count["yes", label], sum(number for (_, one), number in count.items() if one == label))

    return {
        "yes_ratio": answered,
        "yes_ratio_of_truth": true,
        "yes_excess": None if answered is None or true is None else answered - true,
        "yes_to_yes": rate("yes"),
        "yes_to_no": rate("no"),
        "other": sum(number for (answer, _), number in count.items() if answer not in ("yes", "no")),
    }


def by_position(chosen: Iterable[tuple[str, str | None]]) -> dict[str, Any]:
    """Of pairs of the right letter and the chosen one (None: none): accuracy where the right option has that letter.

    `share_right` and `share_chosen` tell how often a letter is right, and how often it is chosen; `spread` is the
    standard deviation of the accuracies in percent, the RStd of Zheng et al. (arXiv 2309.03882): 0 for who does not
    care where an option stands.
    """
    pairs = list(chosen)
    rights, choices = Counter(right for right, _ in pairs), Counter(choice for _, choice in pairs)
    hits = Counter(right for right, choice in pairs if right == choice)
    letters = {
        letter: {
            "n": rights[letter],
            "accuracy": ratio(hits[letter], rights[letter]),
            "share_right": ratio(rights[letter], len(pairs)),
            "share_chosen": ratio(choices[letter], len(pairs)),
        }
        for letter in sorted(rights)
    }
    accuracies = [100 * hits[letter] / rights[letter] for letter in rights]
    return {**letters, "spread": statistics.pstdev(accuracies) if accuracies else None}
