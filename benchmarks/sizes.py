"""What is measured: sizes of models, and ways of training them.

Comes in: a name. Goes out: configurations as `transformers` names them, and the keys of a recipe. Knows no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.mixture import CAPTIONS, INSTRUCT, Subset


@dataclass(frozen=True, kw_only=True)
class Size:
    """Two configurations, and the step: `batch` samples of at most `max_length` positions.

    `micro_batches` are what the padded trainers go through at once, by peer. 8 is a usual one (LLaVA-1.5 has 16 for
    each GPU). Of the others those of `mid` were found fastest by `--tune` for `tuned` and `grouped`; the other sizes
    have them from there, untried. TRL has 4: in batches of 8 more is padding.
    """

    name: str
    vision: Mapping[str, Any]
    language: Mapping[str, Any]
    batch: int
    max_length: int
    lora_rank: int
    micro_batches: Mapping[str, int]

    def micro_batch(self, peer: str) -> int:
        """Of a peer: the largest divisor of the batch up to the one of `micro_batches`."""
        return fitting(self.micro_batches[peer], self.batch)

    @property
    def image_tokens(self) -> int:
        return int((self.vision["image_size"] // self.vision["patch_size"]) ** 2)


def fitting(micro_batch: int, batch: int) -> int:
    """The largest divisor of the batch up to the micro-batch."""
    return max(size for size in range(1, micro_batch + 1) if batch % size == 0)


def _clip(width: int, layers: int, heads: int, *, image: int, patch: int = 14) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": image,
        "patch_size": patch,
    }


def _llama(width: int, layers: int, heads: int, *, inner: int, rows: int, positions: int = 2048) -> dict[str, Any]:
    """As Llama and Vicuna are built: no biases, an output matrix of its own."""
    return {
        "model_type": "llama",
        "vocab_size": rows,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": positions,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def _peers(usual: int, *, tuned: int, grouped: int, trl: int) -> dict[str, int]:
    return {"trainer": usual, "tuned": tuned, "grouped": grouped, "single": 1, "trl": trl}


SIZES: dict[str, Size] = {
    size.name: size
    for size in (
        Size(
            name="tiny",
            vision=_clip(32, 3, 2, image=28, patch=7),
            language=_llama(32, 2, 2, inner=64, rows=2048, positions=512),
            batch=4,
            max_length=512,
            lora_rank=4,
            micro_batches=_peers(2, tuned=2, grouped=2, trl=2),
        ),
        Size(
            name="small",
            vision=_clip(192, 4, 4, image=112),
            language=_llama(256, 6, 4, inner=688, rows=32_000),
            batch=32,
            max_length=2048,
            lora_rank=16,
            micro_batches=_peers(8, tuned=2, grouped=4, trl=4),
        ),
        Size(
            name="mid",
            vision=_clip(384, 6, 6, image=224),
            language=_llama(512, 8, 8, inner=1376, rows=32_000),
            batch=16,
            max_length=2048,
            lora_rank=32,
            micro_batches=_peers(8, tuned=2, grouped=4, trl=4),
        ),
        Size(
            name="7b",
            vision=_clip(1024, 24, 16, image=336),
            language=_llama(4096, 32, 32, inner=11_008, rows=32_000, positions=4096),
            batch=32,
            max_length=2048,
            lora_rank=128,
            micro_batches=_peers(16, tuned=16, grouped=16, trl=16),
        ),
    )
}
"""`7b`: CLIP-L/14 at 336 px and Llama-7B, the parts of LLaVA-1.5-7B."""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A way of training: the parts that train, all at one rate, and the data. Rates are LLaVA-1.5's.

    `peers` are those that it is compared with when none are named.
    """

    name: str
    trained: tuple[str, ...]
    rate: float
    template: str
    image_policy: str
    mixture: tuple[Subset, ...]
    peers: tuple[str, ...] = ("trainer",)
    lora: bool = False


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(name="stage1", trained=("connector",), rate=1e-3, template="plain", image_policy="crop", mixture=CAPTIONS),
        Mode(
            name="stage2",
            trained=("connector", "language"),
            rate=2e-5,
            template="vicuna_v1",
            image_policy="pad",
            mixture=INSTRUCT,
            peers=("trainer", "grouped", "trl"),
        ),
        Mode(
            name="stage2-lora",
            trained=("connector", "language"),
            rate=2e-4,
            template="vicuna_v1",
            image_policy="pad",
            mixture=INSTRUCT,
            lora=True,
        ),
    )
}
