"""Kinds of instruction data as data: what a teacher is told, shown and held to.

Comes in: YAML files, those of the package or of the user. Goes out: `Kind`s. A kind is named as its file. Does not know
pictures or teachers.

A kind's `version` is a hash over everything in its file, so that replies to two wordings are never mixed unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sightline.errors import ConfigError
from sightline.synth.context import Part
from sightline.synth.grammar import Form, GrammarError, parse_pairs

PROMPTS = "prompts"
ORDER = ("conversation", "detail", "reasoning", "vqa", "negatives")
"""The kinds of the package: the original's three, and two against its weaknesses."""

Text = Annotated[str, Field(min_length=1)]


class Example(BaseModel):
    """A context with the reply that is wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: Text
    reply: Text


class Kind(BaseModel):
    """One kind of instruction data.

    Attributes:
        form: of the reply, see `grammar`.
        shows: the parts of a context that the teacher reads.
        system: what it is told first.
        examples: few-shot examples, in this order.
        questions: for `form: answer`, one of which is drawn for each picture.
        suffix: stands on a line of its own behind the first question of a sample.
        pairs: fewest and most questions of a reply.
        words: fewest and most words of an answer.
        max_tokens: of a reply.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Form
    shows: tuple[Part, ...] = Field(min_length=1)
    system: Text
    examples: tuple[Example, ...] = ()
    questions: tuple[Text, ...] = ()
    suffix: str = ""
    pairs: tuple[Annotated[int, Field(ge=1)], int] = (1, 20)
    words: tuple[Annotated[int, Field(ge=1)], int] = (1, 400)
    max_tokens: int = Field(default=1024, ge=1)
    temperature: float = Field(default=0.7, ge=0, le=2)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.form == "answer") != bool(self.questions):
            raise ValueError("questions: a kind of form answer needs some to draw from, one of form pairs has none")
        for name, (least, most) in (("pairs", self.pairs), ("words", self.words)):
            if least > most:
                raise ValueError(f"{name}: found {least} to {most}, expected the smaller number first")
        for number, example in enumerate(self.examples, start=1):
            if self.form == "pairs":
                try:
                    parse_pairs(example.reply)
                except GrammarError as error:
                    raise ValueError(
                        f"the reply of example {number} is not in the form of the kind: {error}"
                    ) from error
        return self

    @property
    def version(self) -> str:
        """Stands for this wording: 16 hexadecimal digits."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def showing(self, parts: tuple[Part, ...]) -> Kind:
        """The same kind with other parts shown to the teacher."""
        return self.model_copy(update={"shows": parts})


def load_kinds(directory: Path | None = None) -> dict[str, Kind]:
    """The package's kinds; `NAME.yaml` in `directory` takes the place of one, or adds one.

    Raises:
        ConfigError: the directory is not there or empty, or a file is not such a kind; all mistakes of a file at once.
    """
    own = files("sightline.synth") / PROMPTS
    found = {name: _parse((own / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml") for name in ORDER}
    if directory is None:
        return found
    paths = sorted(directory.glob("*.yaml"))
    if not paths:
        raise ConfigError(
            f"--prompts: no *.yaml in {directory}; `sightline synth --copy-prompts DIR` writes a set to edit"
        )
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from error
        found[path.stem] = _parse(text, str(path))
    return found


def copy_prompts(directory: Path) -> list[Path]:
    """Writes the package's files into `directory`, to be edited. Files that are there stay as they are."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name in ORDER:
        path = directory / f"{name}.yaml"
        if not path.exists():
            path.write_text(
                (files("sightline.synth") / PROMPTS / path.name).read_text(encoding="utf-8"), encoding="utf-8"
            )
            written.append(path)
    return written


def _parse(text: str, name: str) -> Kind:
    try:
        tree: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return Kind.model_validate(tree)
    except ValidationError as error:
        wrong = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError(f"{name}: {'; '.join(text.removeprefix(': ') for text in wrong)}") from error
