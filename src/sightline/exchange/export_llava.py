"""What haotian-liu/LLaVA itself loads: whole models, stage 1's projector, LoRA folders.

Comes in: a checkpoint of ours. Goes out: a directory in the original's layout, readable by the versions that it pins
(transformers 4.37, tokenizers 0.15). Names and settings are those of `original`.

    config.json, model*.safetensors     the language model with `model.mm_projector.*`, or
    mm_projector.bin                    the projector alone, as stage 1 leaves it, or
    adapter_*, non_lora_trainables.bin  a run's adapter in peft's format, and the projector beside it
    vision_tower/                       the tower, which `mm_vision_tower` names
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sightline.atomic import read_json
from sightline.data.hub_processor import clip_image_settings
from sightline.errors import CheckpointError, ConfigError
from sightline.exchange.original import (
    OriginalSettings,
    original_name,
    our_name,
    text_settings,
    tower_name,
    write_config,
)
from sightline.exchange.original_tokenizer import save_original_tokenizer
from sightline.exchange.pickled import read_pickled
from sightline.exchange.source import Options, Source, Written, fixed_logits, legacy_settings, rebuild
from sightline.model.checkpoint import checkpoint_tensors, load_checkpoint
from sightline.model.configs import parse_config
from sightline.model.weights import read_headers, read_tensors, write_weights

TOWER = "vision_tower"
PROJECTOR_FILE = "mm_projector.bin"
TRAINED_FILE = "non_lora_trainables.bin"
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_PEFT = "base_model.model."
"""What peft puts before every name; the original's loader takes it off again."""
# The settings that peft had when LLaVA was written (0.4); its older versions refuse others.
_ADAPTER_KEYS = (
    *("base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern"),
    *("layers_to_transform", "lora_alpha", "lora_dropout", "modules_to_save", "peft_type", "r", "revision"),
    *("target_modules", "task_type"),
)


def write_llava(source: Source, directory: Path, options: Options) -> Written:
    """Writes the whole model, and its tower beside it."""
    rows = original_rows(source)
    _write_config(source, directory, options, rows=rows)
    tensors = {name: tensor[:rows] if _counts_rows(name) else tensor for name, tensor in _originals(source, options)}
    write_weights({name: tensor for name, tensor in tensors.items() if not _is_tower(name)}, directory)
    _write_tower(source, directory, options)
    save_original_tokenizer(source.processor, directory, rows=rows)
    return Written(logits=lambda: _logits(source, directory), notes=_notes(source, options))


def write_projector(source: Source, directory: Path, options: Options) -> Written:
    """Writes the connector alone."""
    _write_config(source, directory, options, rows=original_rows(source))
    torch.save(_projector(source, options), directory / PROJECTOR_FILE)
    return Written(logits=lambda: _logits_with(source, read_pickled(directory / PROJECTOR_FILE)))


def write_lora(source: Source, directory: Path, options: Options) -> Written:
    """Writes the run's adapter, and the connector beside it; both need the base model that the run started from."""
    adapter = adapter_of(source)
    content = read_json(adapter / _ADAPTER[0])
    assert isinstance(content, dict)
    kept = {key: content.get(key) for key in _ADAPTER_KEYS}
    (directory / _ADAPTER[0]).write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    # peft adds the vocabulary's matrices where training gave them rows; the original's base has its own.
    weights = {name: tensor for name, tensor in load_file(adapter / _ADAPTER[1]).items() if ".lora_" in name}
    save_file(weights, directory / _ADAPTER[1], metadata={"format": "pt"})
    trained = {_PEFT + name: tensor for name, tensor in _projector(source, options).items()}
    torch.save(trained, directory / TRAINED_FILE)
    rows = original_rows(source)
    _write_config(source, directory, options, rows=rows)
    _write_tower(source, directory, options)
    save_original_tokenizer(source.processor, directory, rows=rows)
    notes = (*_notes(source, options, lora=True), "the adapter was compared tensor by tensor: its base is not here")
    return Written(logits=lambda: _logits_of_lora(source, directory, weights), notes=notes)


def adapter_of(source: Source) -> Path:
    """Where a LoRA run's adapter lies; `ConfigError` if the checkpoint has none."""
    adapter = source.directory / "lora"
    if not all((adapter / name).is_file() for name in _ADAPTER):
        raise ConfigError(f"--lora: {source.directory} has no adapter in lora/: it is not the directory of a LoRA run")
    return adapter


def original_rows(source: Source) -> int:
    """Rows of the vocabulary without `<image>`, which the original does not know.

    An imported checkpoint says how many it had. In others `<image>` stands at the end if training added it, and what
    follows it are rows that no text reaches: matrices grow in steps of 64.
    """
    imported = source.info.get("imported")
    had = imported.get("vocab_size") if isinstance(imported, dict) else None
    if isinstance(had, int) and 0 < had <= source.rows:
        return had
    last = source.model.image_token_id == len(source.processor.tokenizer) - 1
    return source.model.image_token_id if last else source.rows


