"""Samples of a data file, read when they are asked for.

Comes in: a `DataFile`, the places of its samples. Goes out: samples in any order. Knows no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np
import numpy.typing as npt

from sightline.data.data_file import DataFile
from sightline.data.ids import numbered
from sightline.data.parsing import parse_sample
from sightline.data.reading import Place
from sightline.data.sample import Sample


class FileSamples(Sequence[Sample]):
    """Samples of one file, parsed when they are asked for: some 50 bytes of memory each.

    Args:
        places: int64[N, 4]: for each sample its bytes, line and number in the file, see `Place`.
        numbers: int32[N]: what stands behind a repeated id, see `numbered`.
        listed: whether the file is one JSON list.
    """

    def __init__(
        self, file: DataFile, places: npt.NDArray[np.int64], numbers: npt.NDArray[np.int32], *, listed: bool
    ) -> None:
        self._file = file
        self._places = places
        self._numbers = numbers
        self._listed = listed

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        start, end, line, ordinal = (int(value) for value in self._places[index])
        sample = parse_sample(self._file.record(Place(start, end, line, ordinal if self._listed else None)))
        return replace(sample, id=numbered(sample.id, int(self._numbers[index])))
