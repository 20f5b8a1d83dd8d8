"""A model on disk: a standard Llava checkpoint that explains itself.

Comes in: a model and what else belongs to it. Goes out: a directory, whole or not at all; and from such a directory the
model again. Knows nothing of tokenizers, recipes or training states: they travel as `info` and `extra_files`.

    config.json                 the standard Llava configuration, for other software
    model*.safetensors          the weights under their standard names
    generation_config.json      the special tokens' ids, for other software
    sightline.json              what the standard files cannot say: `Header`
    manifest.json               size and SHA-256 of every file, written last

Everything in a directory may have been written by an attacker. No pickle is read, no code is run, no name leads out
of the directory, and sizes are compared before memory is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from torch import Tensor

from sightline import __version__, atomic
from sightline.errors import CheckpointError, ConfigError
from sightline.model.build import (
    finish_without_weights,
    language_from_config,
    vision_from_config,
    without_initialisation,
)
from sightline.model.configs import check_depth, first_line, parse_config, portable_config
from sightline.model.connector import build_connector
from sightline.model.layout import CONFIG_KEYS, projector_fillers, standard_config, standard_obstacle, tensor_name
from sightline.model.vision import VisionEncoder
from sightline.model.vlm import VisionLanguageModel
from sightline.model.weights import (
    SHARD_BYTES,
    check_headers,
    read_headers,
    read_tensors,
    stream_weights,
    write_weights,
)

HEADER_FILE = "sightline.json"
CONFIG_FILE = "config.json"
FORMAT_VERSION = 1


class Header(BaseModel):
    """The content of `sightline.json`. Settings that this version does not know are refused, not skipped."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: int = FORMAT_VERSION
    sightline_version: str = __version__
    parts: dict[str, str]
    """What each part is, for readers: model types and the connector."""
    connector: str
    vision_layer: int
    vision_select: str
    image_token_id: int
    tokens_per_image: int
    not_standard: str | None
    """Why other software cannot load this checkpoint; None if it can."""
    info: dict[str, JsonValue]
    """The caller's: template, image policy, recipe, ..."""


