"""Image encoders and language models, from what a recipe names.

Comes in: a directory, a Hub id, or a configuration for random weights. Goes out: a `VisionEncoder` or a transformers
causal language model. Knows nothing of connectors being trained, checkpoints of ours, or tokenizers. Weights are read
from safetensors only, and a weight that is not in the file is an error, never a random number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING, AutoModel, AutoModelForCausalLM
from transformers.initialization import no_init_weights

from sightline.errors import ConfigError
from sightline.model.configs import first_line, read_config
from sightline.model.connector import build_connector
from sightline.model.vision import VisionEncoder

Spec = str | Mapping[str, Any]

# Rows of an embedding matrix come in multiples of this, for the tensor cores (NVIDIA's matrix multiplication guide).
ROW_MULTIPLE = 64
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_LOAD_ERRORS = (OSError, ValueError, TypeError, RuntimeError, LookupError, SafetensorError, StrictDataclassError)


def build_vision(
    spec: Spec, *, layer: int = -2, select: str = "patch", dtype: torch.dtype = torch.float32
) -> VisionEncoder:
    """An image encoder with its weights, or with random ones for `{config: ...}`.

    Args:
        spec: a directory or Hub id, of an encoder or of a model with a vision side (CLIP, SigLIP), or `{config: ...}`.
        layer, select: as in `VisionEncoder`.
        dtype: of the weights.

    Raises:
        ConfigError: it cannot be found, read or used; weights that the features need are missing.
    """
    config = read_config(spec, part="vision")
    if not isinstance(spec, str):
        return VisionEncoder(vision_from_config(config, dtype=dtype), layer=layer, select=select)
    _check_class(config, MODEL_MAPPING, part="vision")
    backbone, missing = _load(AutoModel, spec, config, part="vision", dtype=dtype)
    encoder = VisionEncoder(backbone, layer=layer, select=select)
    # A pooling head that the features do not pass through may well be absent, as in classification checkpoints.
    _check_complete(spec, missing & encoder.used_parameters, part="vision")
    return encoder


def build_language(spec: Spec, *, dtype: torch.dtype = torch.float32) -> Any:
    """A transformers causal language model with its weights, or with random ones for `{config: ...}`.

    Raises:
        ConfigError: it cannot be found or read, is no causal language model, or weights are missing.
    """
    config = read_config(spec, part="language")
    if not isinstance(spec, str):
        return language_from_config(config, dtype=dtype)
    _check_class(config, MODEL_FOR_CAUSAL_LM_MAPPING, part="language")
    language, missing = _load(AutoModelForCausalLM, spec, config, part="language", dtype=dtype)
    _check_complete(spec, missing, part="language")
    return language


def vision_from_config(config: Any, *, dtype: torch.dtype) -> nn.Module:
    """An encoder of this configuration with random weights (none under `without_initialisation`)."""
    _check_class(config, MODEL_MAPPING, part="vision")
    backbone: nn.Module = _make(AutoModel, config, dtype=dtype, part="vision")
    return backbone


def language_from_config(config: Any, *, dtype: torch.dtype) -> Any:
    """A causal language model of this configuration with random weights (none under `without_initialisation`)."""
    _check_class(config, MODEL_FOR_CAUSAL_LM_MAPPING, part="language")
    return _make(AutoModelForCausalLM, config, dtype=dtype, part="language")


@contextmanager
def without_initialisation() -> Iterator[None]:
    """Models made inside have weights that are allocated but not touched: they are to be filled from a file."""
    with no_init_weights():
        yield


def finish_without_weights(model: Any) -> None:
    """Finish a model made `without_initialisation`, but for its weights.

    Ties the matrices that are one, and computes what no file stores (rotary frequencies, position ids). Most models
    compute it when they are made; transformers only promises it for `init_weights`, which leaves alone the tensors that
    carry this mark.
    """
    for tensor in model.state_dict(keep_vars=True).values():
        tensor._is_hf_initialized = True
    model.init_weights()


def resize_vocabulary(language: Any, needed_rows: int) -> int:
    """Give the language model rows for `needed_rows` token ids, if it has fewer. Returns the rows it now has.

    New rows come in a multiple of 64 and start at the mean of the old ones, in the input and the output matrix, as in
    LLaVA's `smart_tokenizer_and_embedding_resize`.
    """
    old: int = language.get_input_embeddings().weight.shape[0]
    if needed_rows <= old:
        return old
    language.resize_token_embeddings(needed_rows, pad_to_multiple_of=ROW_MULTIPLE, mean_resizing=False)
    with torch.no_grad():
        for embedding in (language.get_input_embeddings(), language.get_output_embeddings()):
            # In float32: the mean of 32,000 rows in bfloat16 would keep two digits. A tied matrix is done twice alike.
            embedding.weight[old:] = embedding.weight[:old].float().mean(dim=0).to(embedding.weight.dtype)
    new: int = language.get_input_embeddings().weight.shape[0]
    return new


def meta_vision(spec: Spec, *, layer: int = -2, select: str = "patch") -> VisionEncoder:
    """An image encoder from its configuration alone: shapes and attributes, no weights (torch's meta device)."""
    config = read_config(spec, part="vision")
    with torch.device("meta"):
        return VisionEncoder(vision_from_config(config, dtype=torch.float32), layer=layer, select=select)


def meta_language(spec: Spec) -> Any:
    """A causal language model from its configuration alone: shapes, no weights (torch's meta device)."""
    config = read_config(spec, part="language")
    with torch.device("meta"):
        return language_from_config(config, dtype=torch.float32)


def meta_model(
    vision: Spec, language: Spec, *, connector: str = "mlp2x_gelu", layer: int = -2, select: str = "patch"
) -> dict[str, nn.Module]:
    """The three parts without weights, from the configurations alone: nothing is read but them, or allocated."""
    encoder, text = meta_vision(vision, layer=layer, select=select), meta_language(language)
    width = text.get_input_embeddings().weight.shape[1]
    with torch.device("meta"):
        bridge = build_connector(connector, vision_width=encoder.width, language_width=width)
    return {"vision": encoder, "connector": bridge, "language": text}


def count_parameters(
    vision: Spec, language: Spec, *, connector: str = "mlp2x_gelu", layer: int = -2, select: str = "patch"
) -> dict[str, int]:
    """Parameters per part, from the configurations alone."""
    parts = meta_model(vision, language, connector=connector, layer=layer, select=select)
    return {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts.items()}


def _check_class(config: Any, mapping: Mapping[type, type], *, part: str) -> None:
    if type(config) not in mapping:
        kind = "an image encoder" if part == "vision" else "a causal language model"
        raise ConfigError(f"{part}: transformers has no class for {config.model_type} as {kind}")


def _make(auto: Any, config: Any, *, dtype: torch.dtype, part: str) -> Any:
    try:
        return auto.from_config(config, dtype=dtype, trust_remote_code=False)
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ConfigError(f"{part}: {config.model_type} cannot be built: {first_line(error)}") from error


def _load(auto: Any, spec: str, config: Any, *, part: str, dtype: torch.dtype) -> tuple[Any, set[str]]:
    """Read weights. Returns the model and the names of its weights that the files do not have."""
    directory = Path(spec)
    if directory.is_dir() and not any((directory / name).is_file() for name in _WEIGHTS):
        pickles = sorted(path.name for path in directory.glob("*.bin"))
        found = f"only {pickles[0]}, a pickle, which can run code" if pickles else "no weights"
        raise ConfigError(f"{part}: {spec} holds {found}; {_WEIGHTS[0]} is needed")
    try:
        model, report = auto.from_pretrained(
            spec,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except _LOAD_ERRORS as error:
        raise ConfigError(f"{part}: {spec} cannot be loaded: {first_line(error)}") from error
    return model, set(report["missing_keys"])


def _check_complete(spec: str, missing: set[str], *, part: str) -> None:
    if missing:
        first = min(missing)
        raise ConfigError(f"{part}: the weights in {spec} lack {len(missing)} of the model's tensors, such as {first}")
