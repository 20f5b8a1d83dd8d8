"""The model class that lmms-eval (0.7) loads: `lmms_eval --model sightline --model_args pretrained=DIR`.

Comes in: lmms-eval's requests, of its simple kind: (context, generation arguments, doc_to_visual, doc id, task, split).
Goes out: one answer to each. As its own wrapper of LLaVA does, it takes `max_new_tokens`, `temperature` and `top_p`
from the task, and ends an answer where the model ends it, not at `until`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from lmms_eval.api.model import lmms
from PIL import Image
from tqdm import tqdm

from sightline.errors import ConfigError
from sightline.evaluate.frameworks.answering import Answerer, Asked
from sightline.infer.sampling import Sampling

MAX_NEW_TOKENS = 1024
"""Where a task names none, as lmms-eval's wrapper of LLaVA has it."""


class SightlineModel(lmms):  # type: ignore[misc]
    """A checkpoint of ours, for lmms-eval."""

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | str = 1,
        template: str | None = None,
        quantize: str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        """
        Args:
            pretrained: the directory of a trained run, or of an imported checkpoint.
            device, dtype: see `Answerer.of`.
            batch_size: questions answered at once.
            max_batch_size: lmms-eval passes it on; there is nothing to find out.

        Raises:
            ConfigError: several processes, or a batch size that is no number.
            CheckpointError: see `sightline.infer.load`.
        """
        super().__init__()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError("lmms-eval with --model sightline runs in one process; start it without accelerate")
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise ConfigError(f"batch_size: found {batch_size!r}, expected a number from 1")
        self.pretrained = pretrained
        self._batch = int(batch_size)
        self._answerer = Answerer.of(
            pretrained, device=device or "auto", dtype=dtype, template=template, quantize=quantize
        )

    @property
    def device(self) -> Any:
        """Where the model is."""
        return next(self._answerer.model.parameters()).device

    @property
    def batch_size(self) -> int:
        return self._batch

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The answers in the order of the requests; those of like arguments go through the model together."""
        answers: list[str] = [""] * len(requests)
        kinds = sorted(range(len(requests)), key=lambda place: repr(sampling_of(requests[place].args[1])))
        with tqdm(total=len(requests), desc="sightline", disable=self.rank != 0) as bar:
            for _, group in groupby(kinds, key=lambda place: repr(sampling_of(requests[place].args[1]))):
                # long questions first: what does not fit into memory shows at once
                places = sorted(group, key=lambda place: -len(requests[place].args[0]))
                for start in range(0, len(places), self._batch):
                    batch = places[start : start + self._batch]
                    asked = [self._asked(requests[place].args) for place in batch]
                    sampling = sampling_of(requests[batch[0]].args[1])
                    for place, answer in zip(batch, self._answerer.answer(asked, sampling, number=start), strict=True):
                        answers[place] = answer
                        self.cache_hook.add_partial("generate_until", requests[place].args[:2], answer)
                    bar.update(len(batch))
        return answers

    def _asked(self, arguments: tuple[Any, ...]) -> Asked:
        context, _, doc_to_visual, doc, task, split = arguments
        pictures = doc_to_visual(self.task_dict[task][split][doc]) or []
        odd = next((one for one in pictures if not isinstance(one, Image.Image)), None)
        if odd is not None:
            raise ConfigError(f"{task}: shows {type(odd).__name__}; a checkpoint of Sightline looks at pictures alone")
        return Asked(context, pictures)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise ConfigError("tasks that need likelihoods are not for --model sightline; take the task that generates")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise ConfigError("tasks of several rounds are not for --model sightline")


def sampling_of(arguments: Mapping[str, Any]) -> Sampling:
    """lmms-eval's generation arguments; beams and `until` are left aside."""
    temperature = arguments.get("temperature") or 0.0
    return Sampling(
        temperature=float(temperature) if arguments.get("do_sample", temperature > 0) else 0.0,
        top_p=float(arguments.get("top_p") or 1.0),
        max_new_tokens=int(arguments.get("max_new_tokens") or MAX_NEW_TOKENS),
        seed=0,
    )
