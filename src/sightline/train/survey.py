"""How long a run's samples are, before anything is prepared.

Comes in: a recipe, its processor if there is one. Goes out: how many samples there are, and the lengths of some:
counted with the tokenizer where the data files exist, else those of a stated assumption. Opens a few pictures.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

from sightline.data.image import open_image
from sightline.data.layouts import data_files
from sightline.data.mixture import batch_indexes, epoch_samples
from sightline.data.parsing import located_samples, read_samples
from sightline.data.processor import Processor
from sightline.data.sample import Sample
from sightline.data.tokens import IGNORE
from sightline.errors import DataError
from sightline.recipe import DataSource, Recipe
from sightline.train.samples import mix_of

MOST = 2000
"""Samples that are tokenised; more would change no figure of the plan by a percent."""
PICTURES_READ = 9
"""Pictures that are opened and timed; the plan takes their median."""
STEPS_SEEN = 200
"""Steps whose rows are laid out to find the largest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Length:
    """A sample's positions (pictures included), tokens with a loss, pictures."""

    positions: int
    trained: int
    pictures: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """`count` samples come in an epoch, `seen` of them (or of an assumption) stand for all; `source` says which."""

    count: int
    seen: tuple[Length, ...]
    source: str


# (share in percent, positions of text, trained among them, pictures). Shares: the counts of LLaVA's published files
# (haotian-liu/LLaVA issues 657 and 702); the lengths are assumed.
_CAPTIONS = ((100, 36, 28, 1),)
_CAPTIONS_COUNT = 558_128
_INSTRUCTIONS = (
    (6, 900, 600, 0),  # ShareGPT, text alone: 40,688
    (24, 400, 260, 1),  # LLaVA-Instruct: 157,712
    (47, 190, 30, 1),  # VQAv2, GQA, OKVQA, A-OKVQA, OCR-VQA: 310,081
    (20, 320, 150, 1),  # RefCOCO, Visual Genome: 134,864
    (3, 100, 20, 1),  # TextCaps: 21,953
)
_INSTRUCTIONS_COUNT = 665_298


def survey(recipe: Recipe, processor: Processor | None, *, picture_tokens: int) -> Survey:
    """Reads the recipe's data where all its files are there and there is a tokenizer; otherwise assumes.

    Args:
        picture_tokens: positions of one picture.

    Raises:
        DataError: a file is no data file, or holds no usable sample.
    """
    missing = [source.path for source in recipe.data if not _is_here(source)]
    if processor is None or missing:
        return assumed(recipe, picture_tokens, why=f"{missing[0]} is not here" if missing else "no tokenizer is here")
    by_source = [
        read_samples(
            Path(source.path),
            on_reject=lambda rejection: None,  # the run itself refuses or counts them
            number_repeated_ids=source.repeated_ids == "number",
        )
        for source in recipe.data
    ]
    samples = [sample for part in by_source for sample in part]
    mix = mix_of(recipe.data, [len(part) for part in by_source])
    if mix is not None:
        samples = [samples[index] for index in epoch_samples(0, seed=recipe.seed, mix=mix)]
    stride = max(1, -(-len(samples) // MOST))
    seen = []
    for sample in samples[::stride]:
        try:
            encoded = processor.encode(sample)
        except DataError:
            continue
        trained = sum(label != IGNORE for label in encoded.labels[1:])
        seen.append(Length(positions=len(encoded.ids), trained=trained, pictures=len(sample.images)))
    if not seen:
        raise DataError(
            f"{recipe.data[0].path}: no usable samples; see sightline check or inspect", reason="no_samples"
        )
    some = "all" if stride == 1 else f"{len(seen):,} of {len(samples):,}"
    return Survey(count=len(samples), seen=tuple(seen), source=f"{some} samples of the recipe's data")


def assumed(recipe: Recipe, picture_tokens: int, *, why: str) -> Survey:
    """Captions (LLaVA's 558K) where only the connector or the encoder trains, else LLaVA-1.5's 665K mixture."""
    instructs = "language" in recipe.train.lr
    kinds = _INSTRUCTIONS if instructs else _CAPTIONS
    seen = [
        Length(positions=min(recipe.max_length, text + pictures * picture_tokens), trained=trained, pictures=pictures)
        for share, text, trained, pictures in kinds
        for _ in range(share)
    ]
    name = "LLaVA-1.5's 665K mixture" if instructs else "558K captions"
    count = _INSTRUCTIONS_COUNT if instructs else _CAPTIONS_COUNT
    return Survey(count=count, seen=tuple(seen), source=f"assumed, as {why}: {name}")


def steps_of(recipe: Recipe, found: Survey, *, steps: int) -> list[list[Length]]:
    """The samples of the first steps: the run's own when all were seen, else such as they might be."""
    seen, settings = found.seen, recipe.train
    kinds = bytes(bool(one.pictures) for one in seen) if settings.group_by_modality else None
    return [
        [
            seen[index]
            for index in batch_indexes(step, num_samples=len(seen), batch=settings.batch, seed=recipe.seed, kinds=kinds)
        ]
        for step in range(min(steps, STEPS_SEEN))
    ]


def _is_here(source: DataSource) -> bool:
    try:
        return all(path.is_file() for path in data_files(Path(source.path)))
    except DataError:
        return False


def seconds_per_picture(recipe: Recipe, processor: Processor | None) -> float:
    """What reading, cutting and scaling a picture takes here; 0 where none of the data is."""
    source = recipe.data[0]
    if processor is None or not _is_here(source):
        return 0.0
    images = None if source.images is None else Path(source.images)
    found = located_samples(Path(source.path), images, number_repeated_ids=source.repeated_ids == "number")
    shown = ((picture, root) for sample, root in found if isinstance(sample, Sample) for picture in sample.images)
    times = []
    for picture, root in itertools.islice(shown, PICTURES_READ):
        started = time.perf_counter()
        try:
            processor.pixels([open_image(picture, root=root)])
        except DataError:
            continue
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2] if times else 0.0
