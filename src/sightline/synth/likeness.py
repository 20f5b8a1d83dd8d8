"""Near-duplicates among dialogues, within a picture and across pictures.

Comes in: dialogues in a fixed order. Goes out: what of each is new. The first of two that are alike stays, so the
result depends on the order alone. Two texts are alike when they share `ALIKE` of their runs of three words (Jaccard).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sightline.errors import ConfigError
from sightline.synth.grammar import Pair
from sightline.synth.vocabulary import words

ALIKE = 0.8
"""Share of common runs of words from which on two texts count as one (as in Lee et al. 2022, section 4.2)."""
RUN = 3
LEAST_WORDS = 20
"""Words of its answers that make a dialogue comparable across pictures: `two people` may be said of many."""
PERMUTATIONS = 128


class Likeness:
    """What was seen so far."""

    def __init__(self) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise ConfigError("near-duplicates need datasketch: pip install 'sightline[synth]'") from error
        self._minhash: Any = MinHash
        self._index: Any = MinHashLSH(threshold=ALIKE, num_perm=PERMUTATIONS)
        self._sketches: dict[str, Any] = {}
        self._asked: defaultdict[str, list[frozenset[str]]] = defaultdict(list)

    def new_pairs(self, picture: str, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs that nothing before on the same picture is like."""
        found = []
        for pair in pairs:
            runs = runs_of(f"{pair.question} {pair.answer}")
            if all(jaccard(runs, other) < ALIKE for other in self._asked[picture]):
                self._asked[picture].append(runs)
                found.append(pair)
        return found

    def is_new(self, pairs: Sequence[Pair]) -> bool:
        """Whether no dialogue before, about whichever picture, is like this one. Remembers it if so."""
        text = " ".join(pair.answer for pair in pairs)
        if len(words(text)) < LEAST_WORDS:
            return True
        sketch = self._minhash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([run.encode() for run in sorted(runs_of(text))])
        candidates = self._index.query(sketch)
        if any(self._sketches[name].jaccard(sketch) >= ALIKE for name in candidates):
            return False
        name = str(len(self._sketches))
        self._index.insert(name, sketch)
        self._sketches[name] = sketch
        return True


def runs_of(text: str) -> frozenset[str]:
    """Runs of `RUN` words; of a shorter text, the whole."""
    said = words(text)
    return frozenset(" ".join(said[start : start + RUN]) for start in range(max(1, len(said) - RUN + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Common elements by all elements; 1.0 for two empty sets."""
    return len(one & other) / len(one | other) if one or other else 1.0
