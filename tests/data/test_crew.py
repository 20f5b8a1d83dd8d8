"""Several processes give what one gives, in the same order, also when they are killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sightline.data import crew
from sightline.data.crew import Crew


def product(state: int, task: int) -> tuple[int, int]:
    return state * task, os.getpid()


def die_elsewhere(parent: int, task: int) -> int:
    if os.getpid() != parent and task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task + 1


def refuse(state: int, task: int) -> int:
    raise ValueError(f"task {task}")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are called in after the first task."""
    monkeypatch.setattr(crew, "ALONE", 1)


@pytest.mark.usefixtures("eager")
def test_results_come_in_the_order_of_the_tasks_from_other_processes() -> None:
    with Crew(7, processes=2) as workers:
        found = list(workers.map(product, range(30)))
    assert [(task, result) for task, (result, _) in found] == [(task, 7 * task) for task in range(30)]
    processes = [process for _, (_, process) in found]
    assert processes[0] == os.getpid()
    assert os.getpid() not in processes[1:]


def test_few_tasks_and_one_process_are_done_here() -> None:
    with Crew(7) as workers:
        assert {process for _, (_, process) in workers.map(product, range(crew.ALONE))} == {os.getpid()}
    with Crew(7, processes=1) as workers:
        assert {process for _, (_, process) in workers.map(product, range(99))} == {os.getpid()}


@pytest.mark.usefixtures("eager")
def test_what_killed_processes_leave_is_done_here() -> None:
    with Crew(os.getpid(), processes=2) as workers:
        assert list(workers.map(die_elsewhere, range(9))) == [(task, task + 1) for task in range(9)]


@pytest.mark.usefixtures("eager")
def test_an_error_in_another_process_arrives_and_the_processes_end() -> None:
    with pytest.raises(ValueError, match="task 0"), Crew(0, processes=2) as workers:
        list(workers.map(refuse, range(5)))
    assert not [path for path in Path("/proc").glob("[0-9]*") if _is_child(path)]


def _is_child(path: Path) -> bool:
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid()) and (
            "spawn_main" in (path / "cmdline").read_text()
        )
    except OSError:
        return False


@pytest.mark.usefixtures("eager")
def test_tasks_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def tasks() -> object:
        for task in range(1000):
            taken.append(task)
            yield task

    with Crew(1, processes=2) as workers:
        for _ in workers.map(product, tasks()):  # type: ignore[arg-type]
            assert len(taken) < 20
            break
