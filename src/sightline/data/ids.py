"""The ids of a file's samples: each for one sample, in the file's order.

Comes in: ids as files have them, and where they stand. Goes out: numbers for repeated ones, or a `SampleError`. Knows
nothing else of samples.
"""

from __future__ import annotations

from sightline.data.reading import SampleError
from sightline.data.values import show


class Ids:
    """The ids of a file, each for one sample. They are claimed in the file's order."""

    def __init__(self, *, number_repeated: bool) -> None:
        self._number_repeated = number_repeated
        self._places: dict[str, str] = {}
        self._numbers: dict[str, int] = {}  # the last number of an id that was repeated

    def claim(self, wanted: str, *, place: str) -> int:
        """The number that the sample at `place` bears behind its id, see `numbered`.

        Raises:
            SampleError: `id_duplicate`: another sample has the id, and repeated ones are not to be numbered.
        """
        number = 0
        if wanted in self._places:
            if not self._number_repeated:
                raise SampleError(
                    "id", "id_duplicate", found=f"{show(wanted)}, as in {self._places[wanted]}",
                    expected="an id of its own", fix="rename one of them, or delete it if it is a copy",
                )  # fmt: skip
            number = self._numbers.get(wanted, 1) + 1
            while numbered(wanted, number) in self._places:
                number += 1
            self._numbers[wanted] = number
        self._places[numbered(wanted, number)] = place
        return number


def numbered(identity: str, number: int) -> str:
    """The id itself for number 0, else `x#2`, `x#3`, ..."""
    return f"{identity}#{number}" if number else identity
