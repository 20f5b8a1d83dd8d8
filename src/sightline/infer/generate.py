"""Generation: prompts in, tokens out, one step at a time.

Comes in: a model, prompts as ids with placeholders, their pixels. Goes out: the ids of the answers. Prompts of
different lengths go together and each gets the answer it would get alone, also where it is drawn: every row has its
own random numbers. Knows of text only that a `StopRule` says when an answer is over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sightline.errors import ConfigError
from sightline.infer.lanes import Prompt, prefill, prefill_new
from sightline.infer.memory import Memory
from sightline.infer.sampling import Sampling, choose
from sightline.infer.words import AnswerText, StopRule
from sightline.model.vlm import VisionLanguageModel

__all__ = ["Prompt", "context_of", "decode_steps", "generate", "generator_of", "without_placeholder"]


@torch.inference_mode()
def decode_steps(
    model: VisionLanguageModel,
    prompts: Sequence[Prompt],
    *,
    sampling: Sampling,
    stop: StopRule,
    memory: Memory | None = None,
) -> Iterator[list[int | None]]:
    """Yields the tokens of each step, one per prompt; None for a prompt whose answer is over.

    Ends when all answers are over or `max_new_tokens` steps were taken. An answer is over by the stop rule, or when the
    context is full. A step is computed when it is asked for.

    Args:
        memory: of the conversation that the only prompt belongs to.

    Raises:
        ConfigError: a prompt is longer than the language model's context.
    """
    model.eval()
    context = context_of(model)
    _check_length(max(len(prompt.ids) for prompt in prompts), context)
    generators = _generators(prompts, sampling, next(model.parameters()).device)
    words = [AnswerText(stop) for _ in prompts]
    lanes = prefill(model, prompts) if memory is None else [prefill_new(model, prompts[0], memory)]
    for count in range(1, sampling.max_new_tokens + 1):
        tokens: list[int | None] = [None] * len(prompts)
        for lane in lanes:
            logits = without_placeholder(lane.logits, model.image_token_id)
            chosen = choose(logits, sampling, generators and [generators[row] for row in lane.rows])
            for row, token in zip(lane.rows, chosen.tolist(), strict=True):
                tokens[row] = token
        yield tokens
        going = {
            row: token
            for row, token in enumerate(tokens)
            if token is not None and not _ends(words[row], stop, token) and len(prompts[row].ids) + count <= context
        }
        if not going or count == sampling.max_new_tokens:
            return
        lanes = [lane for lane in lanes if any(row in going for row in lane.rows)]
        for lane in lanes:
            lane.keep(going)
            lane.step(model, [going[row] for row in lane.rows])
        if memory is not None:
            memory.ids.append(going[0])


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


def _ends(words: AnswerText, stop: StopRule, token: int) -> bool:
    """Whether an answer is over with its newest token; its words are looked at only where they can end it."""
    if stop.texts:
        words.push(token)
    return words.over or token in stop.ids


def _generators(prompts: Sequence[Prompt], sampling: Sampling, device: torch.device) -> list[torch.Generator] | None:
    if sampling.seed is None or sampling.temperature == 0:
        return None
    return [generator_of(prompt, sampling.seed, device) for prompt in prompts]


def generator_of(prompt: Prompt, seed: int, device: torch.device) -> torch.Generator:
    """Random numbers that depend on the seed and on that prompt alone."""
    digest = hashlib.sha256(repr((seed, prompt.number, prompt.ids)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def context_of(model: VisionLanguageModel) -> int:
    """How many positions the language model has.

    With longrope (Phi-3, Phi-3.5 of 128k) only those that it was first trained on: once any position of a call lies
    beyond them, transformers turns every row of that call by other factors, so the keys that a cache holds no longer
    fit, and a long conversation would change the answers beside it.
    """
    config = model.language.config
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len")]  # the latter: MPT
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        limits.append(rope["original_max_position_embeddings"])
    return min((int(limit) for limit in limits if limit), default=1 << 30)


def _check_length(length: int, context: int) -> None:
    if length >= context:
        raise ConfigError(
            f"the prompt takes {length} positions, the language model has {context}: "
            "shorten the conversation (/reset) or use fewer pictures"
        )


def without_placeholder(logits: Tensor, placeholder: int) -> Tensor:
    """Logits in which `<image>` cannot be chosen: it stands for a picture's feature, and fed back it would want one."""
    if placeholder < logits.shape[-1]:  # it needs no row in the vocabulary
        logits[:, placeholder] = -torch.inf
    return logits
