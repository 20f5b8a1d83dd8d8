"""The feature cache: the same losses with it and without; used where it wins, refilled where it is damaged."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from sightline.atomic import FAULT_VARIABLE
from sightline.config import dump_recipe
from sightline.data.feature_store import FeatureStore
from sightline.errors import ConfigError, DataError
from sightline.model.vision import VisionEncoder
from sightline.recipe import Recipe
from sightline.train import feature_cache
from sightline.train.encoding import Encoding
from sightline.train.feature_cache import Forecast, PictureSeconds, storage_seconds, validations_to_come
from sightline.train.log import LOG_FILE, read_log
from sightline.train.loop import train
from sightline.train.run import Run, prepare
from tests.train.small_run import STEPS, align_recipe, instruct_recipe, make_world, result_hashes, trained
from tests.train.test_loop import Crash, crashed, losses

PICTURES = 8
VALIDATED: dict[str, Any] = {"validate_every": 4}


def cached(cache: Path, policy: str = "always", **train: Any) -> dict[str, Any]:
    return {"feature_cache": str(cache), "feature_cache_policy": policy, **train}


def told(recipe: Recipe) -> tuple[Run, list[str]]:
    """A prepared run, its directory free again, and what it said of the cache."""
    said: list[str] = []
    run = prepare(recipe, say=said.append)
    run.release()
    return run, [line for line in said if "feature cache" in line]


def encoded(patch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures the encoder is given, call by call, from here on."""
    counts: list[int] = []
    forward = VisionEncoder.forward

    def counting(self: VisionEncoder, pixels: Tensor) -> Tensor:
        counts.append(len(pixels))
        return forward(self, pixels)

    patch.setattr(VisionEncoder, "forward", counting)
    return counts


def all_losses(directory: Path) -> list[float]:
    return [row[key] for row in read_log(directory / LOG_FILE) for key in ("loss", "validation_loss") if key in row]


def with_validation(world: Path, output: Path, **train: Any) -> Recipe:
    data = [{"path": str(world / "instruct.jsonl"), "images": str(world / "pictures")}]
    return instruct_recipe(world, output, start=None, train={**VALIDATED, **train}, validation=data)


@pytest.fixture
def own_world(tmp_path: Path) -> Path:
    """One whose pictures may change."""
    return make_world(tmp_path / "world")


# ---- the same result -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", [True, False])
def test_losses_are_the_same_without_with_a_cold_and_with_a_warm_cache(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: bool
) -> None:
    expected = all_losses(trained(with_validation(world, tmp_path / "off", packing=packing)))
    assert len(expected) == STEPS + 3
    counts = encoded(monkeypatch)
    settings = cached(tmp_path / "cache", packing=packing)
    cold = trained(with_validation(world, tmp_path / "cold", **settings))
    assert counts == [1] * 6  # the pictures that its samples show, one by one
    warm = trained(with_validation(world, tmp_path / "warm", **settings, workers=1))
    assert len(counts) == 6
    assert all_losses(cold) == pytest.approx(expected, rel=1e-6)
    assert all_losses(warm) == all_losses(cold)
    assert result_hashes(warm) == result_hashes(cold)


def test_a_run_that_died_ends_with_the_bits_of_one_that_did_not(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "MARGIN", math.inf)
    expected = trained(with_validation(world, tmp_path / "straight", **cached(tmp_path / "a", "auto")))
    broken = with_validation(world, tmp_path / "broken", **cached(tmp_path / "b", "auto"))
    crashed(broken, step=7)
    monkeypatch.setattr(feature_cache, "MARGIN", 0.0)  # it would decide otherwise now
    counts = encoded(monkeypatch)
    run, said = told(broken)
    assert run.state.step == 5
    assert said == [
        f"feature cache used: as before the run was stopped; 6 of 6 pictures are in {store_of(tmp_path / 'b')}"
    ]
    found = trained(broken)
    assert counts == []
    assert result_hashes(found) == result_hashes(expected)
    assert losses(found) == losses(expected)
    assert told(broken)[1] == []  # it is finished


def test_a_run_that_began_without_its_cache_goes_on_without_it(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "MARGIN", 0.0)
    expected = trained(align_recipe(world, tmp_path / "straight"))
    broken = align_recipe(world, tmp_path / "broken", train=cached(tmp_path / "cache", "auto"))
    crashed(broken, step=7)
    monkeypatch.setattr(feature_cache, "MARGIN", math.inf)
    run, said = told(broken)
    assert (run.samples.stored, said) == (None, ["feature cache not used, as before the run was stopped"])
    assert result_hashes(trained(broken)) == result_hashes(expected)


