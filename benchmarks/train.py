"""Training beside `transformers.Trainer` and TRL: time, memory, and whether the losses agree.

Comes in: sizes, ways of training, peers, a number of steps. Goes out: a row for each. Both sides take the same steps in
turn in one process, one warm-up before those that count; memory is measured in processes of their own. A row whose
losses differ by more than `TOLERANCE` at any step says so: its figures do not count.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from benchmarks import side
from benchmarks.limit import gemm_rate, share_of_limit, shown_by_steps
from benchmarks.ours import Ours, StepTime
from benchmarks.peers import PEERS, run_peer
from benchmarks.record import Row, Table
from benchmarks.sizes import MODES, Mode, Size, fitting
from benchmarks.world import World, make_world
from sightline.train.flops import Shown, StepFlops, step_flops

TOLERANCE = 1e-4
"""Nats, between the two sides' mean loss of a step, in fp32."""
WARM_UP = 1
MEMORY_STEPS = 2

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratios:
    """Their seconds over ours. `median`: of the steps' own ratios; `total`: of the sums, as over an epoch."""

    median: float
    total: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Both:
    """What both sides took for the same steps; `gemm` is the rate of matrix products in this run, FLOP/s."""

    ours: list[StepTime]
    theirs: list[StepTime]
    shown: list[Shown]
    counts: StepFlops
    gemm: float

    def counted(self) -> tuple[list[StepTime], list[StepTime], list[Shown]]:
        """Without the warm-up."""
        return self.ours[WARM_UP:], self.theirs[WARM_UP:], self.shown[WARM_UP:]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Ratios:
    """Compares step by step: the same samples on both sides."""
    each = [their / our for our, their in zip(ours, theirs, strict=True)]
    return Ratios(median=statistics.median(each), total=sum(theirs) / sum(ours))


def worst_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference between the losses of a step."""
    return max(abs(our - their) for our, their in zip(ours, theirs, strict=True))


def run(
    *, sizes: Sequence[Size], modes: Sequence[Mode], peers: Sequence[str] | None, steps: int, memory: bool, say: Say
) -> Iterator[Table]:
    """One table per size and mode, with a row for each of `peers`, or of the mode's."""
    for size, mode in product(sizes, modes):
        table = Table(title=f"train: {size.name}, {mode.name}, {size.batch} samples a step", rows=[])
        for peer in peers or mode.peers:
            say(f"train: {size.name} {mode.name}, {PEERS[peer]}")
            row, detail = compare(size, mode, peer, steps=steps, memory=memory)
            say(f"  {row['faster (median)']:.2f}x, losses differ by {row['loss differs']:.1e}")
            table.rows.append(row)
            table.details.append(detail)
        yield table


def compare(size: Size, mode: Mode, peer: str, *, steps: int, memory: bool) -> tuple[Row, Row]:
    """Both sides on one world: the row of the table, and every step."""
    micro_batch = size.micro_batch(peer)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        world = make_world(root / "world", size, mode, steps=steps, warm_up=WARM_UP, grouped=peer == "grouped")
        both = in_turn(world, peer, micro_batch, root)
        row = {"against": PEERS[peer], "micro-batch": micro_batch, **figures(both)}
        if memory:
            peaks = {name: side.measure(world.root, name, steps=MEMORY_STEPS) for name in ("ours", peer)}
            row |= _memory(peaks["ours"], peaks[peer])
    detail: Row = {"size": size.name, "mode": mode.name, "peer": peer, "micro_batch": micro_batch, **asdict(both)}
    return row, detail


