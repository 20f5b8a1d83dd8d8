"""How many letters apart two texts are.

Comes in: two texts. Goes out: a number. Pure.
"""

from __future__ import annotations


def levenshtein(first: str, second: str) -> int:
    """Fewest insertions, deletions and replacements of letters that make one the other."""
    if len(first) > len(second):
        first, second = second, first
    above = list(range(len(first) + 1))
    for row, letter in enumerate(second, start=1):
        current = [row]
        for column, other in enumerate(first, start=1):
            replaced = above[column - 1] + (letter != other)
            current.append(min(replaced, above[column] + 1, current[-1] + 1))
        above = current
    return above[-1]
