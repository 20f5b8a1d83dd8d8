"""The order in which a sentencepiece model puts pieces together.

Comes in: a tokenizer that `transformers` made from a `tokenizer.model`. It is changed in place: transformers orders the
merges by the pieces' ids, sentencepiece by their scores. In LLaMA's vocabulary the runs of spaces have low ids and the
lowest score of all, so without this `safe.  Your` is cut into other pieces than the language model was trained on.
Knows nothing of tokenizers that come with a `tokenizer.json`: there the order is written down.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers.models import BPE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def order_merges_by_score(tokenizer: PreTrainedTokenizerBase) -> None:
    """Order the merges as sentencepiece does, if they were taken from its model file."""
    source = Path(getattr(tokenizer, "vocab_file", None) or "")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    made_here = source.suffix == ".model" and not source.with_name("tokenizer.json").exists()
    if not made_here or backend is None or not isinstance(backend.model, BPE):
        return
    model = json.loads(backend.to_str())["model"]
    merges = in_order([(left, right) for left, right in model["merges"]], scores=_scores(source))
    backend.model = BPE(
        vocab=model["vocab"],
        merges=merges,
        unk_token=model["unk_token"],
        fuse_unk=model["fuse_unk"],
        byte_fallback=model["byte_fallback"],
    )


def in_order(merges: list[tuple[str, str]], *, scores: dict[str, float]) -> list[tuple[str, str]]:
    """The best score first; of equal ones the longest, so that a run of spaces is put together from its start.

    That is the order of sentencepiece's bpe_model.cc (score, then position), as transformers' own conversion had it
    until version 4 (`generate_merges` with `vocab_scores`).
    """
    return sorted(merges, key=lambda pair: (scores["".join(pair)], len(pair[0]), len(pair[1])), reverse=True)


def _scores(source: Path) -> dict[str, float]:
    from sentencepiece import SentencePieceProcessor  # an extra: transformers asks for it before it comes to this

    processor = SentencePieceProcessor(model_file=str(source))
    return {processor.id_to_piece(index): processor.get_score(index) for index in range(processor.get_piece_size())}
