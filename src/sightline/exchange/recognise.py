"""What kind of foreign checkpoint a directory holds, told by what is in it and never by its name.

Comes in: a directory, or the file of a projector. Goes out: its kind, its configuration, where its tensors lie. Reads
headers and JSON only; knows nothing of our models.

| kind | how it is known |
|---|---|
| `original` | weights with `model.mm_projector.*` (none for an `identity`) among the language model's |
| `hf` | weights with `multi_modal_projector.*` and a `text_config` |
| `lora` | `adapter_config.json` beside adapter weights |
| `projector` | nothing but `mm_projector` tensors |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sightline.atomic import read_json
from sightline.errors import CheckpointError
from sightline.exchange.tensor_files import Stored, find_in_file, find_weights

Kind = Literal["original", "hf", "lora", "projector"]

# Keys by which a file asks transformers for code that lies beside the weights.
_CODE_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines")
_JSON_FILES = (
    *("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"),
    *("adapter_config.json", "generation_config.json"),
)
_LATER_TYPES = ("llava_next", "llava_next_video", "llava_onevision")
_EXPECTED = "a LLaVA checkpoint, a LoRA folder of one, mm_projector.bin, or a llava-hf checkpoint"


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A foreign checkpoint.

    Attributes:
        directory: where it lies.
        config: its `config.json`; None for a projector without one.
        tensors: of its weights, by the names in the files; of a LoRA folder, what was trained beside the adapter.
        adapter, adapter_config: of a LoRA folder.
    """

    kind: Kind
    directory: Path
    config: dict[str, Any] | None
    tensors: dict[str, Stored]
    adapter: dict[str, Stored] = field(default_factory=dict)
    adapter_config: dict[str, Any] = field(default_factory=dict)


def recognise(path: Path) -> Found:
    """Tell what lies at `path`.

    Raises:
        CheckpointError: nothing that can be imported, a file of it is damaged, or one asks for foreign code.
    """
    if path.is_file():
        return _projector(path.parent, find_in_file(path), where=path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such file or directory; expected {_EXPECTED}")
    if (path / "sightline.json").is_file():
        raise CheckpointError(f"{path}: is a Sightline checkpoint already; nothing is to be imported")
    for name in _JSON_FILES:
        refuse_code(path / name)
    config = read_config_file(path)
    adapter = find_weights(path, "adapter_model")
    if adapter is not None:
        return _lora(path, config, adapter)
    weights = find_weights(path, "model")
    if weights is not None:
        return _whole(path, config, weights)
    projector = find_weights(path, "mm_projector")
    if projector is not None:
        return _projector(path, projector, where=path)
    raise CheckpointError(f"{path}: holds no weights under a name that is known here; expected {_EXPECTED}")


def read_config_file(directory: Path, name: str = "config.json") -> dict[str, Any] | None:
    """The content of a JSON file of settings; None if there is none."""
    path = directory / name
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: damaged: it holds no settings")
    return content


def refuse_code(path: Path) -> None:
    """Refuse a JSON file that asks for code to be run, however deep in it. Nothing here would run it; it may matter."""
    content: Any = read_config_file(path.parent, path.name)
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            for key in _CODE_KEYS:
                if value.get(key):
                    raise CheckpointError(
                        f"{path}: {key} asks for code from the checkpoint to be run, which is never done here; "
                        f"if the model is a plain LLaVA, remove {key}"
                    )
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _whole(path: Path, config: dict[str, Any] | None, weights: dict[str, Stored]) -> Found:
    if config is None:
        raise CheckpointError(f"{path}: no config.json in it, so it cannot be told what its weights are")
    model_type = str(config.get("model_type"))
    if model_type in _LATER_TYPES or any(name.endswith("image_newline") for name in weights):
        raise CheckpointError(
            f"{path}: a {model_type} checkpoint that sees a picture in several views (LLaVA-NeXT, v1.6), which cannot "
            "be read yet; use a LLaVA-1.0 or 1.5 checkpoint"
        )
    if any("mm_projector." in name for name in weights) or config.get("mm_projector_type") == "identity":
        return Found(kind="original", directory=path, config=config, tensors=weights)
    if any("multi_modal_projector." in name for name in weights):
        return Found(kind="hf", directory=path, config=config, tensors=weights)
    raise CheckpointError(
        f"{path}: a {model_type} model without a projector among its {len(weights)} tensors; expected {_EXPECTED} "
        "(a plain language model is what a recipe trains from, or --base)"
    )


def _lora(path: Path, config: dict[str, Any] | None, adapter: dict[str, Stored]) -> Found:
    adapter_config = read_config_file(path, "adapter_config.json")
    if config is None or adapter_config is None:
        missing = "config.json" if config is None else "adapter_config.json"
        raise CheckpointError(f"{path}: adapter weights, but no {missing} beside them, which the original writes too")
    trained = find_weights(path, "non_lora_trainables") or {}
    return Found(
        kind="lora", directory=path, config=config, tensors=trained, adapter=adapter, adapter_config=adapter_config
    )


def _projector(directory: Path, tensors: dict[str, Stored], *, where: Path) -> Found:
    foreign = [name for name in tensors if "mm_projector." not in name and not name.endswith("embed_tokens.weight")]
    if foreign or not any("mm_projector." in name for name in tensors):
        what = f"also {foreign[0]!a}" if foreign else "none"
        raise CheckpointError(f"{where}: expected the tensors of an mm_projector in it and found {what}")
    return Found(kind="projector", directory=directory, config=read_config_file(directory), tensors=tensors)
