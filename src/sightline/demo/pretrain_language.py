"""Trains the small language model and its tokenizer: on text alone.

Comes in: a seed and a number of steps. Goes out: a `LlamaForCausalLM` directory with its tokenizer and a JSONL log.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sightline.demo.corpus import ASSISTANT, BOS, END, IMAGE, PAD, USER, Document, map_words, write_document

VOCABULARY = 1024


@dataclass(frozen=True, slots=True)
class Cycle:
    """One stretch of the training.

    Attributes:
        steps: optimizer steps.
        lr: the highest rate.
        cooling: steps over which the rate falls to zero; 0: it stays.
        horizon: the step at which it would be zero, `steps` unless the cycle ends before.
    """

    steps: int
    lr: float
    cooling: int = 0
    horizon: int | None = None


CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>{% else %}<|user|>{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(*, documents: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE over the corpus in which every word of a map is one token."""
    tokenizer = Tokenizer(models.BPE())
    words = Regex(r" ?[A-Za-z0-9]+| ?[^\sA-Za-z0-9]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, END, USER, ASSISTANT, IMAGE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    every_word = "".join(f" {word}" for word in map_words())
    texts = [piece.text for index in range(documents) for piece in write_document(index) if not piece.special]
    tokenizer.train_from_iterator(texts + [every_word] * (documents // 4), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    split = [word for word in map_words() if len(tokenizer.encode(f" {word}", add_special_tokens=False).ids) != 1]
    assert not split, f"words of the map that are more than one token: {split}"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
    )


def language_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """2.9 million parameters."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.06,  # near 1/sqrt(width), as the usual 0.02 is for models twenty times wider
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class Row(NamedTuple):
    """One document: ids, labels (-100: not learnt), and the ids of the other words that share each position."""

    ids: list[int]
    labels: list[int]
    partners: list[tuple[int, ...]]


def tokenize(document: Document, tokenizer: PreTrainedTokenizerFast) -> Row:
    """The row of a document."""
    row = Row([], [], [])
    for piece in document:
        own = (
            [tokenizer.convert_tokens_to_ids(piece.text)]
            if piece.special
            else tokenizer.encode(piece.text, add_special_tokens=False)
        )
        partners: list[tuple[int, ...]] = [()] * len(own)
        if piece.shared:
            partners, own = [tuple(own[:-1])], own[-1:]
        row.ids.extend(own)
        row.labels.extend(own if piece.learnt else [-100] * len(own))
        row.partners.extend(partners)
    return row


def batches(
    tokenizer: PreTrainedTokenizerFast, *, batch: int, taken: int = 0
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What `collate` makes of documents of similar length: 16 batches at a time are sorted.

    After `taken` batches the stream goes on with the next 16.
    """
    window = 16 * batch
    for index in itertools.count(-(-taken * batch // window) * window, window):
        documents = sorted(
            (tokenize(write_document(number), tokenizer) for number in range(index, index + window)),
            key=lambda row: len(row.ids),
        )
        groups = [documents[first : first + batch] for first in range(0, window, batch)]
        for position in torch.randperm(len(groups), generator=torch.Generator().manual_seed(index + window)).tolist():
            yield collate(groups[position], pad=tokenizer.pad_token_id)


def collate(rows: list[Row], *, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids and labels, int64[B, T], padded on the right, and partners, int64[B, T, P], -1 where there are fewer."""
    longest = max(len(row.ids) for row in rows)
    most = max(len(others) for row in rows for others in row.partners)

    def padded(lists: Iterable[list[int]], filler: int) -> Tensor:
        return torch.tensor([found + [filler] * (longest - len(found)) for found in lists])

    partners = torch.full((len(rows), longest, most), -1)
    for number, row in enumerate(rows):
        for place, others in enumerate(row.partners):
            partners[number, place, : len(others)] = torch.tensor(others, dtype=torch.int64)
    return padded((row.ids for row in rows), pad), padded((row.labels for row in rows), -100), partners


def answer_loss(model: LlamaForCausalLM, ids: Tensor, labels: Tensor, partners: Tensor) -> tuple[Tensor, float]:
    """Mean cross-entropy over the learnt tokens, and the share of them that the model ranks first."""
    words = model.get_input_embeddings()
    embedded = words(ids) + (words(partners.clamp(min=0)) * (partners >= 0)[..., None]).sum(-2)
    hidden = model.model(inputs_embeds=embedded, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    logits = model.lm_head(hidden[targets != -100])
    targets = targets[targets != -100]
    return functional.cross_entropy(logits, targets), (logits.argmax(-1) == targets).float().mean().item()


def rate(step: int, *, cycle: Cycle) -> float:
    """Learning rate of a cycle's step: a warm-up, a constant stretch, and where it cools, a straight line to zero.

    Skills such as looking a thing up by its shape arrive late and all at once; a cosine has cooled down by then.
    """
    left = (cycle.horizon or cycle.steps) - step + 1
    return cycle.lr * min(1.0, step / 200, left / max(1, cycle.cooling))


def train(directory: Path, *, cycles: Sequence[Cycle], batch: int, log_every: int = 50) -> None:
    """Writes `directory` (model, tokenizer) every 500 steps and after each cycle, and `log.jsonl` beside it.

    A cycle goes on from what the one before has saved, with a new optimizer, further on in the corpus.
    """
    torch.manual_seed(0)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(documents=8000)
    tokenizer.save_pretrained(directory)
    (directory / "log.jsonl").unlink(missing_ok=True)
    taken = 0
    for cycle in cycles:
        train_cycle(directory, cycle, tokenizer=tokenizer, batch=batch, taken=taken, log_every=log_every)
        taken += cycle.steps


def train_cycle(
    directory: Path, cycle: Cycle, *, tokenizer: PreTrainedTokenizerFast, batch: int, taken: int, log_every: int
) -> None:
    """One cycle: from the model in `directory`, or a new one, to a better one there; `taken` steps came before."""
    if taken:
        model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).train()
    else:
        model = LlamaForCausalLM(language_config(tokenizer))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    started = time.monotonic()
    stream = batches(tokenizer, batch=batch, taken=taken)
    with (directory / "log.jsonl").open("a") as log:
        for step in range(1, cycle.steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, cycle=cycle)
            loss, accuracy = answer_loss(model, *next(stream))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % log_every == 0:
                line = {
                    "step": taken + step,
                    "loss": round(loss.item(), 4),
                    "token_accuracy": round(accuracy, 4),
                    "seconds": round(time.monotonic() - started, 1),
                }
                log.write(json.dumps(line) + "\n")
                log.flush()
            if step % 500 == 0 or step == cycle.steps:
                save(model, directory)


def save(model: LlamaForCausalLM, directory: Path) -> None:
    """In half precision, which halves the package."""
    model.save_pretrained(directory, state_dict={name: tensor.half() for name, tensor in model.state_dict().items()})
