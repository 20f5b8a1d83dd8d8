"""What a run is: the recipe, as types.

Comes in: nested mappings (from `config`). Goes out: a frozen `Recipe`, every field checked, contradictions named.
Knows no torch and opens no file. A stage is data: `train.lr` names the parts that train; one without a rate is frozen.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

PartName = Literal["vision", "connector", "language"]
PARTS: tuple[PartName, ...] = ("vision", "connector", "language")

MIN_TEXT = 16
"""Positions that must remain for text beside one picture; fewer cannot hold a question and its answer."""


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Rate = Annotated[float, Field(gt=0, lt=10), AfterValidator(_finite)]
Finite = Annotated[float, AfterValidator(_finite)]


class Spec(BaseModel):
    """Unknown keys are errors, values do not change, numbers are not guessed from strings of other types."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BuiltPart(Spec):
    """A part with random weights: a transformers configuration, or the path of a `config.json`."""

    config: dict[str, Any] | str


class ModelSpec(Spec):
    """Where the parts come from: a Sightline checkpoint (`start`), or `vision` and `language` with a new connector."""

    start: str | None = None
    vision: str | BuiltPart | None = None
    language: str | BuiltPart | None = None
    tokenizer: str | None = None
    """Directory or hub id of the tokenizer; where the language model is, if not given."""
    connector: str = "mlp2x_gelu"
    vision_layer: int = -2
    vision_select: Literal["patch", "cls_patch"] = "patch"
    fresh_connector: bool = False
    """Allow the language model to train beside a connector that no stage 1 has aligned (a one-stage recipe)."""

    @model_validator(mode="after")
    def _one_origin(self) -> ModelSpec:
        given = sorted(self.model_fields_set - {"start", "fresh_connector"})
        if self.start is not None and given:
            raise ValueError(f"`start` takes all parts from a checkpoint; remove {', '.join(given)}, or remove `start`")
        if self.start is None and (self.vision is None or self.language is None):
            missing = [name for name in ("vision", "language") if getattr(self, name) is None]
            raise ValueError(f"{' and '.join(missing)} missing: give vision and language, or `start: CHECKPOINT`")
        return self


class DataSource(Spec):
    """Samples from one origin.

    `path` is a file (JSON, JSONL, `.parquet`, or a `.tar` in WebDataset's layout), a folder of such files of one kind,
    or a pattern such as `shards/*.tar`. `images` is the folder that picture paths are relative to; the file's own if
    not given.
    """

    path: str
    images: str | None = None
    weight: Annotated[Finite, Field(gt=0, le=1000)] | None = None
    """How often each sample comes in an epoch, on average: 2 is twice, 0.5 is every other epoch. Once if not given."""
    count: Annotated[int, Field(ge=1)] | None = None
    """How many of its samples come in an epoch, instead of `weight`."""
    repeated_ids: Literal["refuse", "number"] = "refuse"
    """`number` turns a second `x` into `x#2`: in LLaVA's own instruction files an id names the picture."""

    @model_validator(mode="after")
    def _one_share(self) -> DataSource:
        if self.weight is not None and self.count is not None:
            raise ValueError("weight and count both say how many samples an epoch takes; keep one of them")
        return self


class BadSamples(Spec):
    """What to do with samples that cannot be used: stop before training, or skip up to a fraction of them."""

    policy: Literal["fail", "skip"] = "fail"
    max_fraction: Annotated[float, Field(ge=0, le=1)] = 0.001


class LoraSpec(Spec):
    """Low-rank adapters on the language model (Hu et al. 2021), through peft. Defaults: LLaVA-1.5's LoRA recipe."""

    rank: Annotated[int, Field(ge=1)] = 128
    alpha: Annotated[float, Field(gt=0)] = 256.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: str = "all-linear"
    """`all-linear`, or a regular expression over module names of the language model."""


