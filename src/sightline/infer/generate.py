"""Generation: prompts in, tokens out, one step at a time.

Comes in: a model, prompts as ids with placeholders, their pixels. Goes out: the ids of the answers. Prompts of
different lengths are padded on the left and masked, so each gets the answer it would get alone. Does not know text:
a `StopRule` says when an answer is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.errors import ConfigError
from sightline.infer.sampling import Sampling, choose
from sightline.model.vlm import VisionLanguageModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One prompt: ids with K placeholders per picture, and pixels float32[N, 3, H, W]."""

    ids: list[int]
    pixels: Tensor


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When an answer is over: at a stop id, or where its text holds one of `texts` (such as a newline)."""

    ids: frozenset[int]
    texts: tuple[str, ...] = ()
    decode: Callable[[Sequence[int]], str]

    def ends(self, answer: Sequence[int]) -> bool:
        """Whether the answer is over after its last token."""
        return answer[-1] in self.ids or (bool(self.texts) and any(text in self.decode(answer) for text in self.texts))

    def text(self, answer: Sequence[int]) -> str:
        """The answer in words, without what ended it."""
        words = self.decode([token for token in answer if token not in self.ids])
        for text in self.texts:
            words = words.split(text, 1)[0]
        return words.strip()

    def settled(self, answer: Sequence[int]) -> str:
        """What of an unfinished answer can be shown: not an end that may yet become one of `texts`."""
        words = self.text(answer)
        for text in self.texts:
            begun = next((length for length in range(len(text) - 1, 0, -1) if words.endswith(text[:length])), 0)
            words = words[: len(words) - begun]
        return words.rstrip()


@torch.inference_mode()
def decode_steps(
    model: VisionLanguageModel, prompts: Sequence[Prompt], *, sampling: Sampling, stop: StopRule
) -> Iterator[list[int | None]]:
    """Yields the tokens of each step, one per prompt; None for a prompt whose answer is over.

    Ends when all answers are over or `max_new_tokens` steps were taken. An answer is over by the stop rule, or when the
    context is full.
    """
    model.eval()
    device = next(model.parameters()).device
    generator = None
    if sampling.seed is not None:
        generator = torch.Generator(device).manual_seed(sampling.seed)
    ids, mask = _pad_left([prompt.ids for prompt in prompts], device)
    pixels = torch.cat([prompt.pixels for prompt in prompts]).to(device)
    context = _context(model)
    _check_length(ids.shape[1], context)
    embeddings = model.embed(ids, pixels)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits, past = model.decode(embeddings, attention_mask=mask, position_ids=positions)
    answers: list[list[int]] = [[] for _ in prompts]
    over = [False] * len(prompts)
    for _ in range(sampling.max_new_tokens):
        chosen = choose(_without_placeholder(logits, model.image_token_id), sampling, generator)
        tokens = chosen.tolist()
        yield [None if done else token for token, done in zip(tokens, over, strict=True)]
        for answer, token in zip(answers, tokens, strict=True):
            answer.append(token)
        over = [
            done or stop.ends(answer) or len(prompt.ids) + len(answer) > context  # of its own length, not the batch's
            for done, answer, prompt in zip(over, answers, prompts, strict=True)
        ]
        if all(over):
            return
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
        positions = (positions[:, -1:] + 1).clamp(max=context - 1)  # of rows that are over and wait for the others
        embeddings = model.embed(chosen[:, None], None)
        logits, past = model.decode(embeddings, past, attention_mask=mask, position_ids=positions)


def generate(
    model: VisionLanguageModel, prompts: Sequence[Prompt], *, sampling: Sampling, stop: StopRule
) -> list[list[int]]:
    """The ids of the answers, each with the id that ended it, if one did."""
    answers: list[list[int]] = [[] for _ in prompts]
    for tokens in decode_steps(model, prompts, sampling=sampling, stop=stop):
        for answer, token in zip(answers, tokens, strict=True):
            if token is not None:
                answer.append(token)
    return answers


def _pad_left(rows: Sequence[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64[B, T]. Padding is 0, an ordinary id that the mask hides."""
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def _context(model: VisionLanguageModel) -> int:
    limit = getattr(model.language.config, "max_position_embeddings", None)
    return int(limit) if limit else 1 << 30


def _check_length(length: int, context: int) -> None:
    if length >= context:
        raise ConfigError(
            f"the prompt takes {length} positions, the language model has {context}: "
            "shorten the conversation (/reset) or use fewer pictures"
        )


def _without_placeholder(logits: Tensor, placeholder: int) -> Tensor:
    """Logits in which `<image>` cannot be chosen: it stands for a picture's feature, and fed back it would want one."""
    if placeholder < logits.shape[-1]:  # it needs no row in the vocabulary
        logits[:, placeholder] = -torch.inf
    return logits
