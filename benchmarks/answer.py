"""Answering beside `generate` of transformers: `python -m benchmarks.answer`.

Comes in: the name of a size. Goes out: seconds to the first token and tokens per second of both sides, on the same
weights (ours, and the same exported to the llava-hf layout), the same ids and pixels, greedy, and whether the answers
are the same. The sides take turns; figures are medians. Text and files are neither's work here.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from transformers import AutoModelForImageTextToText

from benchmarks.record import Table, show
from benchmarks.sizes import SIZES, Size
from benchmarks.words import build_tokenizer
from sightline.data.processor import Processor, ProcessorSettings
from sightline.exchange.export import export
from sightline.infer.chat import choose_device
from sightline.infer.generate import Prompt, decode_steps
from sightline.infer.load import load
from sightline.infer.sampling import Sampling
from sightline.infer.words import StopRule
from sightline.model.build import build_language, build_vision
from sightline.model.checkpoint import save_checkpoint
from sightline.model.connector import build_connector
from sightline.model.vlm import VisionLanguageModel

TEXT_LENGTHS = tuple(range(32, 32 + 16 * 24, 24))
"""Positions of text in the sixteen prompts: from a short question to a long dialogue."""
NEW_TOKENS = 128
REPEATS = 5
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Answers = list[list[int]]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One run: when the first token of every prompt was there, when the last was, and what was said."""

    first: float
    total: float
    answers: Answers

    @property
    def rate(self) -> float:
        """Tokens per second, of all prompts together, from the beginning."""
        return sum(map(len, self.answers)) / self.total


