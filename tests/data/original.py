"""LLaMA's own tokenizer and what the original LLaVA made of it: they lie beside the repository, in ../shared/parity."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sightline.data.processor import load_tokenizer
from sightline.data.sample import ImageRef, Sample, Turn, canonical_content

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"

TEMPLATES = {"v0": "v0", "v1": "vicuna_v1", "llama_2": "llava_llama_2", "plain": "plain"}
"""The recordings' names of templates -> ours."""

needs_llama = pytest.mark.skipif(not PARITY.exists(), reason="no tokenizer of LLaMA: ../shared/parity is absent")


def recorded() -> list[Any]:
    """One parameter per recorded row."""
    if not PARITY.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason="no recorded tokens: ../shared/parity is absent"))]
    rows = [json.loads(line) for line in (PARITY / "tokens.jsonl").read_text().splitlines()]
    return [pytest.param(row, id=f"{row['template']}-{row['legacy']}-{row['sample']['id']}") for row in rows]


@cache
def llama(legacy: bool) -> Any:
    """LLaMA's tokenizer from its sentencepiece model, as `sightline` loads it."""
    with tempfile.TemporaryDirectory() as name:
        folder, original = Path(name), PARITY / "llava-tiny-original"
        for file in ("tokenizer.model", "special_tokens_map.json"):
            shutil.copy(original / file, folder / file)
        settings = json.loads((original / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"legacy": legacy}))
        (folder / "config.json").write_text('{"model_type": "llama"}')
        return load_tokenizer(name)


def read_llava(sample: dict[str, Any]) -> Sample:
    """LLaVA JSON as the reader of samples gives it."""
    turns = []
    for turn in sample["conversations"]:
        before, mark, after = turn["value"].partition("<image>")
        content = canonical_content((before, ImageRef(index=0), after)) if mark else (turn["value"],)
        turns.append(Turn(role="user" if turn["from"] == "human" else "assistant", content=content))
    images = (sample["image"],) if "image" in sample else ()
    return Sample(id=sample["id"], images=images, turns=tuple(turns), source="parity")
