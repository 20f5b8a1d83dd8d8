"""Our checkpoints in VLMEvalKit's table of models, which has no entry points: the table is changed before a run.

Comes in: names and directories. Goes out: entries of `vlmeval.config.supported_VLM`. From VLMEvalKit's folder:

    python -m sightline.evaluate.frameworks.vlmevalkit NAME=DIR run.py --data MMBench_DEV_EN --model NAME
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

from vlmeval.config import supported_VLM
from vlmeval.vlm.base import BaseModel

from sightline.data.image import open_image
from sightline.errors import ConfigError
from sightline.evaluate.frameworks.answering import Answerer, Asked
from sightline.infer.sampling import Sampling

MAX_NEW_TOKENS = 1024


class SightlineModel(BaseModel):  # type: ignore[misc]
    """A checkpoint of ours, for VLMEvalKit."""

    INSTALL_REQ = False
    INTERLEAVE = True

    def __init__(self, checkpoint: str, *, max_new_tokens: int = MAX_NEW_TOKENS, **options: Any) -> None:
        """`options`: see `Answerer.of`."""
        super().__init__()
        self._answerer = Answerer.of(checkpoint, **options)
        self._sampling = Sampling(max_new_tokens=max_new_tokens)

    def generate_inner(self, message: Sequence[Mapping[str, str]], dataset: str | None = None) -> str:
        """The answer to texts and pictures, `{type, value}` each, the pictures as paths.

        Raises:
            ConfigError: something else is shown.
        """
        pictures, texts = [], []
        for part in message:
            if part["type"] == "image":
                pictures.append(open_image(part["value"]))
            elif part["type"] == "text":
                texts.append(part["value"])
            else:
                raise ConfigError(f"{dataset or 'message'}: shows {part['type']}; a checkpoint of Sightline looks at "
                                  "pictures alone")  # fmt: skip
        (answer,) = self._answerer.answer([Asked("\n".join(texts), pictures)], self._sampling)
        return answer


def register(checkpoints: Mapping[str, str], **options: Any) -> None:
    """Puts checkpoints into VLMEvalKit's table under these names."""
    for name, directory in checkpoints.items():
        supported_VLM[name] = partial(SightlineModel, directory, **options)


def main(arguments: Sequence[str]) -> None:
    """`NAME=DIR ... SCRIPT ARGUMENTS`: registers, then runs the script as if it had been called."""
    own = list(takewhile(lambda argument: "=" in argument, arguments))
    if not own or len(own) == len(arguments):
        raise SystemExit("usage: python -m sightline.evaluate.frameworks.vlmevalkit NAME=DIR ... run.py ARGUMENTS")
    register(dict(argument.split("=", 1) for argument in own))
    sys.argv = list(arguments[len(own) :])
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
