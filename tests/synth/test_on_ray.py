"""Ray computes, one process writes: the same data under the same keys as without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed")

from sightline.ask.ledger import Ledger  # noqa: E402
from sightline.ask.limits import Limits  # noqa: E402
from sightline.synth.export import DATA  # noqa: E402
from sightline.synth.kinds import load_kinds  # noqa: E402
from sightline.synth.on_ray import run_on_ray  # noqa: E402
from sightline.synth.plan import Plan  # noqa: E402
from sightline.synth.rules import MODEL, RuleTeacher  # noqa: E402
from sightline.synth.run import LEDGER, Job, run  # noqa: E402
from sightline.synth.source import Source  # noqa: E402
from tests.synth.samples import contexts  # noqa: E402

KINDS = load_kinds()
VOCABULARY = ("car", "dog", "cat", "bird")


@pytest.fixture(scope="module", autouse=True)
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        root = Path(__file__).parents[2]
        patch.setenv("PYTHONPATH", f"{root / 'src'}:{root}")
        patch.setenv("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
        yield
        ray.shutdown()


def job_of(folder: Path, number: int) -> Job:
    source = Source(format="contexts", path=Path("made-up"), contexts=contexts(number))
    source.vocabulary = frozenset(VOCABULARY)
    plan = Plan(kinds=KINDS, mixture=dict.fromkeys(KINDS), model=MODEL)
    limits = Limits(circuit_failures=1000)
    return Job(directory=folder, source=source, contexts=source.contexts, plan=plan, limits=limits)


def test_the_data_is_that_of_one_process(tmp_path: Path) -> None:
    alone, spread = job_of(tmp_path / "alone", 12), job_of(tmp_path / "spread", 12)
    run(alone, RuleTeacher(VOCABULARY))
    summary, report = run_on_ray(
        replace(spread, contexts=spread.contexts[:4]), partial(RuleTeacher, VOCABULARY), workers=2
    )
    assert (summary.calls, report.accepted.total()) == (20, 20)
    summary, report = run_on_ray(spread, partial(RuleTeacher, VOCABULARY), workers=2)
    assert summary.calls == 40  # what the ledger had was not computed again
    assert (spread.directory / DATA).read_bytes() == (alone.directory / DATA).read_bytes()
    with (
        Ledger(alone.directory / LEDGER, read_only=True) as one,
        Ledger(spread.directory / LEDGER, read_only=True) as two,
    ):
        assert list(one.accepted()) == list(two.accepted())
