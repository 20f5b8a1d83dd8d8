"""The parts that a foreign checkpoint leans on: its language model's base, its vision tower, its tokenizer.

Comes in: names that a user or a configuration gave. Goes out: directories, configurations, tensors under our names. A
name from a configuration is only looked for beside the checkpoint and on the Hub, never elsewhere on this machine.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import snapshot_download
from transformers import PreTrainedTokenizerBase

from sightline.data.processor import load_tokenizer
from sightline.errors import CheckpointError, ConfigError
from sightline.exchange.original import LANGUAGE_TYPES, text_settings
from sightline.exchange.recognise import read_config_file, refuse_code
from sightline.exchange.tensor_files import Stored, find_weights
from sightline.model.configs import first_line, parse_config, read_config

# A repository on the Hub with its owner; a bare name is taken for a directory.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["*.json", "*.model", "*.txt", "*.jinja", "*.safetensors"]
# Everything that transformers' tokenizers are saved in.
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja", "chat_template.json"),
)


def locate(name: str, *, part: str) -> Path:
    """A directory or file of this name, or the Hub's repository, downloaded or from its cache.

    Raises:
        ConfigError: neither is there; `part` says what was looked for.
    """
    path = Path(name)
    if path.exists() or not _HUB_ID.fullmatch(name):
        if not path.exists():
            raise ConfigError(f"{part}: no directory {name}")
        return path
    try:
        found = Path(snapshot_download(name, allow_patterns=_HUB_FILES))
        if not any(found.glob("*.safetensors")):
            snapshot_download(name, allow_patterns=["*.bin"])
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{part}: no directory {name} here, and not had from the Hub (name a local directory): {first_line(error)}"
        ) from error
    return found


def find_tower(given: str | None, named: str | None, *, beside: Path) -> Path:
    """Where the vision tower of a checkpoint in the original's layout lies.

    Args:
        given: by the user.
        named: by the checkpoint's `mm_vision_tower`: a directory in or next to `beside`, or on the Hub.
        beside: the checkpoint's directory.

    Raises:
        ConfigError: it is not found; the message says where it was looked for.
    """
    if given is not None:
        return locate(given, part="--vision")
    if named is None:
        raise ConfigError(f"{beside}: names no vision tower; name its directory with --vision")
    inner = PurePosixPath(named)
    names = [inner.name] if inner.is_absolute() or ".." in inner.parts else [named, inner.name]
    for root in (beside, beside.absolute().parent):
        for name in names:
            if name and (root / name / "config.json").is_file():
                return root / name
    advice = "name its directory with --vision"
    if not _HUB_ID.fullmatch(named):
        raise ConfigError(f"{beside}: its vision tower {ascii(named)[:200]} is neither in it nor next to it; {advice}")
    try:
        return locate(named, part="--vision")
    except ConfigError as error:
        raise ConfigError(f"{beside}: its vision tower {named} is not next to it; {advice} ({error})") from error


def part_tensors(directory: Path, rename: Callable[[str], str]) -> dict[str, Stored]:
    """A whole model's tensors under our names.

    Raises:
        CheckpointError: there are none, or two of one name.
    """
    found = find_weights(directory, "model")
    if found is None:
        raise CheckpointError(f"{directory}: holds no model.safetensors, pytorch_model.bin, or index of either")
    return renamed(found, rename)


def renamed(tensors: dict[str, Stored], rename: Callable[[str], str]) -> dict[str, Stored]:
    """Tensors under other names; two that get the same are refused."""
    result: dict[str, Stored] = {}
    for key, stored in tensors.items():
        name = rename(key)
        if name in result:
            raise CheckpointError(f"{stored} and {result[name].key} are two tensors for one place")
        result[name] = stored
    return result


def tower_config(directory: Path) -> Any:
    """The configuration of an image encoder; a directory that asks for code is refused."""
    refuse_code(directory / "config.json")
    return read_config(str(directory), part="vision")


def language_config(directory: Path) -> Any:
    """The configuration of a plain language model, or of the one in a checkpoint of the original's layout."""
    refuse_code(directory / "config.json")
    content = read_config_file(directory)
    where = f"{directory / 'config.json'}"
    if content is None:
        raise ConfigError(f"{where}: missing; expected the directory of a language model")
    if content.get("model_type") in LANGUAGE_TYPES and "text_config" not in content:
        content = text_settings(content, where=where)
    config = parse_config(content, where=where, closed=False)
    if "vision_config" in config.sub_configs:
        raise ConfigError(f"{where}: {config.model_type} has a vision side itself; name a plain language model")
    return config


def has_tokenizer(directory: Path) -> bool:
    """Whether a tokenizer lies in a directory."""
    return any((directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def foreign_tokenizer(directory: Path, *, language_type: str) -> PreTrainedTokenizerBase:
    """The tokenizer in a directory, of the class that its own file names.

    Read apart from the `config.json` beside it: for a model of type `llava` transformers 5 takes another class than the
    tokenizer's, whose ids differ (a newline after a picture loses the lone space piece before it).

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    if not has_tokenizer(directory):
        raise ConfigError(f"{directory}: no tokenizer in it (tokenizer.json or tokenizer.model)")
    refuse_code(directory / "tokenizer_config.json")
    read_config_file(directory, "tokenizer.json")  # of one that is no JSON, its own reader does not speak in one line
    settings = read_config_file(directory, "tokenizer_config.json") or {}
    model_type = "foreign" if settings.get("tokenizer_class") else language_type
    with tempfile.TemporaryDirectory() as apart:
        for name in _TOKENIZER_FILES:
            if (directory / name).is_file():
                shutil.copyfile(directory / name, Path(apart) / name)
        # transformers asks for a model's type first, and for the tokenizer's class when it does not know the type.
        (Path(apart) / "config.json").write_text(json.dumps({"model_type": model_type}))
        try:
            tokenizer = load_tokenizer(apart)
        except (ConfigError, ImportError) as error:
            reason = first_line(error.__cause__ or error)
            raise ConfigError(f"{directory}: its tokenizer cannot be read: {reason}") from error
    tokenizer.name_or_path = str(directory)
    return tokenizer