def in_turn(world: World, peer: str, micro_batch: int, root: Path) -> Both:
    """The steps of both sides in turn, after a check that they have the same samples."""
    ours = Ours(world.recipe(root / "ours"))
    model = ours.run.model
    mine: list[StepTime] = []
    before = gemm_rate(model)
    theirs = run_peer(
        world,
        peer,
        micro_batch=micro_batch,
        between=lambda: mine.append(ours.step()),
        adapters=model.language,
        output=root / "theirs",
    )
    rate = max(before.per_second, gemm_rate(model).per_second)
    ours.close()
    for number, (step, ids) in enumerate(zip(mine, world.order, strict=True)):
        assert set(step.ids) == set(ids), f"step {number} of our trainer has other samples than the plan"
    return Both(ours=mine, theirs=theirs, shown=shown_by_steps(world), counts=step_flops(model), gemm=rate)


def figures(both: Both) -> Row:
    """The row of a comparison."""
    ours, theirs, shown = both.counted()
    found = ratios([step.seconds for step in ours], [step.seconds for step in theirs])
    processor = ratios([step.processor for step in ours], [step.processor for step in theirs])
    worst = worst_difference([step.loss for step in both.ours], [step.loss for step in both.theirs])
    positions = sum(step.positions for step in shown)
    flops, seconds = sum(map(both.counts.total, shown)), sum(step.seconds for step in ours)
    return {
        "ours s/step": statistics.median(step.seconds for step in ours),
        "theirs s/step": statistics.median(step.seconds for step in theirs),
        "faster (median)": found.median,
        "faster (total)": found.total,
        "processor time": processor.median,
        "our padding": 1 - positions / sum(step.positions for step in ours),
        "their padding": 1 - positions / sum(step.positions for step in theirs),
        "of limit": share_of_limit(flops, seconds, both.gemm),
        "loss differs": worst,
        "counts": worst <= TOLERANCE,
    }


def agree(*, size: Size, mode: Mode, steps: int, say: Say) -> Table:
    """Whether the losses of both sides agree over many steps; nothing is timed that counts."""
    say(f"check: {size.name} {mode.name}, {steps} steps against {PEERS['trainer']}")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        world = make_world(root / "world", size, mode, steps=steps)
        both = in_turn(world, "trainer", size.micro_batch("trainer"), root)
    pairs = [(our.loss, their.loss) for our, their in zip(both.ours, both.theirs, strict=True)]
    worst = worst_difference(*zip(*pairs, strict=True))
    row: Row = {
        "size": size.name,
        "mode": mode.name,
        "steps": steps,
        "first loss": pairs[0][0],
        "last loss": pairs[-1][0],
        "largest difference": worst,
        "agree": worst <= TOLERANCE,
    }
    details: list[Row] = [{"step": number, "ours": our, "theirs": their} for number, (our, their) in enumerate(pairs)]
    return Table(title=f"losses beside the Trainer's, step by step (allowed: {TOLERANCE})", rows=[row], details=details)


def tune(*, sizes: Sequence[Size], peers: Sequence[str], candidates: Sequence[int], steps: int, say: Say) -> Table:
    """The peers' seconds per step in stage 2 by micro-batch: where `Size.micro_batches` comes from."""
    rows: list[Row] = []
    for size in sizes:
        for peer in peers:
            with tempfile.TemporaryDirectory() as scratch:
                root = Path(scratch)
                grouped = peer == "grouped"
                world = make_world(root / "world", size, MODES["stage2"], steps=steps, warm_up=WARM_UP, grouped=grouped)
                row: Row = {"size": size.name, "peer": PEERS[peer]}
                for candidate in candidates:
                    say(f"tune: {size.name}, {PEERS[peer]}, {candidate}")
                    taken = run_peer(world, peer, micro_batch=fitting(candidate, size.batch), output=root / "theirs")
                    row[f"{candidate} s/step"] = sum(step.seconds for step in taken[WARM_UP:]) / steps
            rows.append(row)
    return Table(title="the peers' micro-batch", rows=rows)


def _memory(ours: Row, theirs: Row) -> Row:
    return {
        "ours GiB": ours["peak"] / 2**30,
        "theirs GiB": theirs["peak"] / 2**30,
        "memory": ours["peak"] / theirs["peak"],
        "memory beyond imports": (ours["peak"] - ours["before"]) / (theirs["peak"] - theirs["before"]),
    }
