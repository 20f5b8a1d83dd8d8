"""What is asked: which contexts in which kinds, and the questions that this makes.

Comes in: contexts, kinds, a mixture, a seed. Goes out: `Question`s for a teacher, each with a `Subject` that says all
that whoever reads its reply needs to know. Pure: the same for the same arguments, in any order of the contexts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.ask.question import Message, Picture, Question
from sightline.errors import ConfigError, DataError, nearest
from sightline.synth.context import Box, Context
from sightline.synth.grammar import GrammarError, Pair, parse_answers, parse_pairs
from sightline.synth.kinds import Kind

Mixture = Mapping[str, int | None]
"""Kind -> how many samples to ask for; None: one of every picture."""

Interviewer = Callable[[str, Context], list[str]]
"""The questions of a kind about a context, for a teacher that only answers. None of them: nothing to ask."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What a question to a teacher is about. It stands in the ledger as JSON, so that exporting needs nothing else.

    `questions` are those that are put with the answers of the reply; without any, the reply brings its own.
    """

    context: Context
    questions: tuple[str, ...] = ()
    interview: bool = False
    suffix: str = ""

    def to_json(self) -> str:
        context = self.context
        return json.dumps(
            {
                "id": context.id,
                "image": context.image,
                "captions": context.captions,
                "boxes": [[box.category, *box.corners, *([1] if box.crowd else [])] for box in context.boxes],
                **({"questions": self.questions} if self.questions else {}),
                **({"interview": True} if self.interview else {}),
                **({"suffix": self.suffix} if self.suffix else {}),
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str) -> Subject:
        tree = json.loads(text)
        boxes = tuple(
            Box(category=category, corners=(x1, y1, x2, y2), crowd=bool(crowd))
            for category, x1, y1, x2, y2, *crowd in tree["boxes"]
        )
        context = Context(id=tree["id"], image=tree["image"], captions=tuple(tree["captions"]), boxes=boxes)
        return cls(
            context=context,
            questions=tuple(tree.get("questions", ())),
            interview=tree.get("interview", False),
            suffix=tree.get("suffix", ""),
        )

    def pairs(self, reply: str) -> list[Pair]:
        """The questions and answers that a reply makes, without the suffix. `GrammarError` where it makes none."""
        if self.interview:
            answers = parse_answers(reply)
            if len(answers) != len(self.questions):
                raise GrammarError(f"{len(answers)} answers to {len(self.questions)} questions")
            return [Pair(*both) for both in zip(self.questions, answers, strict=True)]
        if self.questions:
            return [Pair(self.questions[0], reply.strip())]
        return parse_pairs(reply)


def parse_mixture(text: str, known: Sequence[str]) -> dict[str, int | None]:
    """`conversation=58000,detail=23000`, or names alone for one of every picture.

    Raises:
        ConfigError: a kind is unknown or named twice, a count is no positive number.
    """
    found: dict[str, int | None] = {}
    for part in text.split(","):
        name, equals, count = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise ConfigError(f"--mix: no kind {name!r}; expected {', '.join(known)}{nearest(name, known)}")
        if name in found:
            raise ConfigError(f"--mix: {name} stands there twice; give each kind one count")
        if equals and not (count.isdecimal() and int(count) > 0):
            raise ConfigError(f"--mix: {name}={count}: expected a count of at least 1, such as {name}=1000")
        found[name] = int(count) if equals else None
    return found


def counts(mixture: Mixture, pictures: int) -> dict[str, int]:
    """How many pictures each kind gets: a picture is asked about once in each kind, at most.

    Where the largest count is more than there are pictures, all counts shrink by the same factor, so that the
    proportions stay: 58,000 : 23,000 : 77,000 of 1,000 pictures are 753, 299 and 1,000.
    """
    given = [count for count in mixture.values() if count is not None]
    largest = max(given, default=0)
    found = {}
    for name, count in mixture.items():
        if count is None:
            found[name] = pictures
        elif largest <= pictures:
            found[name] = count
        else:
            found[name] = max(1, round(count * pictures / largest)) if pictures else 0
    return found


def chosen(contexts: Sequence[Context], kind: str, count: int, *, seed: int) -> list[Context]:
    """`count` contexts, drawn by lot for this kind, in their order. A larger count only adds to a smaller one."""
    ranked = sorted(range(len(contexts)), key=lambda place: _lot(seed, kind, contexts[place].id))
    return [contexts[place] for place in sorted(ranked[:count])]


def _lot(*parts: object) -> str:
    return hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How contexts become questions.

    Attributes:
        model: the teacher's name.
        images: the folder of the pictures, for a teacher that is to see them; None for one that only reads.
        interviewer: who thinks of the questions, for a teacher that only answers.
    """

    kinds: Mapping[str, Kind]
    mixture: Mixture
    model: str
    seed: int = 0
    images: Path | None = None
    interviewer: Interviewer | None = None

    def asked(self, contexts: Sequence[Context]) -> Iterator[tuple[str, Context]]:
        """Kinds and contexts: a picture's kinds one after another, so that a run that stops early has some of each."""
        wanted = {
            name: {context.id for context in chosen(contexts, name, count, seed=self.seed)}
            for name, count in counts(self.mixture, len(contexts)).items()
        }
        for context in contexts:
            yield from ((name, context) for name, ids in wanted.items() if context.id in ids)

    def questions(self, contexts: Sequence[Context]) -> Iterator[Question]:
        """Everything that is asked."""
        made = (self.question(name, context) for name, context in self.asked(contexts))
        return (question for question in made if question is not None)

    def question(self, name: str, context: Context) -> Question | None:
        """One question; None where the context has nothing to show or to ask."""
        kind = self.kinds[name]
        drawn: tuple[str, ...] = ()
        if kind.questions:
            drawn = (kind.questions[int(_lot(self.seed, name, context.id, "question"), 16) % len(kind.questions)],)
        if self.interviewer is not None:
            drawn = drawn or tuple(self.interviewer(name, context))
            messages = self._interview(context, drawn)
        else:
            messages = _request(kind, context)
        if not messages:
            return None
        interview = self.interviewer is not None
        subject = Subject(context=context, questions=drawn, interview=interview, suffix=kind.suffix)
        return self._asked(name, messages, subject.to_json())

    def edition(self, name: str) -> str:
        """Of the questions of a kind: see `Question.edition`."""
        return self._asked(name, (), "").edition

    def _asked(self, name: str, messages: Sequence[Message], subject: str) -> Question:
        kind = self.kinds[name]
        return Question.of(
            messages,
            model=self.model,
            kind=name,
            max_tokens=kind.max_tokens,
            temperature=kind.temperature if self.interviewer is None else 0.0,
            subject=subject,
            version=kind.version,
        )

    def _interview(self, context: Context, questions: Sequence[str]) -> list[Message]:
        """The questions one after another, the picture with the first."""
        assert self.images is not None
        path = self.images / context.image
        try:
            picture = Picture.of(path)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read: {error.strerror}; check --images", reason="image_missing"
            ) from error
        return [
            Message("user", text, images=(picture,) if number == 0 else ()) for number, text in enumerate(questions)
        ]


def _request(kind: Kind, context: Context) -> list[Message]:
    """As the original asks: the system text, examples as turns of a chat, the context. Nothing, without a context."""
    shown = context.shown(kind.shows)
    if not shown:
        return []
    messages = [Message("system", kind.system.strip())]
    for example in kind.examples:
        messages += [Message("user", example.context.strip()), Message("assistant", example.reply.strip())]
    return [*messages, Message("user", shown)]
