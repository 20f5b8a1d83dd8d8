"""From a sample to the tensors that a model takes, for training, evaluation, chat and serving alike.

Comes in: samples or turns, and where their pictures lie. Goes out: `Example`s (ids, labels, pixels) and prompts. Saved
with the checkpoint, as settings of ours and as the processor that transformers loads. Does not know models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerBase

from sightline.data.feature_store import StoredPictures
from sightline.data.hub_processor import save_hub_processor
from sightline.data.image import open_image
from sightline.data.piece_scores import order_merges_by_score
from sightline.data.pixels import ImageTransform
from sightline.data.sample import Sample, Turn
from sightline.data.template import build_template
from sightline.data.tokens import Encoded, EncodedSegment, SegmentEncoder, Truncated, truncate
from sightline.errors import ConfigError

IMAGE_TOKEN = "<image>"
"""The placeholder's name in the vocabulary, as in llava-hf checkpoints."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One sample as a model takes it.

    Attributes:
        input_ids: int64[T], one placeholder per image feature.
        labels: int64[T], the id where it is trained on, -100 elsewhere; not shifted.
        pixels: float32[N, 3, H, W], the sample's pictures in reading order; N may be 0.
        pictures: N names; equal names are the same picture.
        features: N tensors float[K, C], what a frozen encoder makes of the pictures; then there are no pixels.
    """

    id: str
    input_ids: Tensor
    labels: Tensor
    pixels: Tensor
    pictures: tuple[str, ...]
    features: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessorSettings:
    """What a processor is made of, beside its tokenizer.

    `image_tokens` is K, the features per picture; `patch_size` in pixels and `num_prefix_tokens` (class token,
    registers) are the encoder's, for the processor that other software loads.
    """

    template: str
    image_policy: str
    image_size: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    image_tokens: int
    patch_size: int
    num_prefix_tokens: int
    max_length: int


class Processor:
    """The one way from a conversation to tokens, and from pictures to pixels."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: ProcessorSettings) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self.image_token_id = add_image_token(tokenizer)
        self.template = build_template(settings.template, tokenizer)
        self.transform = ImageTransform(
            policy="pad" if settings.image_policy == "pad" else "crop",
            size=settings.image_size,
            mean=settings.image_mean,
            std=settings.image_std,
        )
        self._encoder = SegmentEncoder(tokenizer, image_token_id=self.image_token_id)

    @property
    def pad_id(self) -> int:
        """Fills rows; masked everywhere, so any id serves when the tokenizer has none for it."""
        found = self.tokenizer.pad_token_id
        return int(found) if found is not None else 0

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return frozenset(self._encoder.token_id(token) for token in self.template.stop)

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer opens every text with its BOS."""
        return self._encoder.adds_bos

    @property
    def legacy(self) -> bool:
        """Whether the tokenizer is of the kind that puts a space before words after a special token too."""
        return self._encoder.plain.scheme == "always"

    def encode(self, sample: Sample) -> Truncated:
        """Ids and labels of a sample, cut to `max_length`; opens no picture.

        Raises:
            DataError: the template has no form for it, a picture would be cut, or nothing trained is left.
        """
        encoded = self._encoder.encode(self.template.render(sample), image_tokens=self.settings.image_tokens)
        return truncate(
            encoded,
            max_length=self.settings.max_length,
            image_token_id=self.image_token_id,
            where=sample.source or sample.id,
        )

    def pieces(self, sample: Sample) -> list[EncodedSegment]:
        """What `encode` makes ids and labels of, segment by segment, before anything is cut. `DataError` as there."""
        return list(self._encoder.pieces(self.template.render(sample), image_tokens=self.settings.image_tokens))

    def example(self, sample: Sample, *, root: Path | None, stored: StoredPictures | None = None) -> Example:
        """A sample with its pictures, which lie under `root`. `DataError` as in `encode` and `open_image`.

        Args:
            stored: knows pictures by their names; of a sample whose pictures it has all, none is opened.
        """
        encoded = self.encode(sample)
        pictures = tuple(picture_name(path, root) for path in sample.images)
        features = None if stored is None else stored.all_of(pictures)
        opened = [open_image(path, root=root) for path in sample.images] if features is None else []
        return Example(
            id=sample.id,
            input_ids=torch.tensor(encoded.ids),
            labels=torch.tensor(encoded.labels),
            pixels=self.pixels(opened),
            pictures=pictures,
            features=features,
        )

    def prompt(self, turns: Sequence[Turn], *, system: str | None = None) -> list[int]:
        """Ids up to an open answer: a prefix of what training sees for the same turns."""
        segments = self.template.prompt(turns, system=system)
        encoded: Encoded = self._encoder.encode(segments, image_tokens=self.settings.image_tokens)
        return encoded.ids

    def pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures of any size -> float32[N, 3, H, W]."""
        size = self.settings.image_size
        if not pictures:
            return torch.zeros(0, 3, size, size)
        return torch.from_numpy(np.stack([self.transform(picture) for picture in pictures]))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids, without the end marker."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def save(self, directory: Path) -> None:
        """Writes the tokenizer and the processor that `transformers.AutoProcessor` loads, next to a model.

        The settings of ours (`describe`) are not among these files: they belong into the checkpoint's own.
        """
        save_hub_processor(self, directory)

    def describe(self) -> dict[str, Any]:
        """The settings, as JSON has them, for the checkpoint's own file."""
        settings = asdict(self.settings)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def picture_name(path: str, root: Path | None) -> str:
    """What a picture is called in examples and batches."""
    return f"{root}:{path}"


def add_image_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of `<image>`, which is added to the vocabulary when it is not in it."""
    if IMAGE_TOKEN not in tokenizer.get_added_vocab():
        tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    found: int = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    return found


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """A tokenizer from a directory or the hub; `ConfigError` in one line when there is none."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'model.tokenizer: no tokenizer at "{source}"; give a directory with tokenizer.json, or a hub id'
        ) from error
    order_merges_by_score(tokenizer)
    return tokenizer


def load_processor(directory: Path, settings: Mapping[str, Any]) -> Processor:
    """The processor that was saved with a checkpoint; `settings` are those that `describe` gave."""
    fields = dict(settings)
    for name in ("image_mean", "image_std"):
        fields[name] = tuple(fields[name])
    return Processor(load_tokenizer(str(directory)), ProcessorSettings(**fields))