def _write_config(source: Source, directory: Path, options: Options, *, rows: int) -> None:
    vision, processor = source.model.vision, source.processor.settings
    settings = OriginalSettings(
        tower=options.tower or str(options.target / TOWER),
        connector=source.model.connector.kind,
        layer=vision.layer,
        select=vision.select,
        image_policy="pad" if processor.image_policy == "pad" else "crop",
        max_length=processor.max_length,
    )
    text = legacy_settings(source.model.language.config) | {
        "tie_word_embeddings": source.config()["tie_word_embeddings"],
        "torch_dtype": str(options.dtype).removeprefix("torch."),
        "vocab_size": rows,
    }
    _write_json(directory / "config.json", write_config(settings, text, vision_width=vision.width))
    generation = read_json(source.directory / "generation_config.json")
    assert isinstance(generation, dict)
    _write_json(directory / "generation_config.json", generation)


def _write_tower(source: Source, directory: Path, options: Options) -> None:
    """The tower as a CLIP folder of its own, unless it is told by name."""
    if options.tower is not None:
        return
    target = directory / TOWER
    target.mkdir()
    config = source.model.vision.backbone.config
    content = legacy_settings(config) | {"architectures": ["CLIPVisionModel"]}
    _write_json(target / "config.json", content | {"torch_dtype": str(options.dtype).removeprefix("torch.")})
    prefix = f"{TOWER}."
    tower = {name.removeprefix(prefix): tensor for name, tensor in source.tensors(options.dtype)
             if name.startswith(prefix)}  # fmt: skip
    write_weights(tower, target)
    settings = source.processor.settings
    images = clip_image_settings(settings.image_size, mean=settings.image_mean, std=settings.image_std)
    _write_json(target / "preprocessor_config.json", images)


def _originals(source: Source, options: Options) -> Iterator[tuple[str, Tensor]]:
    """The original's tensors."""
    for name, tensor in source.tensors(options.dtype):
        theirs = original_name(name, connector=source.model.connector.kind)
        if theirs is not None:
            yield theirs, tensor


def _projector(source: Source, options: Options) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in _originals(source, options) if ".mm_projector." in name}


def _is_tower(name: str) -> bool:
    return name.startswith(f"model.{TOWER}.")


def _counts_rows(name: str) -> bool:
    return name in ("model.embed_tokens.weight", "lm_head.weight")


def _logits(source: Source, directory: Path) -> Tensor:
    """Read back: a model made from the written configurations and tensors alone."""
    config = read_json(directory / "config.json")
    assert isinstance(config, dict)
    where = str(directory / "config.json")
    vision_config, tower = source.model.vision.backbone.config, list[tuple[str, Tensor]]()
    if (directory / TOWER).is_dir():
        content = read_json(directory / TOWER / "config.json")
        assert isinstance(content, dict)
        vision_config = parse_config(content, where=f"{TOWER}/config.json", closed=False)
        own = read_tensors(directory / TOWER, read_headers(directory / TOWER))
        tower = [(tower_name(name, vision_type=vision_config.model_type), tensor) for name, tensor in own]
    else:
        tower = [(name, tensor) for name, tensor in source.tensors(torch.float32) if name.startswith(f"{TOWER}.")]
    vision_type = vision_config.model_type
    model = rebuild(
        vision_config=vision_config,
        text_config=parse_config(text_settings(config, where=where), where=where, closed=False),
        connector=config["mm_projector_type"],
        layer=config["mm_vision_select_layer"],
        select=config["mm_vision_select_feature"],
        image_token_id=source.model.image_token_id,
        tensors=[*tower, *((our_name(name, vision_type=vision_type), tensor)
                           for name, tensor in read_tensors(directory, read_headers(directory)))],
    )  # fmt: skip
    return fixed_logits(model, source.processor)


def _logits_with(source: Source, projector: Mapping[str, Tensor]) -> Tensor:
    """Of the checkpoint with its connector taken from `projector`, all of it and nothing else."""
    model, _ = load_checkpoint(source.directory)
    own, _ = checkpoint_tensors(model)
    vision_type = model.vision.backbone.config.model_type
    found = {our_name(name, vision_type=vision_type): tensor for name, tensor in projector.items()}
    if set(found) != {name for name in own if name.startswith("multi_modal_projector.")}:
        raise CheckpointError(f"read back, the projector has the tensors {sorted(projector)}; nothing was written")
    with torch.no_grad():
        for name, tensor in found.items():
            own[name].copy_(tensor)
    return fixed_logits(model, source.processor)


def _logits_of_lora(source: Source, directory: Path, weights: Mapping[str, Tensor]) -> Tensor:
    found = load_file(directory / _ADAPTER[1])
    if set(found) != set(weights) or not all(torch.equal(found[name], weights[name]) for name in weights):
        raise CheckpointError("read back, the adapter is not what was written; nothing was written")
    trained = read_pickled(directory / TRAINED_FILE)
    return _logits_with(source, {name.removeprefix(_PEFT): tensor for name, tensor in trained.items()})


def _notes(source: Source, options: Options, *, lora: bool = False) -> tuple[str, ...]:
    """The original chooses its classes by words in the directory's name (llava/model/builder.py)."""
    name = options.target.name.lower()
    wanted = ["llava", *(["lora"] if lora else []), *(["mistral"] if _is_mistral(source) else [])]
    missing = [word for word in wanted if word not in name]
    notes = ["the original loads a directory by its name: put " + " and ".join(missing) + " into it"] if missing else []
    if options.tower is None:
        notes.append("config.json names the tower by its path: change mm_vision_tower when the directory moves")
    return tuple(notes)


def _is_mistral(source: Source) -> bool:
    return bool(source.model.language.config.model_type == "mistral")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
