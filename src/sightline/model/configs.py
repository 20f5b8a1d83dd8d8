"""transformers configurations, to and from JSON that somebody else may have written.

Comes in: the content of a `config.json`, or where one lies. Goes out: a configuration object of a class that
transformers itself ships. Knows nothing of weights. Nothing here can import, download or run code that a configuration
names: keys that ask for it are refused or dropped.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PreTrainedConfig

from sightline.errors import ConfigError, nearest

# Keys by which a configuration file makes transformers run other code than its own: classes beside the weights
# (`auto_map`), and attention or expert kernels fetched from the Hub.
CODE_KEYS = frozenset(
    {"auto_map", "trust_remote_code", "custom_pipelines"}
    | {f"{part}_implementation{end}" for part in ("attn", "experts") for end in ("", "_internal")}
    | {f"_{part}_implementation{end}" for part in ("attn", "experts") for end in ("", "_internal")}
)
# Read by every configuration class though none declares them: how transformers 4 wrote the rotary embedding and dtype.
LEGACY_KEYS = frozenset({"rope_theta", "rope_scaling", "torch_dtype"})
# The settings by which configuration classes count their layers.
_LAYER_COUNTS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "depth")
# A repository on the Hub: "name" or "owner/name"; huggingface_hub.utils.validate_repo_id.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def parse_config(content: Mapping[str, Any], *, where: str, closed: bool) -> Any:
    """Make a configuration object.

    Args:
        content: what a `config.json` holds.
        where: names the source in messages.
        closed: refuse every key that the configuration class does not declare. Otherwise only keys that would run
            foreign code are dropped, and unknown ones are kept as transformers does.

    Raises:
        ConfigError: unknown model type or key, a quantised model, or values that the class refuses.
    """
    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        hint = nearest(str(model_type), CONFIG_MAPPING.keys())
        raise ConfigError(f"{where}: transformers knows no model_type {model_type!r}{hint}")
    config_class = CONFIG_MAPPING[model_type]
    if content.get("quantization_config"):
        raise ConfigError(f"{where}: the weights are quantised; use the original weights in full precision")
    if closed:
        known = {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map)
        known |= LEGACY_KEYS | {"model_type"}
        unknown = sorted(set(content) - known)
        if unknown:
            raise ConfigError(f'{where}: {model_type} has no setting "{unknown[0]}"{nearest(unknown[0], known)}')
    try:
        return config_class.from_dict(_without_code(content))
    except (StrictDataclassError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error


def read_config(spec: str | Mapping[str, Any], *, part: str) -> Any:
    """The configuration that a recipe names.

    Args:
        spec: a directory with a `config.json`, a Hub id, `{config: {...}}` or `{config: FILE or directory}`.
        part: "vision" or "language". Of a model that has both (CLIP, SigLIP), its vision side is taken for "vision".

    Raises:
        ConfigError: there is no such configuration, or it is not usable.
    """
    inner = spec.get("config") if isinstance(spec, Mapping) else None
    if isinstance(spec, str):
        content = _read_directory_or_hub(spec, part=part)
    elif set(spec) != {"config"} or not isinstance(inner, (Mapping, str, Path)):
        raise ConfigError(f"{part}: expected a path, a Hub id, or {{config: ...}}, found the keys {sorted(spec)}")
    elif isinstance(inner, Mapping):
        content = dict(inner)
    else:
        path = Path(inner)
        content = _read_file(path / "config.json" if path.is_dir() else path, part=part)
    where = f"{part} {spec}" if isinstance(spec, str) else f"{part}.config"
    config = parse_config(content, where=where, closed=isinstance(inner, Mapping))
    has_vision = "vision_config" in config.sub_configs
    if has_vision and part == "language":
        raise ConfigError(f"{where}: {config.model_type} has a vision side itself; name a plain language model")
    return config.vision_config if has_vision else config


def check_depth(config: Any, *, tensors: int, where: str) -> None:
    """Refuse a configuration that asks for more layers than there are tensors: its mere shapes would take for ever.

    Raises:
        ConfigError: with both numbers.
    """
    layers = max(count for name in _LAYER_COUNTS if isinstance(count := getattr(config, name, 0), int))
    if layers > tensors:
        raise ConfigError(f"{where} asks for {layers} layers, but there are {tensors} tensors in all")


def portable_config(config: Any) -> dict[str, Any]:
    """What to write into a `config.json`: every setting that the configuration class declares, and no path.

    The rotary embedding is written twice, as `rope_parameters` and as transformers 4 and the engines built on it look
    for it: they would take their default base instead of, say, Qwen2's 1,000,000, and say nothing.
    """
    # Of the tensors' type and the version the enclosing file speaks for all parts.
    declared = {field.name for field in dataclasses.fields(config)} - {"dtype", "transformers_version"}
    content = {key: value for key, value in config.to_diff_dict().items() if key in declared}
    content["model_type"] = config.model_type
    rope = content.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        content["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            content["rope_scaling"] = rope
    return content


def _without_code(content: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in content.items() if key not in CODE_KEYS}
    return {key: _without_code(value) if isinstance(value, Mapping) else value for key, value in kept.items()}


def _read_file(path: Path, *, part: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{part}: {path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{part}: {path}: not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{part}: {path}: not a model configuration")
    return content


def _read_directory_or_hub(spec: str, *, part: str) -> dict[str, Any]:
    directory = Path(spec)
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise ConfigError(f"{part}: {directory} holds no config.json, so it is no model directory")
        return _read_file(directory / "config.json", part=part)
    if directory.exists():
        raise ConfigError(f"{part}: {directory} is a file; name the directory of a model, or {{config: {spec}}}")
    if not _HUB_ID.fullmatch(spec):
        raise ConfigError(f"{part}: no directory {spec}")
    try:
        content: dict[str, Any] = PreTrainedConfig.get_config_dict(spec)[0]
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{part}: no directory {spec} here, and not had from the Hub (use a local directory): {first_line(error)}"
        ) from error
    return content


def first_line(error: BaseException) -> str:
    """The beginning of another library's message, short enough to stand in one of ours."""
    return str(error).strip().partition("\n")[0][:200]