def run(*, size: str = "mid", new_tokens: int = NEW_TOKENS, repeats: int = REPEATS) -> list[dict[str, Any]]:
    """One prompt; sixteen of different lengths against a padded batch, and against one after another."""
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, exported = Path(scratch) / "ours", Path(scratch) / "theirs"
        processor = _save(SIZES[size], checkpoint)
        export(checkpoint, exported, format_name="hf")
        device = choose_device()
        ours, _ = load(checkpoint, device=device)
        theirs = AutoModelForImageTextToText.from_pretrained(str(exported), dtype=torch.float32).to(device).eval()
    theirs.generation_config.eos_token_id = None  # every answer has `new_tokens`
    prompts = _prompts(SIZES[size], processor.image_token_id)
    one = prompts[len(prompts) // 2 :][:1]

    def answer(asked: Sequence[Prompt]) -> Callable[[], Taken]:
        return lambda: _ours(ours, asked, new_tokens)

    def their_batch(asked: Sequence[Prompt]) -> Callable[[], Taken]:
        return lambda: _theirs(theirs, asked, new_tokens)

    def their_loop() -> Taken:
        runs = [_theirs(theirs, [prompt], new_tokens) for prompt in prompts]
        before = sum(run.total for run in runs[:-1])
        answers = [run.answers[0] for run in runs]
        return Taken(first=before + runs[-1].first, total=sum(run.total for run in runs), answers=answers)

    sides = {"one": answer(one), "one, generate": their_batch(one)}
    sides |= {"sixteen": answer(prompts), "sixteen, padded": their_batch(prompts), "sixteen, one by one": their_loop}
    for side in sides.values():
        side()  # allocators and kernels are warm
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            taken[name].append(side())
    return [
        _row("1", "generate", taken["one"], taken["one, generate"]),
        _row("16", "generate, padded batch", taken["sixteen"], taken["sixteen, padded"]),
        _row("16", "generate, one by one", taken["sixteen"], taken["sixteen, one by one"]),
    ]


def _row(prompts: str, against: str, ours: Sequence[Taken], theirs: Sequence[Taken]) -> dict[str, Any]:
    def median(side: Sequence[Taken], figure: Callable[[Taken], float]) -> float:
        return statistics.median(map(figure, side))

    rates = median(ours, lambda run: run.rate), median(theirs, lambda run: run.rate)
    return {
        "prompts": prompts,
        "against": against,
        "first token s": median(ours, lambda run: run.first),
        "its": median(theirs, lambda run: run.first),
        "tokens/s": rates[0],
        "its tokens/s": rates[1],
        "ratio": rates[0] / rates[1],
        "agree": all(run.answers == ours[0].answers for run in [*ours, *theirs]),
    }


def _ours(model: VisionLanguageModel, prompts: Sequence[Prompt], new_tokens: int) -> Taken:
    stop = StopRule(ids=frozenset(), decode=lambda ids: "")
    answers: Answers = [[] for _ in prompts]
    first = 0.0
    started = time.perf_counter()
    for tokens in decode_steps(model, prompts, sampling=Sampling(max_new_tokens=new_tokens), stop=stop):
        first = first or time.perf_counter() - started
        for answer, token in zip(answers, tokens, strict=True):
            assert token is not None
            answer.append(token)
    return Taken(first=first, total=time.perf_counter() - started, answers=answers)


class _FirstToken:
    """A streamer that notes when `generate` has chosen the first tokens; its first call brings the prompts."""

    def __init__(self) -> None:
        self.calls = 0
        self.at = 0.0

    def put(self, value: Tensor) -> None:
        self.calls += 1
        if self.calls == 2:
            self.at = time.perf_counter()

    def end(self) -> None:
        pass


@torch.inference_mode()
def _theirs(model: Any, prompts: Sequence[Prompt], new_tokens: int) -> Taken:
    """`generate`, padded on the left. It streams no batch, so the first tokens there are a run of their own."""
    longest = max(len(prompt.ids) for prompt in prompts)
    rows = [[0] * (longest - len(prompt.ids)) + prompt.ids for prompt in prompts]
    inputs = {
        "input_ids": torch.tensor(rows, device=model.device),
        "attention_mask": torch.tensor(
            [[0] * (longest - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts], device=model.device
        ),
        "pixel_values": torch.cat([prompt.pixels for prompt in prompts]).to(model.device),
        "do_sample": False,
        "pad_token_id": 0,
    }
    streamer = _FirstToken()
    started = time.perf_counter()
    if len(prompts) > 1:
        model.generate(**inputs, max_new_tokens=1)
        first = time.perf_counter() - started
        started = time.perf_counter()
        found = model.generate(**inputs, max_new_tokens=new_tokens)
    else:
        found = model.generate(**inputs, max_new_tokens=new_tokens, streamer=streamer)
        first = streamer.at - started
    answers: Answers = found[:, longest:].tolist()
    return Taken(first=first, total=time.perf_counter() - started, answers=answers)


def _prompts(size: Size, image_token_id: int) -> list[Prompt]:
    """Sixteen: a picture each, and words drawn evenly from the upper half of the vocabulary."""
    noise = torch.Generator().manual_seed(0)
    side, rows = size.vision["image_size"], size.language["vocab_size"]
    prompts = []
    for length in TEXT_LENGTHS:
        words = torch.randint(rows // 2, rows - 1, (length - 1,), generator=noise).tolist()
        ids = [1, *words[:8], *[image_token_id] * size.image_tokens, *words[8:]]
        prompts.append(Prompt(ids=ids, pixels=torch.randn(1, 3, side, side, generator=noise)))
    return prompts


def _save(size: Size, directory: Path) -> Processor:
    """A checkpoint of random weights."""
    torch.manual_seed(0)
    vision, language = build_vision({"config": size.vision}), build_language({"config": size.language})
    connector = build_connector("mlp2x_gelu", vision_width=vision.width, language_width=size.language["hidden_size"])
    settings = ProcessorSettings(
        template="vicuna_v1",
        image_policy="pad",
        image_size=size.vision["image_size"],
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        image_tokens=size.image_tokens,
        patch_size=size.vision["patch_size"],
        num_prefix_tokens=1,
        max_length=size.max_length,
    )
    processor = Processor(build_tokenizer(size.language["vocab_size"]), settings)
    model = VisionLanguageModel(vision, connector, language, image_token_id=processor.image_token_id)
    save_checkpoint(model, directory, info={"processor": processor.describe()}, extra_files=processor.save)
    return processor


def main() -> None:
    """Prints the table; a size may be named."""
    rows = run(size=sys.argv[1] if len(sys.argv) > 1 else "mid")
    show(Table(title="answer", rows=rows), Console())


if __name__ == "__main__":
    main()