class TrainSpec(Spec):
    """How a run trains. Batches count samples; `batch` is what one optimizer step sees over all devices."""

    lr: dict[PartName, Rate]
    epochs: Annotated[float, Field(gt=0)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    batch: Annotated[int, Field(ge=1)] = 128
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    """Samples that go through the model at once where batches are padded; see `samples_at_once`. Like `packing` and
    `row_length` it changes speed and memory, never the result."""
    packing: bool = True
    """Samples lie behind one another in rows without padding, each seeing itself alone. A language model that cannot
    take such rows is given padded batches."""
    row_length: Annotated[int, Field(ge=1)] | None = None
    """Positions of a packed row; a longer sample has a row to itself. See `row_length_on`."""
    feature_cache: str | None = None
    """A directory for what the frozen encoder makes of each picture, shared by epochs and runs. Like `packing` it
    changes speed, never the result beyond rounding."""
    feature_cache_policy: Literal["auto", "always"] = "auto"
    """`auto`: the cache is used where a short measurement at the start says that this run ends sooner with it."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Fraction of the steps over which the rate rises linearly from zero."""
    weight_decay: Annotated[Finite, Field(ge=0)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: Rate = 1e-8
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    lora: LoraSpec | None = None
    quantize: Literal["nf4"] | None = None
    """Keep the language model's frozen matrices in 4-bit NormalFloat (QLoRA, Dettmers et al. 2023); needs the extra
    `qlora`. The run saves the model in full precision all the same."""
    group_by_modality: bool = False
    """Batches hold either samples with pictures or samples without, as LLaVA-1.5's `group_by_modality_length`."""
    gradient_checkpointing: bool = False
    shard: bool = False
    """Of several processes each keeps its share of the language model's layers, and of their gradients and moments,
    instead of them all (FSDP2). Like `packing` it changes speed and memory, never the result."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    workers: Annotated[int, Field(ge=0)] = 0
    log_every: Annotated[int, Field(ge=1)] = 1
    save_every: Annotated[int, Field(ge=1)] = 500
    keep: Annotated[int, Field(ge=1)] = 2
    """Newest training states that stay on disk."""
    validate_every: Annotated[int, Field(ge=0)] = 0
    """Steps between two measurements of the validation loss; 0: only at the end, if there is validation data."""
    max_bad_steps: Annotated[int, Field(ge=0)] = 3
    """Steps with a non-finite loss or gradient that may follow one another; one more stops the run."""

    @model_validator(mode="after")
    def _consistent(self) -> TrainSpec:
        if not self.lr:
            raise ValueError("lr is empty: nothing would train; name at least one of vision, connector, language")
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        if self.micro_batch is not None and self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is not a multiple of micro_batch {self.micro_batch}")
        if self.feature_cache is not None and "vision" in self.lr:
            raise ValueError("feature_cache keeps what a frozen encoder sees, but lr has a rate for vision; remove one")
        if self.lora is not None and "language" not in self.lr:
            raise ValueError("lora adapts the language model, but lr has no rate for language; add lr.language")
        if self.quantize is not None and "language" in self.lr and self.lora is None:
            raise ValueError("quantize freezes the language model in 4 bits, but lr has a rate for language; add lora")
        if self.quantize is not None and self.shard:
            raise ValueError("quantize packs the layers in 4 bits, which cannot be cut over processes; remove one")
        return self

    def row_length_on(self, device: str) -> int:
        """`row_length`, or what suits a kind of device ("cpu", "cuda").

        On a CPU rows of 2,048 positions take as long as rows of 4,096 and hold half the activations
        (docs/performance.md); in the latter a GPU adds its gradients up half as often.
        """
        return self.row_length or (2048 if device == "cpu" else 4096)

    @property
    def samples_at_once(self) -> int:
        """`micro_batch`, or the largest divisor of `batch` up to 16."""
        return self.micro_batch or max(size for size in range(1, 17) if self.batch % size == 0)


class BenchmarksSpec(Spec):
    """Benchmark tasks that are asked of the model while it trains, as `sightline evaluate` asks a finished one.

    Training is not changed by it: the key does not belong to a run's identity.
    """

    data: str
    """Folder of the official files and pictures, or of a folder for each task."""
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    every: Annotated[int, Field(ge=0)] = 0
    """Steps between two times; 0: only at the end."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Of each task only some pictures with all of their questions, drawn until there are so many questions: always the
    same ones. All if not given."""
    split: str = ""
    """A part of the questions file's name, where there are several."""
    batch: Annotated[int, Field(ge=1)] = 16
    """Questions answered at once."""

    @model_validator(mode="after")
    def _each_once(self) -> BenchmarksSpec:
        twice = sorted({task for task in self.tasks if self.tasks.count(task) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is named twice; keep one of them")
        return self


class Recipe(Spec):
    """One run of one stage."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    output: str
    """The run's directory: the trained checkpoint, its training states, its logs."""
    model: ModelSpec
    template: str = "own"
    image_policy: Literal["pad", "crop"] = "pad"
    max_length: Annotated[int, Field(ge=MIN_TEXT)] = 2048
    """Positions of one sample, pictures included."""
    data: Annotated[tuple[DataSource, ...], Field(min_length=1)]
    validation: tuple[DataSource, ...] = ()
    benchmarks: BenchmarksSpec | None = None
    bad_samples: BadSamples = BadSamples()
    train: TrainSpec

    @model_validator(mode="after")
    def _validation_is_whole(self) -> Recipe:
        for number, source in enumerate(self.validation):
            if source.weight is not None or source.count is not None:
                raise ValueError(
                    f"validation.{number}: validation measures every sample once; remove its weight or count"
                )
        return self

    @model_validator(mode="after")
    def _aligned_first(self) -> Recipe:
        if "language" in self.train.lr and self.model.start is None and not self.model.fresh_connector:
            raise ValueError(
                "train.lr has language, but the connector is new: start from an aligned checkpoint with model.start, "
                "or set model.fresh_connector: true"
            )
        return self
