"""Small tokenizers of the real families, built in the process: byte-level BPE and sentencepiece-like BPE.

The chat templates have the structure of their families' own: where they put BOS, which tokens surround a turn, what
they strip, what they refuse, and what they do differently at the last turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

CORPUS = [
    "A chat between a curious user and an assistant. You are a helpful assistant, named Qwen.",
    "user\nWhat is shown in this image?\nassistant\nsystem\nmodel\n",
    "USER: What colour is the car? ASSISTANT: Yellow. It is a yellow car on the street.",
    "a wooden dock reaching into a still lake\n\n  two lines, then  more   spaces\n",
    "Name three colours. Red, yellow and blue. And the others? Orange, green and purple. Yes. No.",
    "[INST] Is it safe? [/INST] It is not safe, neither for him nor for the others. <<SYS>> </s> <s>",
] * 3

# How Qwen2 and Llama-3 cut a text into words.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# ---- chat templates --------------------------------------------------------------------------------------------------

QWEN25 = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# Thoughts of the past are dropped; the answer after the last question gets a think block, be it empty.
QWEN3 = (
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% set text = m['content'] %}"
    "{% if m['role'] == 'assistant' %}"
    "{% if '</think>' in text %}{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|im_start|>assistant\n"
    "{% if loop.index0 > ns.last %}<think>\n\n</think>\n\n{{ text.lstrip('\n') }}{% else %}{{ text }}{% endif %}"
    "<|im_end|>\n"
    "{% else %}<|im_start|>{{ m['role'] }}\n{{ text }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LLAMA3 = (
    "{% for m in messages %}"
    "{% if loop.first %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

# Llama-3.2 writes today's date into its system turn.
LLAMA32 = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ strftime_now('%d %b %Y') }}\n\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% endif %}<|eot_id|>"
    "{% for m in messages if m['role'] != 'system' %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
)

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}"
    "{% if m['role'] == 'user' %}{{ bos_token }}[INST] "
    "{% if loop.first and system is defined %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}"
    "{{ m['content'].strip() }} [/INST]{% else %} {{ m['content'].strip() }} {{ eos_token }}{% endif %}{% endfor %}"
)

# Mistral's third version has tokens for [INST] and [/INST], and puts the system text before the last question.
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}"
    "{{ bos_token }}{% for m in rest %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] "
    "{% if loop.last and system is defined %}{{ system }}\n\n{% endif %}{{ m['content'] }}[/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)

PHI3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)

GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "<start_of_turn>{{ role }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


# ---- tokenizers ------------------------------------------------------------------------------------------------------


@cache
def _byte_level_model() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=[], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return str(tokenizer.to_str())


def byte_level(
    *, special: list[str], plain: list[str] | None = None, bos: str | None = None, eos: str, template: str | None
) -> PreTrainedTokenizerFast:
    """GPT-2's kind: bytes as letters, no dummy space. `plain` are added tokens that are not marked special."""
    backend = Tokenizer.from_str(_byte_level_model())
    backend.normalizer = normalizers.NFC()
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain or []])
    if bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, chat_template=template)


@cache
def _sentencepiece_model() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary in the order of LLaMA's: control tokens, 256 bytes, merged pieces, single letters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    alphabet = sorted({letter for line in CORPUS for letter in line.replace(" ", "▁") if letter != "\n"})
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=[], show_progress=False)
    tokenizer.train_from_iterator([line.replace("\n", " ") for line in CORPUS], trainer)
    trained = tokenizer.get_vocab()
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁▁", "\n\n"]
    pieces += [piece for piece in sorted(trained, key=trained.__getitem__) if piece not in pieces]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    ordered = sorted(vocab, key=vocab.__getitem__)
    # As sentencepiece's converter makes them: every way to put a piece together, in the order of the pieces.
    merges = [
        (piece[:cut], piece[cut:])
        for piece in ordered[259:]
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    return vocab, merges


def sentencepiece(
    *, legacy: bool, template: str | None, special: list[AddedToken] | None = None, bos: bool = True
) -> LlamaTokenizer:
    """LLaMA's kind: `▁` for a space, unknown letters as bytes; the dummy space after special tokens if `legacy`."""
    vocab, merges = _sentencepiece_model()
    tokenizer = LlamaTokenizer(
        vocab=dict(vocab), merges=list(merges), legacy=legacy, add_bos_token=bos, chat_template=template
    )
    tokenizer.add_tokens(special or [], special_tokens=True)
    return tokenizer


def gemma() -> PreTrainedTokenizerFast:
    """`▁` for a space but no dummy one; newlines are listed as added tokens; `<table>` is one that is not special."""
    vocab, merges = _sentencepiece_model()
    backend = Tokenizer(models.BPE(vocab=dict(vocab), merges=list(merges), byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(["<s>", "</s>", "<start_of_turn>", "<end_of_turn>"])
    backend.add_tokens([AddedToken(text, normalized=False) for text in ("<table>", "\n", "\n\n")])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", chat_template=GEMMA)


def _chatml(template: str | None) -> PreTrainedTokenizerFast:
    return byte_level(
        special=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"],
        plain=["<think>", "</think>", "<tool_call>", "    "],
        eos="<|im_end|>",
        template=template,
    )


def _llama3(template: str) -> PreTrainedTokenizerFast:
    special = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<image>",
    ]
    return byte_level(special=special, bos="<|begin_of_text|>", eos="<|end_of_text|>", template=template)


def _phi3() -> LlamaTokenizer:
    names = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
    special = [AddedToken(name, rstrip=True) for name in names]
    return sentencepiece(legacy=False, template=PHI3, special=special, bos=False)


def _mistral(*, legacy: bool) -> LlamaTokenizer:
    return sentencepiece(legacy=legacy, template=MISTRAL, special=[AddedToken("[INST]"), AddedToken("[/INST]")])


FAMILIES: dict[str, Callable[[], Any]] = {
    "qwen2.5": lambda: _chatml(QWEN25),
    "qwen3": lambda: _chatml(QWEN3),
    "llama-3": lambda: _llama3(LLAMA3),
    "llama-3.2": lambda: _llama3(LLAMA32),
    "llama-2": lambda: sentencepiece(legacy=False, template=LLAMA2),
    "llama-2-legacy": lambda: sentencepiece(legacy=True, template=LLAMA2),
    "mistral": lambda: _mistral(legacy=False),
    "mistral-legacy": lambda: _mistral(legacy=True),
    "phi-3": _phi3,
    "gemma": gemma,
}
"""Names of chat families -> how to make a tokenizer of each, with its chat template."""


@cache
def family(name: str) -> Any:
    """One shared tokenizer per family; do not change it."""
    return FAMILIES[name]()


def without_template() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that has no chat template."""
    return _chatml(None)
