"""Our side of a comparison: a prepared run whose steps are taken one at a time and timed.

Comes in: a recipe. Goes out: `StepTime`s. Uses what `sightline train` uses, in the same order; saves nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sightline.data.loader import steps
from sightline.recipe import Recipe
from sightline.train.optim import set_rates
from sightline.train.run import prepare
from sightline.train.step import take_step


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """What a step took, its data included, and the mean loss over its trained tokens.

    `processor` are the seconds of all threads together: on a machine with other work they say more than the clock.
    """

    seconds: float
    loss: float
    processor: float = 0.0
    ids: tuple[str, ...] = ()
    positions: int = 0
    """Positions that were computed, padding included."""


class Ours:
    """A run of Sightline; `step` takes the next one."""

    def __init__(self, recipe: Recipe) -> None:
        self.run = prepare(recipe, say=lambda message: None)
        set_rates(self.run.optimizer, 1.0)
        for name, part in self.run.model.parts().items():
            part.train(name in recipe.train.lr)
        self._source = steps(self.run.make_step, start=0, stop=self.run.total, workers=recipe.train.workers)

    def step(self) -> StepTime:
        """Makes the next step's batches and takes the step."""
        run = self.run
        started, worked = time.perf_counter(), time.process_time()
        made = next(self._source)
        result = take_step(run.model, run.optimizer, made.batches, clip=run.recipe.train.clip, dtype=run.dtype)
        return StepTime(
            seconds=time.perf_counter() - started,
            loss=result.loss,
            processor=time.process_time() - worked,
            ids=tuple(name for batch in made.batches for name in batch.ids),
            positions=sum(batch.input_ids.numel() for batch in made.batches),
        )

    def close(self) -> None:
        """Ends the workers and gives the directory back."""
        self._source.close()
        self.run.release()
