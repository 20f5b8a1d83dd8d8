"""What the tests of training share: one small world, and one finished stage 1 in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.small_run import align_recipe, make_world, trained


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts, pictures and data files; tests that change any of them make their own."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def aligned(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage 1, to be read only."""
    with pytest.MonkeyPatch.context() as patch:
        _without_plot(patch)
        return trained(align_recipe(world, tmp_path_factory.mktemp("aligned") / "run"))


@pytest.fixture(autouse=True)
def _no_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training; `test_plot` draws."""
    _without_plot(monkeypatch)


def _without_plot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("sightline.train.loop.plot_run", lambda rows, path, *, title: path.write_bytes(b""))
