"""The other side of a comparison: `transformers.Trainer` and TRL's `SFTTrainer` on the same checkpoint and samples.

Comes in: a `World`, a peer's name, a micro-batch. Goes out: `StepTime`s. The samples are made by our processor as they
are asked for, as ours are, so that ids and pixels are equal and their cost is on both sides; what is compared is the
training. Every peer has fused AdamW, no activation checkpointing, no cache, frozen parts without gradients.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.ours import StepTime
from benchmarks.world import SEED, World
from sightline.data.tokens import IGNORE
from sightline.train.samples import SampleSet

PEERS: dict[str, str] = {
    "trainer": "Trainer, padded",
    "tuned": "Trainer, padded, its fastest micro-batch",
    "grouped": "Trainer, grouped by length",
    "single": "Trainer, one sample at a time",
    "trl": "TRL SFTTrainer",
}
"""`grouped` differs from `trainer` in the steps of its world; `tuned` and `single` in their micro-batches. That of
`tuned` is what suits two cores best; with that of `single` nothing is padded, as no GPU recipe would have it."""

Features = dict[str, Any]


def load_model(world: World) -> Any:
    """`LlavaForConditionalGeneration` from the checkpoint, of which what the mode names trains."""
    model = AutoModelForImageTextToText.from_pretrained(world.start, dtype=torch.float32, attn_implementation="sdpa")
    model.config.use_cache = False
    model.config.text_config.use_cache = False
    model.requires_grad_(False)
    if world.mode.lora:
        model = _with_adapters(model, rank=world.size.lora_rank)
    elif "language" in world.mode.trained:
        model.model.language_model.requires_grad_(True)
        model.lm_head.requires_grad_(True)
    for name, parameter in model.named_parameters():
        if "multi_modal_projector" in name:
            parameter.requires_grad_(True)
    return model


def _with_adapters(model: Any, *, rank: int) -> Any:
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=r".*language_model.*(q|k|v|o|gate|up|down)_proj",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def copy_adapters(theirs: torch.nn.Module, ours: torch.nn.Module) -> None:
    """Gives both sides the same random start: the adapters' first matrices are drawn when they are made."""
    source = {_place(name): value for name, value in ours.named_parameters() if "lora_" in name}
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if "lora_" in name:
                value.copy_(source.pop(_place(name)))
    assert not source, f"adapters without a counterpart: {sorted(source)[:3]}"


def _place(name: str) -> str:
    """The layer and what follows it: the same in both, whatever the model is wrapped in."""
    found = re.search(r"layers\.\d+\..*", name)
    assert found is not None, name
    return found.group()


class InOrder(Dataset[Features]):
    """The samples of all steps, one after another."""

    def __init__(self, world: World) -> None:
        self.samples: SampleSet = world.samples()
        place = {sample.id: index for index, sample in enumerate(self.samples.samples)}
        self.order = [place[name] for step in world.order for name in step]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Features:
        example = self.samples.example(self.order[index])
        return {"input_ids": example.input_ids, "labels": example.labels, "images": example.pixels}


def collate(features: Sequence[Features]) -> dict[str, Tensor]:
    """Pads on the right to the longest, as the usual collators do; no pictures, no `pixel_values`."""
    longest = max(len(feature["input_ids"]) for feature in features)
    batch = {
        "input_ids": torch.zeros(len(features), longest, dtype=torch.int64),
        "labels": torch.full((len(features), longest), IGNORE, dtype=torch.int64),
        "attention_mask": torch.zeros(len(features), longest, dtype=torch.int64),
    }
    for row, feature in enumerate(features):
        length = len(feature["input_ids"])
        batch["input_ids"][row, :length] = feature["input_ids"]
        batch["labels"][row, :length] = feature["labels"]
        batch["attention_mask"][row, :length] = 1
    pictures = torch.cat([feature["images"] for feature in features])
    return batch | ({"pixel_values": pictures} if len(pictures) else {})


class Clock(TrainerCallback):  # type: ignore[misc]
    """Times steps from the end of one to the end of the next, data and all, and lets our side step in between."""

    def __init__(self, recorder: Recorder, between: Callable[[], None]) -> None:
        self.recorder = recorder
        self.between = between

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.recorder.begin()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.recorder.end()
        self.between()
        self.recorder.begin()


class Recorder:
    """Takes the loss of every pass, as it was before any rounding."""

    taken: list[StepTime]

    def begin(self) -> None:
        """A step begins."""
        self.losses: list[Tensor] = []
        self.positions = 0
        self.started, self.worked = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """A step ends: the passes' losses are shares of one mean over its trained tokens."""
        loss = torch.stack(self.losses).sum().item()
        seconds, processor = time.perf_counter() - self.started, time.process_time() - self.worked
        self.taken.append(StepTime(seconds=seconds, loss=loss, processor=processor, positions=self.positions))

    def note(self, loss: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """A pass is done."""
        self.losses.append(loss.detach())
        self.positions += inputs["input_ids"].numel()
        return loss


class RecordingTrainer(Recorder, Trainer):  # type: ignore[misc]
    """A Trainer that remembers its losses."""

    def training_step(self, model: Any, inputs: Any, *more: Any, **named: Any) -> Tensor:
        return self.note(super().training_step(model, inputs, *more, **named), inputs)


def run_peer(
    world: World,
    peer: str,
    *,
    micro_batch: int,
    between: Callable[[], None] = lambda: None,
    adapters: torch.nn.Module | None = None,
    output: Path,
) -> list[StepTime]:
    """Trains through all steps of the world; `between` is called after each, outside its time.

    Args:
        micro_batch: samples that go through the model at once; must divide the batch.
        adapters: our model, whose adapters the peer's take their start from.
    """
    model = load_model(world)
    if adapters is not None and world.mode.lora:
        copy_adapters(model, adapters)
    common: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": world.size.batch // micro_batch,
        "max_steps": len(world.order),
        "learning_rate": world.mode.rate,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": SEED,
    }
    trainer = _trl(world, model, common) if peer == "trl" else _plain(world, model, common)
    trainer.taken = []
    trainer.add_callback(Clock(trainer, between))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return list(trainer.taken)


def _plain(world: World, model: Any, common: Mapping[str, Any]) -> Any:
    return RecordingTrainer(
        model=model, args=TrainingArguments(**common), train_dataset=InOrder(world), data_collator=collate
    )


def _trl(world: World, model: Any, common: Mapping[str, Any]) -> Any:
    """TRL wants a `datasets.Dataset`; its transform hands out the samples that are ready for the model."""
    from datasets import Dataset as Table
    from trl import SFTConfig, SFTTrainer

    class RecordingSFTTrainer(Recorder, SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *more: Any, **named: Any) -> Tensor:
            return self.note(super().training_step(model, inputs, *more, **named), inputs)

    samples = InOrder(world)

    def made(rows: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        features = [samples[index] for index in rows["index"]]
        return {key: [feature[key] for feature in features] for key in ("input_ids", "labels", "images")}

    table = Table.from_dict({"index": list(range(len(samples)))}).with_transform(made)
    return RecordingSFTTrainer(
        model=model,
        args=SFTConfig(**common, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=table,
        data_collator=collate,
        processing_class=AutoProcessor.from_pretrained(world.start, backend="pil"),
    )
