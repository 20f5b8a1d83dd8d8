"""The rows that each device goes through in the first steps, and what those few of them cost that decide.

Comes in: a recipe, the samples of steps, a model of fake tensors. Goes out: rows, the largest, seconds per FLOP.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sightline.data.batch import plan_rows
from sightline.data.shares import shares
from sightline.model.vlm import VisionLanguageModel
from sightline.recipe import Recipe
from sightline.train.flops import Shown, StepFlops, causal_pairs
from sightline.train.setting import Setting
from sightline.train.simulate import Row, RowCost, simulate_row
from sightline.train.survey import Length

ALIKE = math.log(1.5)
"""Between lengths of samples that make no difference to a row's pace."""

Candidate = tuple[Row, bool]
"""A row of a step, and whether others came before it, whose gradients are there."""


def shared(step: Sequence[Length], costs: StepFlops, devices: int) -> list[list[Length]]:
    """The samples of each device, as `Run.make_step` shares them."""
    picture = costs.per_picture + costs.per_encoded
    each = [
        costs.per_position * one.positions
        + costs.per_pair * causal_pairs([one.positions])
        + picture * bool(one.pictures)
        for one in step
    ]
    return [[step[number] for number in own] for own in shares(each, devices)]


def candidates(each: Iterable[Sequence[Row]]) -> list[Candidate]:
    """The rows that devices go through, those of a step one after another."""
    return [(row, number > 0) for rows in each for number, row in enumerate(rows)]


class Simulated:
    """Rows of the first steps, of which few are simulated."""

    def __init__(self, model: VisionLanguageModel, setting: Setting, rows: Sequence[Candidate]) -> None:
        self._model, self._setting, self._rows = model, setting, rows
        self._known: dict[Candidate, RowCost] = {}

    def _cost(self, row: Row, again: bool) -> RowCost:
        if (row, again) not in self._known:
            self._known[row, again] = simulate_row(
                self._model, row, dtype=self._setting.dtype, rates=self._setting.rates, again=again
            )
        return self._known[row, again]

    def largest(self, *, by_pictures: bool) -> tuple[Row, RowCost]:
        """The row that takes the most memory, and what it costs: a long first row, or a later one beside gradients.

        Args:
            by_pictures: the encoder trains, so a shorter row of more pictures may hold more.
        """
        found = []
        for again in (False, True):
            rows = [row for row, later in self._rows if later is again]
            if rows:
                chosen = {max(rows, key=lambda row: (sum(row.lengths), row.pictures))}
                if by_pictures:
                    chosen.add(max(rows, key=lambda row: (row.pictures, sum(row.lengths))))
                found += [(row, self._cost(row, again)) for row in map(bounded, chosen)]
        return max(found, key=lambda pair: pair[1].peak)

    def seconds_per_flop(self, costs: StepFlops, mean: Shown) -> float:
        """Of a row whose samples are as long as those of a mean step, for attention has a rate of its own.

        Of those that were simulated, or of the one that is most like it among rows at least half as long as any.
        """
        usual = mean.pairs / mean.positions

        def unlike(pair: Candidate) -> float:
            return abs(math.log(causal_pairs(pair[0].lengths) / sum(pair[0].lengths) / usual))

        row, again = min(self._known, key=unlike, default=self._rows[0])
        if unlike((row, again)) > ALIKE:
            longest = max(sum(row.lengths) for row, _ in self._rows)
            row, again = min((pair for pair in self._rows if 2 * sum(pair[0].lengths) >= longest), key=unlike)
            row = bounded(row)
        return self._cost(row, again).seconds / max(costs.total(shown_by([row])), 1)


def rows_of(recipe: Recipe, step: Sequence[Length], device: str) -> list[Row]:
    """The rows of a step, as `data.batch.RowPlan` cuts them; a padded batch counts as samples of one length."""
    settings = recipe.train
    if settings.packing:
        cut = plan_rows([one.positions for one in step], limit=settings.row_length_on(device))
        groups = [[step[index] for index in row] for row in cut]
    else:
        ordered, size = sorted(step, key=lambda one: one.positions), settings.samples_at_once
        groups = [
            [Length(positions=group[-1].positions, trained=one.trained, pictures=one.pictures) for one in group]
            for group in (ordered[start : start + size] for start in range(0, len(ordered), size))
        ]
    return [
        Row(
            lengths=tuple(one.positions for one in group),
            trained=sum(one.trained for one in group),
            pictures=sum(one.pictures for one in group),
            padded=not settings.packing,
        )
        for group in groups
    ]


def shown_by(rows: Sequence[Row]) -> Shown:
    """What rows show, their padding included."""
    return Shown.of(
        [length for row in rows for length in row.lengths],
        trained=sum(row.trained for row in rows),
        pictures=sum(row.pictures for row in rows),
    )


def bounded(row: Row, most: int = 12) -> Row:
    """The row with no more than `most` samples, of equal length: to simulate hundreds of them would take minutes.

    A padded batch goes through the model in one piece, whatever it has of them.
    """
    if row.padded or len(row.lengths) <= most:
        return row
    total = sum(row.lengths)
    lengths = tuple(total * (number + 1) // most - total * number // most for number in range(most))
    return replace(row, lengths=lengths)