def save_checkpoint(
    model: VisionLanguageModel,
    directory: Path,
    *,
    info: Mapping[str, Any] | None = None,
    extra_files: Callable[[Path], None] | None = None,
    in_place: bool = False,
    shard_bytes: int = SHARD_BYTES,
    content: Iterable[tuple[str, Tensor]] | None = None,
    planned: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint. Killed at any moment, it leaves the old one, the new one, or one that is refused.

    Args:
        model: adapters merged, tensors whole (not sharded over processes), on any device.
        directory: replaced as a whole if it is a checkpoint already.
        info: JSON values for `sightline.json`; `load_checkpoint` returns them.
        extra_files: writes more files (tokenizer, image processor) into the directory it is given; they are sealed
            by the manifest too, and replace ours of the same name.
        in_place: `directory` holds other things as well, such as a run's logs: keep them.
        shard_bytes: weights beyond this are split over several files.
        planned, content: for a model of shapes alone (meta device): all of `checkpoint_tensors` as `stream_weights`
            takes them.

    Raises:
        CheckpointError: `directory` holds files that are not a checkpoint's.
        OSError: the disk is full or not writable. What was there before is untouched, or with `in_place` refused.
    """
    header = _describe(model, info or {})
    with atomic.new_directory(directory, info={"sightline_version": __version__}, in_place=in_place) as staging:
        _write_json(staging / HEADER_FILE, header.model_dump())
        _write_json(staging / CONFIG_FILE, _standard_config(model, header))
        _write_json(staging / "generation_config.json", _special_tokens(model.language))
        if planned is not None and content is not None:
            stream_weights(planned, content, staging, shard_bytes=shard_bytes)
        else:
            fillers = {name: filler.to(model.language.dtype) for name, filler in _fillers(model, header).items()}
            write_weights(_file_tensors(model) | fillers, staging, shard_bytes=shard_bytes)
        if extra_files is not None:
            extra_files(staging)


def load_checkpoint(
    directory: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    verify: bool = True,
) -> tuple[VisionLanguageModel, dict[str, Any]]:
    """Read a checkpoint into a model in evaluation mode.

    Args:
        directory: written by `save_checkpoint`.
        device: where the weights go; they pass through the host's memory once.
        dtype: of all weights.
        verify: compare the files' checksums, not only their sizes.

    Returns:
        The model, and the `info` that was saved with it.

    Raises:
        CheckpointError: the directory is no finished checkpoint of ours, is damaged, or was written by a newer version;
            names, shapes or types of its tensors differ from what its configuration says; weights are not finite.
    """
    directory = atomic.readable_directory(directory)
    header = _read_header(directory)
    listed = atomic.verify_manifest(directory, checksums=verify)
    headers = read_headers(directory)
    unlisted = {HEADER_FILE, CONFIG_FILE, *(tensor.file for tensor in headers.values())} - set(listed)
    if unlisted:
        raise CheckpointError(f"{directory / min(unlisted)}: not in {atomic.MANIFEST}, so it was added later")
    try:
        configs = _read_configs(directory, tensors=len(headers))
        skeleton = _skeleton(header, *configs)
        check_headers(headers, _file_tensors(skeleton) | _fillers(skeleton, header), where=directory)
        with without_initialisation():
            model = _assemble(header, *configs, dtype=dtype)
        finish_without_weights(model.vision.backbone)
        finish_without_weights(model.language)
    except ConfigError as error:
        raise CheckpointError(f"{directory}: {error}") from error
    _fill(model, header, read_tensors(directory, headers), where=directory)
    return model.to(device).eval(), header.info


def read_info(directory: Path) -> dict[str, Any]:
    """The `info` of a checkpoint, without its weights; their files are neither read nor verified.

    Raises:
        CheckpointError: as `load_checkpoint` for `sightline.json`.
    """
    return _read_header(atomic.readable_directory(directory)).info


def meta_checkpoint(directory: Path) -> VisionLanguageModel:
    """The model of a checkpoint with shapes but no weights (torch's meta device); only the files' headers are read.

    Raises:
        CheckpointError: as `load_checkpoint`, but for checksums and the content of the weights.
    """
    directory = atomic.readable_directory(directory)
    header = _read_header(directory)
    try:
        return _skeleton(header, *_read_configs(directory, tensors=len(read_headers(directory))))
    except ConfigError as error:
        raise CheckpointError(f"{directory}: {error}") from error


def checkpoint_tensors(model: VisionLanguageModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every tensor that a checkpoint of `model` holds, by its name in the file: the model's own, and the fillers.

    The fillers are identity layers of the standard projector that the model's connector does not have.
    """
    return _file_tensors(model), _fillers(model, _describe(model, {}))


def _describe(model: VisionLanguageModel, info: Mapping[str, Any]) -> Header:
    parts = {
        "vision": model.vision.backbone.config.model_type,
        "connector": model.connector.kind,
        "language": model.language.config.model_type,
    }
    obstacle = standard_obstacle(
        connector=model.connector.kind,
        select=model.vision.select,
        prefix_tokens=model.vision.num_prefix_tokens,
        language_type=parts["language"],
        image_token_id=model.image_token_id,
        rows=len(model.language.get_input_embeddings().weight),
    )
    return Header(
        parts=parts,
        connector=model.connector.kind,
        vision_layer=model.vision.layer,
        vision_select=model.vision.select,
        image_token_id=model.image_token_id,
        tokens_per_image=model.vision.tokens_per_image,
        not_standard=obstacle,
        info=dict(info),
    )


def _standard_config(model: VisionLanguageModel, header: Header) -> dict[str, Any]:
    text_config = portable_config(model.language.config) | {"architectures": [type(model.language).__name__]}
    # What the tensors say, whatever the configuration said when they were made.
    text_config["tie_word_embeddings"] = (
        model.language.get_output_embeddings().weight is model.language.get_input_embeddings().weight
    )
    return standard_config(
        obstacle=header.not_standard,
        vision_config=portable_config(model.vision.backbone.config),
        text_config=text_config,
        connector=header.connector,
        layer=header.vision_layer,
        select=header.vision_select,
        prefix_tokens=model.vision.num_prefix_tokens,
        image_token_id=header.image_token_id,
        tokens_per_image=header.tokens_per_image,
        dtype=str(model.language.dtype).removeprefix("torch."),
    )


def _special_tokens(language: Any) -> dict[str, Any]:
    """Only the ids. transformers refuses to save sampling settings that contradict each other; we choose our own."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    values = {name: getattr(language.generation_config, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _file_tensors(model: VisionLanguageModel) -> dict[str, Tensor]:
    """The model's own tensors by their names in the file; a tensor that two modules share comes once."""
    everywhere = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    shared = everywhere - {name for name, _ in model.named_parameters()}
    vision_type = model.vision.backbone.config.model_type
    state = model.state_dict()
    return {tensor_name(name, vision_type=vision_type): state[name] for name in state if name not in shared}


def _fillers(model: VisionLanguageModel, header: Header) -> dict[str, Tensor]:
    if header.not_standard is not None:
        return {}
    connector = model.connector
    return projector_fillers(
        header.connector, vision_width=connector.vision_width, language_width=connector.language_width
    )


def _read_header(directory: Path) -> Header:
    path = directory / HEADER_FILE
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: there is no such checkpoint directory")
    if not path.is_file():
        foreign = (directory / CONFIG_FILE).is_file()
        advice = "if other software wrote it, bring it in with `sightline import`" if foreign else "nothing to load"
        raise CheckpointError(f"{directory}: no {HEADER_FILE} in it: not a Sightline checkpoint; {advice}")
    content = atomic.read_json(path)
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {version}, this program reads {FORMAT_VERSION}: update Sightline"
        )
    try:
        return Header.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"])
        raise CheckpointError(f"{path}: damaged: {place}: {first['msg']}") from error


def _read_configs(directory: Path, *, tensors: int) -> tuple[Any, Any]:
    """The configurations of encoder and language model. Both are closed: an unknown key is refused."""
    path = directory / CONFIG_FILE
    content = atomic.read_json(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: damaged: not a model configuration")
    unknown = sorted(set(content) - CONFIG_KEYS)
    if unknown:
        raise CheckpointError(f'{path}: unknown setting "{unknown[0]}"')
    configs = []
    for key in ("vision_config", "text_config"):
        if not isinstance(content.get(key), dict):
            raise CheckpointError(f"{path}: damaged: no {key}")
        config = parse_config(content[key], where=f"{CONFIG_FILE}: {key}", closed=True)
        check_depth(config, tensors=tensors, where=f"{path}: {key}")
        configs.append(config)
    return configs[0], configs[1]


def _skeleton(header: Header, vision_config: Any, text_config: Any) -> VisionLanguageModel:
    """The model with shapes but no memory, to compare the files with."""
    try:
        with torch.device("meta"):
            return _assemble(header, vision_config, text_config, dtype=torch.float32)
    except RuntimeError as error:
        raise ConfigError(f"{CONFIG_FILE} asks for tensors that cannot exist: {first_line(error)}") from error


def _assemble(header: Header, vision_config: Any, text_config: Any, *, dtype: torch.dtype) -> VisionLanguageModel:
    backbone = vision_from_config(vision_config, dtype=dtype)
    vision = VisionEncoder(backbone, layer=header.vision_layer, select=header.vision_select)
    if vision.tokens_per_image != header.tokens_per_image:
        wanted, found = header.tokens_per_image, vision.tokens_per_image
        raise CheckpointError(f"{HEADER_FILE} says {wanted} tokens per image, but the encoder gives {found}")
    language = language_from_config(text_config, dtype=dtype)
    width = language.get_input_embeddings().weight.shape[1]
    connector = build_connector(header.connector, vision_width=vision.width, language_width=width).to(dtype)
    return VisionLanguageModel(vision, connector, language, image_token_id=header.image_token_id)


@torch.no_grad()
def _fill(model: VisionLanguageModel, header: Header, tensors: Iterable[tuple[str, Tensor]], *, where: Path) -> None:
    """Copy the tensors of the files into the model, one at a time."""
    targets, fillers = _file_tensors(model), _fillers(model, header)
    for name, tensor in tensors:
        if name in fillers:
            if not torch.equal(tensor.float(), fillers[name]):
                raise CheckpointError(
                    f"{where}: {name} is no identity: the connector is not {header.connector} any more"
                )
            continue
        target = targets[name].copy_(tensor)
        if target.is_floating_point() and not target.isfinite().all():
            raise CheckpointError(f"{where}: {name} has values that are not finite in {target.dtype}")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
