"""The log: one row per step, also after kills and restarts, in the file and in TensorBoard's events."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sightline.train.log import LOG_FILE, RunLog, read_log, speed


def row(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "loss": 1.0 / step, "lr": 0.1, "tokens_per_second": 1000.0, **more}


def write(directory: Path, *, start: int, stop: int) -> None:
    with RunLog(directory, name="x", start=start, total=20, quiet=True) as log:
        for step in range(start + 1, stop + 1):
            log.step(row(step), write=True)


def steps_in(directory: Path) -> list[float]:
    return [found["step"] for found in read_log(directory / LOG_FILE)]


def events(directory: Path) -> dict[str, list[tuple[int, float]]]:
    reader = EventAccumulator(str(directory / "events"))
    reader.Reload()
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_each_step_is_one_line_of_json(tmp_path: Path) -> None:
    write(tmp_path, start=0, stop=3)
    lines = (tmp_path / LOG_FILE).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [row(1), row(2), row(3)]


def test_only_the_wanted_steps_are_written(tmp_path: Path) -> None:
    with RunLog(tmp_path, name="x", start=0, total=20, quiet=True) as log:
        for step in range(1, 7):
            log.step(row(step), write=step % 3 == 0)
    assert steps_in(tmp_path) == [3, 6]


def test_a_row_is_on_disk_when_the_step_is_over(tmp_path: Path) -> None:
    with RunLog(tmp_path, name="x", start=0, total=20, quiet=True) as log:
        log.step(row(1), write=True)
        assert steps_in(tmp_path) == [1]


@pytest.mark.parametrize("start", [0, 3, 6])
def test_steps_that_will_be_done_again_are_dropped_first(tmp_path: Path, start: int) -> None:
    write(tmp_path, start=0, stop=6)
    write(tmp_path, start=start, stop=8)
    assert steps_in(tmp_path) == list(range(1, 9))


@pytest.mark.parametrize("tail", ['{"step": 4, "lo', '{"step": 4, "loss": nul', "{", '{"step": 4}garbage'])
def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path: Path, tail: str) -> None:
    write(tmp_path, start=0, stop=3)
    with (tmp_path / LOG_FILE).open("a") as file:
        file.write(tail)
    assert steps_in(tmp_path) == [1, 2, 3]
    write(tmp_path, start=3, stop=5)
    assert steps_in(tmp_path) == [1, 2, 3, 4, 5]


def test_numbers_that_are_not_finite_are_null_and_names_stay(tmp_path: Path) -> None:
    with RunLog(tmp_path, name="x", start=0, total=20, quiet=True) as log:
        log.step(row(1) | {"loss": math.nan, "lr": math.inf, "skipped": ["a", "b"]}, write=True)
    line = (tmp_path / LOG_FILE).read_text()
    assert "NaN" not in line
    assert "Infinity" not in line
    assert json.loads(line) == row(1) | {"loss": None, "lr": None, "skipped": ["a", "b"]}


def test_tensorboard_shows_every_step_once_after_a_restart(tmp_path: Path) -> None:
    write(tmp_path, start=0, stop=6)
    write(tmp_path, start=4, stop=9)
    found = events(tmp_path)
    assert set(found) == {"train/loss", "train/lr", "train/tokens_per_second"}
    for values in found.values():
        assert [step for step, _ in values] == list(range(1, 10))
    assert [value for _, value in found["train/loss"]] == pytest.approx([1.0 / step for step in range(1, 10)])


def test_tensorboard_shows_each_benchmark(tmp_path: Path) -> None:
    with RunLog(tmp_path, name="x", start=0, total=20, quiet=True) as log:
        for step, pope in ((5, 0.5), (10, 0.75)):
            log.write({"step": step, "benchmarks": {"pope.mean_f1": pope, "mme.perception": None}})
    assert events(tmp_path) == {"benchmarks/pope.mean_f1": [(5, 0.5), (10, 0.75)]}
    assert [found["benchmarks"] for found in read_log(tmp_path / LOG_FILE)] == [
        {"pope.mean_f1": 0.5, "mme.perception": None},
        {"pope.mean_f1": 0.75, "mme.perception": None},
    ]


def test_the_bar_tells_what_is_done_between_two_steps(tmp_path: Path) -> None:
    with RunLog(tmp_path, name="x", start=0, total=2) as log:
        log.step(row(1), write=True)
        log.doing("pope: 16 of 200")
        (task,) = log._progress.tasks
        assert task.fields["speed"] == "pope: 16 of 200"
        assert task.completed == 1


def test_messages_and_the_bar_go_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path, name="x", start=0, total=2) as log:
        log.step(row(1), write=True)
        log.say("left out [3] samples: [red]one[/red]")
        log.step(row(2), write=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "left out [3] samples: [red]one[/red]" in err
    assert "loss 0.5000" in err


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({}, ""),
        ({"tokens_per_second": 12345.6}, "12,346 tokens/s"),
        ({"tokens_per_second": 900.0, "pictures_per_second": 3.14}, "900 tokens/s, 3.1 pictures/s"),
        ({"tokens_per_second": 900.0, "pictures_per_second": 0.0}, "900 tokens/s"),
        ({"flops_per_second": 4.2e10}, "42 GFLOP/s"),
        ({"flops_per_second": 4.2e10, "mfu": 0.514}, "MFU 51%"),
        ({"padding": 0.009, "data_wait": 0.009}, ""),
        ({"padding": 0.31, "data_wait": 0.04, "peak_memory_gib": 2.345}, "padding 31%, data wait 4%, 2.3 GiB"),
    ],
)
def test_the_bar_shows_the_figures_that_are_there(figures: dict[str, float], words: str) -> None:
    assert speed(figures, width=160) == words
    assert speed(figures, width=80) == words.partition(", ")[0]
