"""From a file and overrides to a `Recipe`.

Comes in: the path of a YAML recipe and `key.path=value` strings. Goes out: a `Recipe`, or one `ConfigError` that lists
every mistake at once: key, what was found, what is allowed, what may have been meant. Does not know what a recipe does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sightline.errors import ConfigError, nearest
from sightline.recipe import Recipe


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        path: a YAML file.
        overrides: such as `train.lr.connector=1e-3` or `data.0.path=mine.json`; values are YAML.

    Raises:
        ConfigError: the file cannot be read, or keys or values are wrong.
    """
    tree = _read(path)
    for override in overrides:
        _apply(tree, override)
    return parse_recipe(tree, where=str(path))


def parse_recipe(tree: Any, *, where: str) -> Recipe:
    """A recipe from nested mappings; `where` opens the message if they are wrong."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(_explain(error))}") from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe in full, as YAML that `load_recipe` reads back to an equal one."""
    return yaml.safe_dump(_plain(recipe), sort_keys=False)


def fingerprint(recipe: Recipe) -> str:
    """A hash of all that decides a run's result. Where it runs, logs and how often it saves do not."""
    tree = _plain(recipe)
    tree.pop("output")
    tree.pop("benchmarks", None)
    for key in ("device", "workers", "log_every", "save_every", "keep", "validate_every"):
        tree["train"].pop(key, None)
    for key in ("micro_batch", "packing", "row_length", "feature_cache", "feature_cache_policy", "shard"):
        tree["train"].pop(key, None)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _plain(recipe: Recipe) -> dict[str, Any]:
    tree: dict[str, Any] = recipe.model_dump(mode="json", exclude_unset=True)
    return tree


class _Loader(yaml.SafeLoader):
    """YAML in which `1e-3` is a number, as everyone who writes recipes expects (YAML 1.2), and keys are unique."""


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
    if repeated:
        raise yaml.YAMLError(f"key {repeated[0]} occurs twice (line {node.start_mark.line + 1})")
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _scalar(value: Any) -> Any:
    """`1e-3` is text to YAML 1.1; anything that reads as a float and looks like one becomes one."""
    if isinstance(value, dict):
        return {key: _scalar(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_scalar(item) for item in value]
    if isinstance(value, str) and value[:1] in "+-.0123456789":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such recipe; give the path of a YAML file such as those in recipes/") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a text file; give the path of a YAML recipe") from error
    tree = _yaml(text, where=str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: found {type(tree).__name__}, expected a mapping with name, model, data, train")
    return tree


def _yaml(text: str, *, where: str) -> Any:
    try:
        return _scalar(yaml.load(text, Loader=_Loader))
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{where}: not valid YAML: {line}") from error


def _apply(tree: Any, override: str) -> None:
    """Sets one key, in place. Lists are indexed by number; a number one past the end appends."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: expected key.path=value, such as train.batch=64")
    value = _yaml(text, where=f"override {key}")
    *parents, last = key.split(".")
    node = tree
    for position, parent in enumerate(parents):
        node = _child(node, parent, path=".".join(parents[: position + 1]))
    if isinstance(node, list):
        index = _index(node, last, path=key)
        node[index:] = [value, *node[index + 1 :]]
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"override {key}: {'.'.join(parents)} is {node!r}, which has no keys")


def _child(node: Any, name: str, *, path: str) -> Any:
    if isinstance(node, list):
        index = _index(node, name, path=path)
        if index == len(node):
            node.append({})
        return node[index]
    if not isinstance(node, dict):
        raise ConfigError(f"override {path}: the key above it is {node!r}, which has no keys")
    if node.get(name) is None:
        node[name] = {}
    return node[name]


def _index(node: list[Any], name: str, *, path: str) -> int:
    if not name.isdigit() or int(name) > len(node):
        raise ConfigError(f"override {path}: found {name!r}, expected a number from 0 to {len(node)} (the list's end)")
    return int(name)


def _explain(error: ValidationError) -> list[str]:
    """One phrase for each mistake, without pydantic's vocabulary."""
    lines = []
    for found in error.errors(include_url=False):
        location = [part for part in found["loc"] if part not in ("str", "BuiltPart", "[key]", "function-after")]
        key = ".".join(map(str, location)) or "recipe"
        given = repr(found["input"]) if not isinstance(found["input"], dict) else "a mapping"
        kind = found["type"]
        if kind == "extra_forbidden":
            lines.append(f"{key}: unknown key{nearest(str(location[-1]), _siblings(location))}")
        elif kind == "missing":
            lines.append(f"{key}: missing")
        elif kind == "value_error":
            lines.append(f"{key}: {found['ctx']['error']}")
        elif kind == "literal_error":
            hint = nearest(str(found["input"]), re.findall(r"'([^']*)'", found["ctx"]["expected"]))
            lines.append(f"{key}: found {given}, expected {found['ctx']['expected']}{hint}")
        else:
            lines.append(f"{key}: found {given}, {found['msg'][0].lower()}{found['msg'][1:]}")
    return lines


def _siblings(location: Sequence[Any]) -> list[str]:
    """The keys that may stand where an unknown one was found."""
    model: Any = Recipe
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:
            return []
        model = _model_of(field.annotation)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _model_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_of(argument)
        if found is not None:
            return found
    return None
