"""Features of a frozen encoder from disk instead of from the encoder, where a run ends sooner that way.

Comes in: a run's settings, its samples, how it encodes. Goes out: the features of its pictures, stored before the first
step; or nothing, where a short measurement says that encoding is faster, or where the disk will not have them. What was
decided, and why, is said in one line; a run that goes on after a stop keeps to it, and so ends with the same bits.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import numpy as np

from sightline.atomic import read_json, write_atomic
from sightline.data.feature_store import FeatureStore, StoredPictures, copy_record
from sightline.data.processor import picture_name
from sightline.errors import ConfigError
from sightline.recipe import TrainSpec
from sightline.train.encoding import Encoding, Picture, median_seconds
from sightline.train.ranks import Ranks
from sightline.train.samples import SampleSet

DECISION_FILE = "feature_cache.json"
"""In the run's directory: whether which features are used."""
MARGIN = 0.9
"""The cache is used where a run takes at most this part of the time without it: no measurement is exact."""
TRIAL_BYTES = 2**26
"""What is written and read to see how fast the disk is."""
SAY_EVERY = 15.0
"""Seconds between two lines of progress."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSeconds:
    """What one picture takes: its file's SHA-256; decoding and encoding; writing and reading its features."""

    hash: float
    encode: float
    write: float
    read: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What the pictures of a run take: `shown` times one of `pictures` different ones, of which `stored` are there."""

    seconds: PictureSeconds
    shown: int
    pictures: int
    stored: int

    @property
    def without_cache(self) -> float:
        """Seconds for all of them; that a picture which a row shows twice is encoded once is not counted."""
        return self.shown * self.seconds.encode

    @property
    def with_cache(self) -> float:
        """Seconds for all of them, the filling included."""
        filling = (self.pictures - self.stored) * (self.seconds.encode + self.seconds.write)
        return self.pictures * self.seconds.hash + filling + self.shown * self.seconds.read

    @property
    def wins(self) -> bool:
        """Whether the cache is worth it."""
        return self.with_cache <= MARGIN * self.without_cache

    def __str__(self) -> str:
        return (
            f"{self.shown:,} showings of {self.pictures:,} pictures, {self.stored:,} of them stored, take "
            f"{self.with_cache:,.1f} s with it and {self.without_cache:,.1f} s without "
            f"({self.seconds.read * 1e3:.2f} ms to read one, {self.seconds.encode * 1e3:.2f} ms to encode it)"
        )


def validations_to_come(*, start: int, total: int, every: int) -> int:
    """How often a run measures its validation loss between two steps: every so many, and at the end."""
    if start >= total:
        return 0
    regular = total // every - start // every if every else 0
    return regular + (not every or total % every != 0)


def check_place(settings: TrainSpec) -> None:
    """`ConfigError` where the cache cannot be a directory."""
    place = settings.feature_cache
    if place is not None and Path(place).exists() and not Path(place).is_dir():
        raise ConfigError(f"train.feature_cache: {place} is a file; give a directory")


@dataclass(kw_only=True, slots=True)
class FeatureCache:
    """The choice for one run.

    `start` steps of `total` are done; `directory` is the run's; `reserve` are bytes that the run itself still needs.
    """

    settings: TrainSpec
    encoding: Encoding
    samples: SampleSet
    validation: SampleSet
    start: int
    total: int
    directory: Path
    reserve: int
    say: Say

    def choose(self) -> StoredPictures | None:
        """The features of the run's pictures, all there; None: they are encoded in the steps, as without a cache."""
        key, found = self._look()
        if key is not None:
            write_atomic(self.directory / DECISION_FILE, json.dumps({"key": key, "used": found is not None}) + "\n")
        return found

    def follow(self) -> StoredPictures | None:
        """The features that another process of the run chose, and stored."""
        always = self.settings.model_copy(update={"feature_cache_policy": "always"})
        _, found = replace(self, settings=always)._look()
        return found

    def _look(self) -> tuple[str | None, StoredPictures | None]:
        """The store's key and the features; without a key there was nothing to decide."""
        place = self.settings.feature_cache
        if place is None or self.start >= self.total:
            return None, None
        pictures, shown = self._pictures()
        if not pictures:
            self.say("feature cache not used: there are no pictures")
            return None, None
        key, found = "", None
        try:
            store = FeatureStore(
                Path(place), self.encoding.origin(), shape=self.encoding.shape, dtype=self.encoding.vision.dtype
            )
            key = store.key
            found = self._decide(store, pictures, shown)
        except OSError as error:
            self.say(f"feature cache not used: {place}: {error.strerror or error}; the run goes on without it")
        return key, found

    def _decide(self, store: FeatureStore, pictures: Sequence[Picture], shown: int) -> StoredPictures | None:
        before = self._decided_before(store.key)
        if before is False:
            self.say("feature cache not used, as before the run was stopped")
            return None
        seconds = None
        if before is None and self.settings.feature_cache_policy == "auto":
            seconds = self._measure(store, pictures)
            if self._loses(seconds, shown, len(pictures), min(len(store), len(pictures))):
                return None  # not even if all that is stored were of this run, which reading all files would tell
        digests = self.encoding.digests(pictures)
        missing = {digests[one.name]: one for one in pictures if one.name in digests and digests[one.name] not in store}
        different = len(set(digests.values()))
        stored = different - len(missing)
        if seconds is not None and self._loses(seconds, shown, different, stored):
            return None
        if not self._fits(store, len(missing)):
            return None
        why = "as the recipe says" if before is None else "as before the run was stopped"
        if seconds is not None:
            why = str(Forecast(seconds=seconds, shown=shown, pictures=different, stored=stored))
        self.say(f"feature cache used: {why}; {stored:,} of {different:,} pictures are in {store.directory}")
        if missing:
            self._fill(store, missing, digests)
        return StoredPictures(store, digests)

    def _decided_before(self, key: str) -> bool | None:
        """What was decided about these features when the run began; None: nothing, or nothing that must be kept to."""
        path = self.directory / DECISION_FILE
        if not self.start or not path.exists() or self.settings.feature_cache_policy == "always":
            return None
        found = read_json(path)
        return bool(found.get("used")) if isinstance(found, dict) and found.get("key") == key else None

    def _pictures(self) -> tuple[list[Picture], int]:
        """The pictures of the run, each once, by name; and how often the steps and validations to come show one."""
        found: dict[str, Picture] = {}
        steps = self.samples.showings() * (self.total - self.start) * self.settings.batch / self.samples.per_epoch
        every = validations_to_come(start=self.start, total=self.total, every=self.settings.validate_every)
        validations = self.validation.showings() * every
        shown = 0.0
        for each, times in ((self.samples, steps), (self.validation, validations)):
            for index in compress(range(len(each)), each.shows_pictures):
                paths, root = each.samples[index].images, each.roots[index]
                shown += times[index] * len(paths)
                names = [picture_name(path, root) for path in paths]
                found |= {name: Picture(name, root, path) for name, path in zip(names, paths, strict=True)}
        return list(found.values()), round(shown)

    def _measure(self, store: FeatureStore, pictures: Sequence[Picture]) -> PictureSeconds:
        hashing, encoding = self.encoding.seconds(pictures)
        count = max(1, min(len(pictures), TRIAL_BYTES // store.record_bytes))
        write, read = storage_seconds(store.directory, record_bytes=store.record_bytes, count=count)
        return PictureSeconds(hash=hashing, encode=encoding, write=write, read=read / max(1, self.settings.workers))

    def _loses(self, seconds: PictureSeconds, shown: int, pictures: int, stored: int) -> bool:
        """Whether the cache is not worth it, which then is said."""
        forecast = Forecast(seconds=seconds, shown=shown, pictures=pictures, stored=stored)
        if not forecast.wins:
            self.say(f"feature cache not used: {forecast}; train.feature_cache_policy=always uses it all the same")
        return not forecast.wins

    def _fits(self, store: FeatureStore, missing: int) -> bool:
        """Whether the disk has room for what is missing, beside what the run needs for itself."""
        same = store.directory.stat().st_dev == self.directory.stat().st_dev
        free = shutil.disk_usage(store.directory).free - (self.reserve if same else 0)
        needed = missing * store.record_bytes
        if needed > free:
            self.say(
                f"feature cache not used: {store.directory} has {max(free, 0) / 2**30:.1f} GiB to spare, the features "
                f"of {missing:,} pictures take {needed / 2**30:.1f}"
            )
        return needed <= free

    def _fill(self, store: FeatureStore, missing: dict[bytes, Picture], digests: dict[str, bytes]) -> None:
        """Encodes and stores what is missing. What changed since it was hashed goes by what it is now."""
        with store.writing(wait=lambda: self.say("feature cache: waiting for a run that is filling it")) as add:
            pictures = [picture for digest, picture in missing.items() if digest not in store]
            done, said = 0, time.monotonic()
            with closing(self.encoding.all_features(pictures)) as source:
                for some, found, features in source:
                    add(found, features)
                    digests.update({picture.name: digest for picture, digest in zip(some, found, strict=True)})
                    done += len(some)
                    if time.monotonic() - said > SAY_EVERY:
                        self.say(f"feature cache: {done:,} of {len(pictures):,} pictures encoded")
                        said = time.monotonic()
        if pictures:
            self.say(f"feature cache: {done:,} pictures encoded")


def choose_together(cache: FeatureCache, ranks: Ranks) -> StoredPictures | None:
    """The first rank's choice, for all: it measures and fills, the others then find the features."""
    stored = cache.choose() if ranks.first else None
    if ranks.largest(int(stored is not None)) and not ranks.first:
        stored = cache.follow()
    ranks.largest(0)  # the others read all pictures' files meanwhile, which may take longer than a step ever should
    return stored


def storage_seconds(directory: Path, *, record_bytes: int, count: int) -> tuple[float, float]:
    """Seconds to write a record and to read it back from the disk, not from memory. Leaves nothing behind.

    Raises:
        OSError: there is no room for `count` records, or no writing here.
    """
    content = np.frombuffer(random.Random(0).randbytes(record_bytes), dtype=np.uint8)
    with tempfile.TemporaryFile(dir=directory) as file:
        started = time.perf_counter()
        for _ in range(count):
            file.write(content.data)
        file.flush()
        os.fsync(file.fileno())
        write = (time.perf_counter() - started) / count
        if hasattr(os, "posix_fadvise"):  # not on macOS, where reading then looks faster than it is
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        into = np.empty_like(content)
        read = median_seconds(
            lambda number: copy_record(mapped, number, into), random.Random(1).sample(range(count), count)
        )
        mapped.close()
    return write, read
