"""What the tests of exports share: one checkpoint of ours, made once for each of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exchange.ours import save_ours


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with random weights, to be read only."""
    return save_ours(tmp_path_factory.mktemp("ours") / "run")
