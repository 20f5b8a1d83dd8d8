"""What a foreign checkpoint is to become, before any tensor is read: one `Draft` for every kind.

Comes in: what `recognise` found, and the directories that the user named. Goes out: configurations, settings, and which
tensors are to fill the model. The kinds of the original's layout are drafted here, llava-hf in `import_hf`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import CheckpointError, ConfigError
from sightline.exchange.import_changes import base_changes, is_difference, low_rank_changes
from sightline.exchange.import_parts import (
    find_tower,
    has_tokenizer,
    language_config,
    locate,
    part_tensors,
    renamed,
    tower_config,
)
from sightline.exchange.import_plan import Change, Supply, unused_tensors
from sightline.exchange.original import (
    OriginalSettings,
    original_name,
    our_name,
    read_settings,
    text_settings,
    tower_name,
)
from sightline.exchange.recognise import Found
from sightline.exchange.tensor_files import TensorReader
from sightline.model.configs import parse_config

_PROJECTOR_LAYER = re.compile(r".*mm_projector\.(?:(\d{1,3})\.)?(?:weight|bias)")
_PROJECTOR_ROWS = "rows of <im_start> and <im_end> around a picture, which no template here writes"


@dataclass(kw_only=True, slots=True)
class Draft:
    """A model to be, and where it comes from.

    Attributes:
        what: in the words of the account.
        vision_config, text_config: of transformers.
        settings: everything else, in our words.
        supplies: foreign tensors under our names; the first that has a tensor gives it.
        changes: what is done to them, by our names.
        tokenizer, pixels: directories of the tokenizer and of the image processor's settings.
        template: what the kind suggests; None: the language model and the tokenizer decide.
        image_token_id: what the checkpoint says of it, if it knows one.
        their_name: from our names to those in the files, for messages.
        melted: how many tensors go into others, by where they are from.
        unused: tensors that were put aside, and why.
    """

    what: str
    vision_config: Any
    text_config: Any
    settings: OriginalSettings
    supplies: list[Supply]
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    tokenizer: Path
    pixels: Path
    template: str | None = None
    image_token_id: int | None = None
    their_name: Callable[[str], str] = str
    melted: dict[str, int] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)


def draft_original(found: Found, *, base: str | None, vision: str | None, reader: TensorReader) -> Draft:
    """A full fine-tune, or the difference of one to `base`."""
    config = found.config or {}
    where = str(found.directory / "config.json")
    settings = read_settings(config, where=where)
    text_config = parse_config(text_settings(config, where=where), where=where, closed=False)
    tower, vision_config = _tower(found, settings, vision)
    own = renamed(found.tensors, lambda name: our_name(name, vision_type=vision_config.model_type))
    home = None if base is None else locate(base, part="--base")
    based = None if home is None else part_tensors(home, lambda name: our_name(name, vision_type=""))
    changes: Mapping[str, tuple[Change, ...]] = {}
    if is_difference(own, based, reader):
        if based is None:
            raise ConfigError(
                f"{found.directory}: its weights are differences to another model's (a LLaVA delta); "
                "name the original LLaMA with --base"
            )
        changes = base_changes(own, based)
    elif based is not None:
        raise ConfigError(f"{found.directory}: is a whole model, which needs no base; remove --base")
    return Draft(
        what=f"the difference of a LLaVA to {home}" if changes else "a whole LLaVA in the original's layout",
        vision_config=vision_config,
        text_config=text_config,
        settings=settings,
        supplies=[Supply("checkpoint", own), _tower_supply(tower, vision_config)],
        changes=changes,
        tokenizer=home if home is not None and not has_tokenizer(found.directory) else found.directory,
        pixels=tower,
        their_name=_their_name(settings),
        melted={"base": len(changes)} if changes else {},
        unused={} if based is None else unused_tensors(based),
    )


def draft_projector(found: Found, *, base: str | None, vision: str | None, reader: TensorReader) -> Draft:
    """What stage 1 of the original leaves: a projector, to which base and tower are named."""
    home = _needed_base(found, base, "a projector alone")
    connector = _connector_of(found)
    where = str(found.directory / "config.json")
    config = found.config or {}
    settings = read_settings({"mm_projector_type": connector, **config}, where=where)
    tower, vision_config = _tower(found, settings, vision)
    projector = {name: stored for name, stored in found.tensors.items() if "mm_projector." in name}
    own = renamed(projector, lambda name: our_name(_unwrapped(name), vision_type=vision_config.model_type))
    based = part_tensors(home, lambda name: our_name(name, vision_type=vision_config.model_type))
    return Draft(
        what=f"a projector of the original's, onto {home}",
        vision_config=vision_config,
        text_config=language_config(home),
        settings=settings,
        supplies=[Supply("checkpoint", own), Supply("base", based), _tower_supply(tower, vision_config)],
        tokenizer=home,
        pixels=tower,
        template="plain",
        their_name=_their_name(settings),
        unused={str(stored): _PROJECTOR_ROWS for name, stored in found.tensors.items() if name not in projector},
    )


def draft_lora(found: Found, *, base: str | None, vision: str | None, reader: TensorReader) -> Draft:
    """A LoRA folder of the original's: the adapter is melted into the base, what was trained beside it replaces."""
    home = _needed_base(found, base, "a LoRA folder")
    where = str(found.directory / "config.json")
    settings = read_settings(found.config or {}, where=where)
    text_config = parse_config(text_settings(found.config or {}, where=where), where=where, closed=False)
    tower, vision_config = _tower(found, settings, vision)

    def rename(name: str) -> str:
        return our_name(_unwrapped(name), vision_type=vision_config.model_type)

    based = part_tensors(home, rename)
    changes = low_rank_changes(
        found.adapter, found.adapter_config, rename=rename, where=found.directory / "adapter_config.json"
    )
    trained = renamed(found.tensors, rename)
    supplies = [Supply("checkpoint", trained), Supply("base", based), _tower_supply(tower, vision_config)]
    for name in changes:
        if not any(name in supply.tensors for supply in supplies):
            raise CheckpointError(f"{found.directory}: its adapter changes {name}, which neither base nor tower has")
    return Draft(
        what=f"a LoRA folder of the original's, melted into {home}",
        vision_config=vision_config,
        text_config=text_config,
        settings=settings,
        supplies=supplies,
        changes=changes,
        tokenizer=found.directory if has_tokenizer(found.directory) else home,
        pixels=tower,
        their_name=_their_name(settings),
        melted={"adapter": len(found.adapter)},
    )