@pytest.mark.parametrize("way", ["kill", "crash"])
def test_a_run_that_died_filling_the_cache_ends_with_the_same_bits(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    expected = trained(align_recipe(world, tmp_path / "straight", train=cached(tmp_path / "a")))
    broken = align_recipe(world, tmp_path / "broken", train=cached(tmp_path / "b"))
    if way == "kill":
        killed_filling(broken, tmp_path / "recipe.yaml", after=5)
    else:
        crashed_filling(broken, after=4)
    counts = encoded(monkeypatch)
    _, said = told(broken)
    assert len(counts) == PICTURES - 4
    assert f"4 of {PICTURES} pictures are in " in said[0]
    assert said[1] == "feature cache: 4 pictures encoded"
    assert result_hashes(trained(broken)) == result_hashes(expected)


def killed_filling(recipe: Recipe, file: Path, *, after: int) -> None:
    """Dies when as many records are written, and the last one's entry is not."""
    file.write_text(dump_recipe(recipe))
    done = subprocess.run(
        [sys.executable, "-c", "from sightline.cli import main; main()", "train", str(file)],
        env={**os.environ, FAULT_VARIABLE: f"feature_records:{after}"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def crashed_filling(recipe: Recipe, *, after: int) -> None:
    features, count = Encoding.features, 0

    def crash(self: Encoding, pixels: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count > after:
            raise Crash
        return features(self, pixels)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Encoding, "features", crash)
        prepare(recipe, say=lambda message: None)


# ---- what misses -----------------------------------------------------------------------------------------------------


def store_of(cache: Path) -> Path:
    (found,) = [path for path in cache.iterdir() if (path / "features.bin").exists()]
    return found


def stored(recipe: Recipe) -> str:
    """How many of its pictures a run found in the cache."""
    return told(recipe)[1][0].split("; ")[1].partition(" pictures")[0]


def test_other_weights_another_layer_or_policy_or_picture_misses(own_world: Path, tmp_path: Path) -> None:
    settings = cached(tmp_path / "cache")
    parts = {"vision": str(own_world / "vision"), "language": str(own_world / "language")}

    def found(name: str, **changes: Any) -> str:
        return stored(align_recipe(own_world, tmp_path / name, train=settings, **changes))

    assert found("first") == "0 of 8"
    assert found("same") == "8 of 8"
    assert found("layer", model={**parts, "vision_layer": -1}) == "0 of 8"
    assert found("policy", image_policy="pad") == "0 of 8"
    assert found("unchanged") == "8 of 8"
    shutil.copy(own_world / "pictures" / "2.png", own_world / "pictures" / "3.png")
    assert found("twice the same bytes") == "7 of 7"
    Image.new("RGB", (40, 40), "red").save(own_world / "pictures" / "5.png")
    assert found("another picture") == "6 of 7"
    retouch(own_world / "vision" / "model.safetensors")
    assert found("weights") == "0 of 7"


def retouch(path: Path) -> None:
    """One weight of the encoder's first layer is another."""
    tensors = load_file(path)
    name = next(name for name in tensors if "layers.0.mlp.fc1.weight" in name)
    tensors[name].view(-1)[0] += 0.01
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_picture_that_changes_is_trained_on_as_it_is_now(own_world: Path, tmp_path: Path) -> None:
    settings = cached(tmp_path / "cache")
    trained(align_recipe(own_world, tmp_path / "first", train=settings))
    Image.new("RGB", (40, 40), "red").save(own_world / "pictures" / "5.png")
    expected = all_losses(trained(align_recipe(own_world, tmp_path / "off")))
    assert all_losses(trained(align_recipe(own_world, tmp_path / "on", train=settings))) == pytest.approx(expected)


def test_a_damaged_record_is_encoded_in_the_step_and_stored_anew_by_the_next_run(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cached(tmp_path / "cache")
    expected = trained(align_recipe(world, tmp_path / "first", train=settings))
    records = store_of(tmp_path / "cache") / "features.bin"
    content = bytearray(records.read_bytes())
    content[len(content) // 2] ^= 1
    records.write_bytes(content)
    counts = encoded(monkeypatch)
    found = trained(align_recipe(world, tmp_path / "damaged", train=settings))
    assert set(counts) == {1}
    assert all_losses(found) == pytest.approx(all_losses(expected), rel=1e-6)
    recipe = align_recipe(world, tmp_path / "again", train=settings)
    assert stored(recipe) == "7 of 8"
    assert stored(recipe) == "8 of 8"


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_picture_that_broke_is_treated_as_without_a_cache(
    own_world: Path, tmp_path: Path, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_world / "pictures" / "0.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # its header is whole
    bad = {"policy": policy, "max_fraction": 1.0}
    run, _ = told(align_recipe(own_world, tmp_path / "run", train=cached(tmp_path / "cache"), bad_samples=bad))
    if policy == "fail":
        with pytest.raises(DataError, match=r"0\.png"):
            train(run, quiet=True)
        return
    train(run, quiet=True)
    assert run.state.lost > 0
    assert capsys.readouterr().err.count("left out at step ") == run.state.lost


# ---- what is decided -------------------------------------------------------------------------------------------------

FAST_DISK = PictureSeconds(hash=0.001, encode=1.0, write=0.01, read=0.002)
SLOW_DISK = PictureSeconds(hash=0.001, encode=0.01, write=0.02, read=0.02)
FAIR_DISK = PictureSeconds(hash=0.0, encode=1.0, write=0.0, read=0.5)


@pytest.mark.parametrize(
    ("seconds", "shown", "pictures", "stored", "without_cache", "with_cache", "wins"),
    [
        (FAST_DISK, 100, 100, 0, 100.0, 0.1 + 101.0 + 0.2, False),  # each picture once: to store it is of no use
        (FAST_DISK, 200, 100, 0, 200.0, 0.1 + 101.0 + 0.4, True),  # two epochs
        (FAST_DISK, 100, 100, 100, 100.0, 0.1 + 0.2, True),  # another run has stored them
        (FAST_DISK, 100, 100, 11, 100.0, 0.1 + 89.89 + 0.2, False),  # a tenth must be saved
        (FAST_DISK, 100, 100, 12, 100.0, 0.1 + 88.88 + 0.2, True),
        (FAST_DISK, 1, 100, 100, 1.0, 0.1 + 0.002, True),  # a run that ends soon
        (FAST_DISK, 1, 1000, 1000, 1.0, 1.0 + 0.002, False),  # to hash all takes as long
        (SLOW_DISK, 10_000, 100, 100, 100.0, 0.1 + 200.0, False),  # the encoder is faster than the disk
        (FAIR_DISK, 10, 4, 0, 10.0, 9.0, True),
        (FAIR_DISK, 10, 5, 0, 10.0, 10.0, False),
        (FAIR_DISK, 0, 5, 0, 0.0, 5.0, False),
    ],
)
def test_the_cache_is_used_where_the_run_ends_sooner(
    seconds: PictureSeconds,
    shown: int,
    pictures: int,
    stored: int,
    without_cache: float,
    with_cache: float,
    wins: bool,
) -> None:
    forecast = Forecast(seconds=seconds, shown=shown, pictures=pictures, stored=stored)
    assert forecast.without_cache == pytest.approx(without_cache)
    assert forecast.with_cache == pytest.approx(with_cache)
    assert forecast.wins is wins


@pytest.mark.parametrize(
    ("start", "total", "every", "count"),
    [
        (0, 12, 0, 1),
        (0, 12, 4, 3),
        (0, 12, 5, 3),
        (5, 12, 5, 2),
        (4, 12, 5, 3),
        (10, 12, 5, 1),
        (12, 12, 5, 0),
        (0, 0, 3, 0),
    ],
)
def test_validations_are_counted_as_the_loop_takes_them(start: int, total: int, every: int, count: int) -> None:
    taken = [step for step in range(start + 1, total + 1) if step == total or (every and step % every == 0)]
    assert validations_to_come(start=start, total=total, every=every) == count == len(taken)


def timed(patch: pytest.MonkeyPatch, *, encode: float, read: float) -> None:
    """From here on the measurement finds these seconds for a picture."""
    patch.setattr(Encoding, "seconds", lambda self, pictures: (0.0, encode))
    patch.setattr(feature_cache, "storage_seconds", lambda directory, *, record_bytes, count: (0.0, read))


@pytest.mark.parametrize(("encode", "read", "used"), [(0.010, 0.001, True), (0.010, 0.009, False)])
def test_the_measurement_decides_and_one_line_says_so(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encode: float, read: float, used: bool
) -> None:
    timed(monkeypatch, encode=encode, read=read)
    data = [{"path": str(world / "align.json"), "images": str(world / "pictures")}]
    settings = {**cached(tmp_path / "cache", "auto"), "validate_every": 6}
    run, said = told(align_recipe(world, tmp_path / "run", train=settings, validation=data))
    assert (run.samples.stored is not None) is used
    assert run.samples.stored is run.validation.stored
    assert json.loads((run.directory / "feature_cache.json").read_text())["used"] is used
    assert len(said) == 1 + used
    # 12 steps of 4 captions, and twice the 13 of the validation data.
    assert said[0].startswith(
        f"feature cache {'' if used else 'not '}used: 74 showings of 8 pictures, 0 of them stored, "
    )
    assert "0.7 s without" in said[0]


def test_what_another_run_has_stored_is_worth_more(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, encode=0.010, read=0.001)
    recipe = align_recipe(world, tmp_path / "short", train=cached(tmp_path / "cache", "auto", steps=2))
    assert told(recipe)[0].samples.stored is None  # 8 showings of 8 pictures
    told(align_recipe(world, tmp_path / "long", train=cached(tmp_path / "cache", "auto")))
    assert told(recipe)[0].samples.stored is not None


def test_the_measurement_takes_moments_and_leaves_nothing(tmp_path: Path) -> None:
    write, read = storage_seconds(tmp_path, record_bytes=1000, count=8)
    assert write > 0
    assert read > 0
    assert list(tmp_path.iterdir()) == []


# ---- what is refused, and what only costs time -----------------------------------------------------------------------


def test_an_encoder_that_trains_is_refused(world: Path, tmp_path: Path) -> None:
    rates = {"lr": {"connector": 1e-3, "vision": 1e-4}}
    with pytest.raises(ConfigError, match=r"feature_cache .* vision"):
        align_recipe(world, tmp_path / "run", train={**cached(tmp_path / "cache"), **rates})


def test_a_file_is_refused_before_anything_is_read(world: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(ConfigError, match=r"^train\.feature_cache: .*/cache is a file; give a directory$"):
        told(align_recipe(world, tmp_path / "run", train=cached(tmp_path / "cache")))
    assert not (tmp_path / "run").exists()


def test_a_disk_without_room_is_one_line_and_the_run_goes_on(
    world: Path, aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 0

    recipe = align_recipe(world, tmp_path / "run", train=cached(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr("sightline.train.run._check_space", lambda *arguments: None)
        patch.setattr("sightline.train.feature_cache.shutil.disk_usage", lambda path: Full)
        run, said = told(recipe)
    assert said == [
        f"feature cache not used: {store_dir(run, tmp_path)} has 0.0 GiB to spare, the features of 8 pictures take 0.0"
    ]
    train(run, quiet=True)
    assert result_hashes(run.directory) == result_hashes(aligned)


def store_dir(run: Run, tmp_path: Path) -> Path:
    return tmp_path / "cache" / json.loads((run.directory / "feature_cache.json").read_text())["key"]


def test_a_disk_that_fills_while_the_cache_does_is_one_line_and_the_run_goes_on(
    world: Path, aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: FeatureStore, name: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FeatureStore, "_open", full)
    run, said = told(align_recipe(world, tmp_path / "run", train=cached(tmp_path / "cache")))
    assert said[1:] == [
        f"feature cache not used: {tmp_path / 'cache'}: No space left on device; the run goes on without it"
    ]
    train(run, quiet=True)
    assert result_hashes(run.directory) == result_hashes(aligned)


def test_progress_is_said_now_and_then(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "SAY_EVERY", -1.0)
    _, said = told(align_recipe(world, tmp_path / "run", train=cached(tmp_path / "cache")))
    assert said[1:] == [
        *[f"feature cache: {done} of 8 pictures encoded" for done in range(1, 9)],
        "feature cache: 8 pictures encoded",
    ]


def test_without_pictures_there_is_nothing_to_store(world: Path, tmp_path: Path) -> None:
    texts: Sequence[str] = [
        line for line in (world / "instruct.jsonl").read_text().splitlines() if "image" not in json.loads(line)
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(texts) + "\n")
    data = [{"path": str(tmp_path / "texts.jsonl")}]
    recipe = instruct_recipe(world, tmp_path / "run", start=None, train=cached(tmp_path / "cache"), data=data)
    run, said = told(recipe)
    assert (run.samples.stored, said) == (None, ["feature cache not used: there are no pictures"])
