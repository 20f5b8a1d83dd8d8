"""How far from the hardware: necessary FLOPs / seconds / the rate of matrix products of the model's own shapes.

Comes in: a model that is ready to train, and what its steps showed it. Goes out: a share of the limit. The rate is that
of `torch` on this machine in this run: what a trainer that did nothing but its matrix products would reach.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.ours import Ours
from benchmarks.record import Row, Table
from benchmarks.sizes import Mode, Size
from benchmarks.world import World, make_world
from sightline.data.tokens import IGNORE
from sightline.model.vlm import VisionLanguageModel
from sightline.train.flops import Shown, step_flops
from sightline.train.samples import SampleSet

ROWS = 2048
"""Positions of the products that are timed: a packed row."""
HEAD_ROWS = 512
"""Trained positions of such a row."""
REPEATS = 5

Shape = tuple[int, int]
"""In and out of a linear layer."""


@dataclass(frozen=True, slots=True)
class Rate:
    """FLOP/s of a mix of products."""

    flops: float
    seconds: float

    @property
    def per_second(self) -> float:
        """The products' FLOPs over the time that all of them took."""
        return self.flops / self.seconds


def run(*, sizes: Sequence[Size], modes: Sequence[Mode], steps: int, say: Callable[[str], None]) -> Table:
    """Our side alone: a row for each size and mode."""
    rows: list[Row] = []
    for size in sizes:
        for mode in modes:
            say(f"limit: {size.name} {mode.name}")
            with tempfile.TemporaryDirectory() as scratch:
                world = make_world(Path(scratch) / "world", size, mode, steps=steps + 1)
                rows.append({"size": size.name, "mode": mode.name, **_measured(world, Path(scratch) / "run")})
    return Table(title="necessary FLOPs / seconds / rate of matrix products", rows=rows)


def _measured(world: World, output: Path) -> Row:
    """Rates are taken before and after, and the better one counts, against us."""
    ours = Ours(world.recipe(output))
    before = gemm_rate(ours.run.model).per_second
    taken = [ours.step() for _ in world.order][1:]
    rate = max(before, gemm_rate(ours.run.model).per_second)
    counts, counted = step_flops(ours.run.model), shown_by_steps(world)[1:]
    ours.close()
    flops = [counts.total(each) for each in counted]
    shares = [share_of_limit(some, step.seconds, rate) for some, step in zip(flops, taken, strict=True)]
    positions = sum(each.positions for each in counted)
    return {
        "GFLOP/step": statistics.mean(flops) / 1e9,
        "s/step": statistics.median(step.seconds for step in taken),
        "tokens/s": positions / sum(step.seconds for step in taken),
        "products GFLOP/s": rate / 1e9,
        "of limit": statistics.median(shares),
        "padding": 1 - positions / sum(step.positions for step in taken),
    }


def shapes(model: VisionLanguageModel) -> Counter[Shape]:
    """The linear layers of the language model by shape, without its head."""
    head = model.language.get_output_embeddings()
    return Counter(
        (module.in_features, module.out_features)
        for module in model.language.modules()
        if isinstance(module, nn.Linear) and module is not head and "lora" not in type(module).__name__.lower()
    )


def share_of_limit(flops: float, seconds: float, rate: float) -> float:
    """1.0: not one moment but for necessary products."""
    return flops / seconds / rate


def gemm_rate(
    model: VisionLanguageModel, *, rows: int = ROWS, head_rows: int = HEAD_ROWS, dtype: torch.dtype = torch.float32
) -> Rate:
    """Times the language model's products: forward, gradient of the input, gradient of the weight.

    Args:
        dtype: of the arithmetic; weights that train are kept in fp32 beside it.
    """
    head = model.language.get_output_embeddings()
    mix = [(shape, count, rows) for shape, count in shapes(model).items()]
    mix.append(((head.in_features, head.out_features), 1, head_rows))
    flops = seconds = 0.0
    for (inner, outer), count, height in mix:
        taken = product_seconds(height, inner, outer, device=head.weight.device, dtype=dtype)
        flops += count * 3 * 2.0 * height * inner * outer
        seconds += count * taken
    return Rate(flops, seconds)


def product_seconds(rows: int, inner: int, outer: int, *, device: torch.device, dtype: torch.dtype) -> float:
    """The median time of the three products of a linear layer."""
    x = torch.randn(rows, inner, device=device, dtype=dtype)
    weight = torch.randn(outer, inner, device=device, dtype=dtype)
    gradient = torch.randn(rows, outer, device=device, dtype=dtype)
    products: tuple[Callable[[], torch.Tensor], ...] = (
        lambda: x @ weight.T,
        lambda: gradient @ weight,
        lambda: gradient.T @ x,
    )
    return sum(statistics.median(_timed(product, device) for _ in range(REPEATS)) for product in products)


def shown(samples: SampleSet, ids: Sequence[str]) -> Shown:
    """What a step of these samples shows the model, each picture once."""
    place = {sample.id: sample for sample in samples.samples}
    chosen = [place[name] for name in ids]
    encoded = [samples.processor.encode(sample) for sample in chosen]
    return Shown.of(
        (len(one.ids) for one in encoded),
        trained=sum(sum(label != IGNORE for label in one.labels[1:]) for one in encoded),
        pictures=len({path for sample in chosen for path in sample.images}),
    )


def shown_by_steps(world: World) -> list[Shown]:
    """What each step of the world shows the model."""
    samples = world.samples()
    return [shown(samples, ids) for ids in world.order]


def _timed(product: Callable[[], torch.Tensor], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    product()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
