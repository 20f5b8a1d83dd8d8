import shutil
from pathlib import Path

import pytest

from sightline.model.checkpoint import save_checkpoint
from tests.fakes import tiny_model

INFO = {"template": "own", "image_policy": "pad", "recipe": {"steps": 3, "lr": {"connector": 1e-3}}}


def write_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").write_text("{}")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good checkpoint in several shards; tests damage copies of it."""
    directory = tmp_path_factory.mktemp("checkpoint") / "pristine"
    save_checkpoint(tiny_model(), directory, info=INFO, extra_files=write_tokenizer, shard_bytes=50_000)
    return directory


@pytest.fixture
def saved(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "saved"))