def _their_name(settings: OriginalSettings) -> Callable[[str], str]:
    return lambda name: original_name(name, connector=settings.connector) or name


def _needed_base(found: Found, base: str | None, what: str) -> Path:
    if base is None:
        raise ConfigError(f"{found.directory}: is {what}; name the language model that it belongs to with --base")
    return locate(base, part="--base")


def _tower(found: Found, settings: OriginalSettings, given: str | None) -> tuple[Path, Any]:
    tower = find_tower(given, settings.tower, beside=found.directory)
    return tower, tower_config(tower)


def _tower_supply(tower: Path, config: Any) -> Supply:
    return Supply("vision", part_tensors(tower, lambda name: tower_name(name, vision_type=config.model_type)))


def _unwrapped(name: str) -> str:
    """A name without what peft puts before it: `base_model.model.model.layers...` is `model.layers...`.

    Both were written, with and without `base_model.` (the original's load_pretrained_model).
    """
    inner = name.removeprefix("base_model.")
    return inner.removeprefix("model.") if inner.startswith(("model.model.", "model.lm_head.")) else inner


def _connector_of(found: Found) -> str:
    """The connector of a projector file, by its layers: a lone one has no number, those of an MLP have 0, 2, 4, ..."""
    layers = [layer for name in found.tensors if (layer := _PROJECTOR_LAYER.fullmatch(name)) is not None]
    highest = max((int(layer[1] or 0) for layer in layers), default=0)
    return f"mlp{highest // 2 + 1}x_gelu" if highest else "linear"
