"""How a run's frozen encoder sees pictures: one after the other, apart from any step.

Comes in: an encoder in its place, a processor, pictures by name. Goes out: their features under the SHA-256 of their
files, what these features depend on beside the picture, and how long each part of it takes. Does not know stores.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import PIL
import torch
import transformers
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sightline.data.feature_store import bytes_of
from sightline.data.image import open_image, read_image_file
from sightline.data.processor import Processor
from sightline.errors import DataError
from sightline.model.vision import VisionEncoder
from sightline.train.device import autocast

AT_ONCE = 16
"""Pictures that a GPU encodes together. Always as many, so that no feature depends on how many there were; a CPU, which
gains nothing from company, takes them one by one."""
TRIALS = 9
"""Pictures whose times are taken; the median counts."""
TRIAL_SECONDS = 3.0
"""After which the third measurement of a kind is the last."""

HASHED_AT_ONCE = 256
"""Files that a thread hashes before it reports."""

_IRRELEVANT = ("architectures", "dtype", "torch_dtype", "transformers_version", "name_or_path")
"""What an encoder's configuration says about files, and not about what it computes."""


class Picture(NamedTuple):
    """A picture: its name in examples and batches, and where it lies."""

    name: str
    root: Path
    path: str


@dataclass(frozen=True, slots=True)
class _Opened:
    picture: Picture
    digest: bytes
    pixels: Tensor


class _Pictures(Dataset[_Opened | None]):
    """Number -> the picture, opened; None when it cannot be: the step that shows it says why."""

    def __init__(self, processor: Processor, pictures: Sequence[Picture]) -> None:
        self._processor = processor
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, number: int) -> _Opened | None:
        picture = self._pictures[number]
        try:
            content = read_image_file(picture.path, root=picture.root)
            pixels = self._processor.pixels([open_image(content)])[0]
        except DataError:
            return None
        return _Opened(picture, hashlib.sha256(content).digest(), pixels)


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """What pictures go through in a run. `workers` processes read and decode them."""

    vision: VisionEncoder
    processor: Processor
    device: torch.device
    dtype: torch.dtype
    workers: int

    @property
    def shape(self) -> tuple[int, int]:
        """[K, C], of one picture's features."""
        return self.vision.tokens_per_image, self.vision.width

    @property
    def at_once(self) -> int:
        """Pictures that are encoded together."""
        return 1 if self.device.type == "cpu" else AT_ONCE

    def features(self, pixels: Tensor) -> Tensor:
        """Pixels float32[n, 3, H, W], `at_once` at most, to features [n, K, C] on the CPU, in the encoder's own type.

        Each picture's are the same bits in any company. Under autocast the encoder may answer in fp32; rounding that
        to bf16 is what the connector's first layer does anyway.
        """
        filled = torch.cat([pixels, pixels.new_zeros(self.at_once - len(pixels), *pixels.shape[1:])])
        self.vision.eval()
        with torch.no_grad(), autocast(self.device, self.dtype):
            found: Tensor = self.vision(filled.to(self.device))
        return found[: len(pixels)].to("cpu", self.vision.dtype)

    def all_features(
        self, pictures: Sequence[Picture]
    ) -> Generator[tuple[list[Picture], list[bytes], Tensor], None, None]:
        """Some pictures at a time: they, the SHA-256 of their files, their features [n, K, C].

        What cannot be opened is left out. Close the generator to end the workers.
        """
        opened = DataLoader(
            _Pictures(self.processor, pictures),
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=2 * AT_ONCE if self.workers else None,
        )
        group: list[_Opened] = []
        for number, one in enumerate(opened, start=1):
            if one is not None:
                group.append(one)
            if group and (len(group) == self.at_once or number == len(pictures)):
                features = self.features(torch.stack([each.pixels for each in group]))
                yield [each.picture for each in group], [each.digest for each in group], features
                group = []

    def digests(self, pictures: Sequence[Picture]) -> dict[str, bytes]:
        """Name -> SHA-256 of the picture's file; nothing for a file that cannot be read."""
        some = [pictures[start : start + HASHED_AT_ONCE] for start in range(0, len(pictures), HASHED_AT_ONCE)]
        with ThreadPoolExecutor(max(1, self.workers)) as pool:  # reading and hashing let other threads go on
            return {name: digest for found in pool.map(_digests, some) for name, digest in found.items()}

    def origin(self) -> dict[str, Any]:
        """All that features depend on beside the picture, as JSON has it.

        Releases of Pillow and transformers belong to it: the pixels of the same JPEG have changed with the former.
        """
        settings = self.processor.settings
        return {
            "encoder": encoder_digest(self.vision),
            "layer": self.vision.layer,
            "select": self.vision.select,
            "image_policy": settings.image_policy,
            "image_size": settings.image_size,
            "image_mean": settings.image_mean,
            "image_std": settings.image_std,
            "pillow": PIL.__version__,
            "transformers": transformers.__version__,
        }

    def seconds(self, pictures: Sequence[Picture]) -> tuple[float, float]:
        """Seconds that a picture takes to be hashed, and to be read, decoded and encoded.

        What workers do counts divided by their number: they do it at the same time.
        """
        some = pictures[:: -(-len(pictures) // TRIALS)]
        opened = _Pictures(self.processor, some)
        shared = max(1, self.workers)
        hashing = median_seconds(lambda number: _digests(some[number : number + 1]), range(len(some)))
        opening = median_seconds(opened.__getitem__, range(len(some)))
        side = self.processor.settings.image_size
        pixels = torch.zeros(self.at_once, 3, side, side)
        encoding = median_seconds(lambda _: self.features(pixels), range(TRIALS)) / self.at_once
        return hashing / shared, opening / shared + encoding


def median_seconds(trial: Callable[[int], object], numbers: Iterable[int]) -> float:
    """The median of what the trials of these numbers take; of the first three, if that was long."""
    times: list[float] = []
    for number in numbers:
        started = time.perf_counter()
        trial(number)
        times.append(time.perf_counter() - started)
        if len(times) >= 3 and sum(times) > TRIAL_SECONDS:
            break
    return statistics.median(times)


def encoder_digest(vision: VisionEncoder) -> str:
    """SHA-256 over the weights that features depend on, as they are held here, and over the encoder's configuration."""
    config = vision.backbone.config.to_dict()
    known = {key: value for key, value in config.items() if key not in _IRRELEVANT and not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode())
    for name, tensor in [*vision.backbone.named_parameters(), *vision.backbone.named_buffers()]:
        if name in vision.used_parameters:
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(bytes_of(tensor.detach().cpu()).data)
    return digest.hexdigest()


def _digests(pictures: Sequence[Picture]) -> dict[str, bytes]:
    found = {}
    for picture in pictures:
        with suppress(DataError):
            found[picture.name] = hashlib.sha256(read_image_file(picture.path, root=picture.root)).digest()
    return found
