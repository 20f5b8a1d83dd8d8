"""The rule-based teacher: writes replies of the package's five kinds from captions and boxes, without a network.

Comes in: a `Question`, whose subject holds the context. Goes out: the body that a server would send. Deterministic: the
same question has the same reply, everywhere. Says only what the context decides: places and sides where they are clear,
counts where there is no crowd, colors on which captions agree, absence only of what is boxed wherever it occurs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from sightline.ask.question import Question
from sightline.ask.teacher import Unanswerable, completion_body
from sightline.synth.context import Context
from sightline.synth.facts import Facts, at, be, sentence
from sightline.synth.grammar import Pair, write_pairs
from sightline.synth.plan import Subject
from sightline.synth.vocabulary import COLORS, article, plural, spoken

MODEL = "rules"
SIZES = {"conversation": 5, "reasoning": 1, "vqa": 7, "negatives": 5}
"""Most questions of a reply."""

Asker = Callable[[Facts, random.Random], Pair | None]


class RuleTeacher:
    """Implements `ask.Teacher`. `vocabulary`: the categories that are boxed wherever they occur in the source."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = sorted(vocabulary)

    async def reply(self, question: Question, ask: int) -> bytes:
        """The reply; another one for another asking. `Unanswerable` where the context gives nothing to say."""
        context = Subject.from_json(question.subject).context
        text = self.write(question.kind, context, lot=f"{question.key}/{ask}")
        if not text:
            raise Unanswerable("nothing_to_say")
        return completion_body(text, model=MODEL)

    async def close(self) -> None:
        """Nothing is open."""

    def write(self, kind: str, context: Context, *, lot: str) -> str:
        """The reply in the form of its kind; empty where there is nothing to say, or the kind is not one of ours."""
        rng = random.Random(lot)
        facts = Facts(context, self.vocabulary, wording=rng.randrange(60))
        if kind == "detail":
            return describe(facts)
        return write_pairs(self.pairs(kind, facts, rng))

    def pairs(self, kind: str, facts: Facts, rng: random.Random) -> list[Pair]:
        """Up to `SIZES` different questions with answers, of as many types as there are."""
        found: dict[str, Pair] = {}
        askers = list(ASKERS.get(kind, ()))
        for _ in range(3):
            for asker in rng.sample(askers, len(askers)):
                pair = asker(facts, rng)
                if pair is not None and len(found) < SIZES[kind]:
                    found.setdefault(pair.question, pair)
        return list(found.values())

    def interview(self, kind: str, context: Context) -> list[str]:
        """Questions of a kind for a teacher that sees the picture and answers them itself."""
        pairs = self.pairs(kind, Facts(context, self.vocabulary), random.Random(f"{kind}/{context.id}"))
        return [pair.question for pair in pairs]


# ---- what is asked ---------------------------------------------------------------------------------------------------


def ask_scene(facts: Facts, rng: random.Random) -> Pair | None:
    if not facts.context.captions:
        return None
    question = facts.form("What does the picture show?", "What is to be seen in the picture?", "What is going on here?")
    return Pair(question, sentence(rng.choice(facts.context.captions)))


def ask_count(facts: Facts, rng: random.Random) -> Pair | None:
    counted = facts.countable()
    if not counted:
        return None
    category = rng.choice(counted)
    count = facts.counts[category]
    question = facts.form(f"How many {plural(category)} are there?", f"How many {plural(category)} are in the picture?")
    noun = category if count == 1 else plural(category)
    return Pair(question, f"There {be(count, category)} {spoken(count)} {noun}.")


def ask_place(facts: Facts, rng: random.Random) -> Pair | None:
    placed = facts.placed()
    if not placed:
        return None
    category, where = rng.choice(placed)
    verb = be(1, category)
    return Pair(f"Where {verb} the {category}?", f"The {category} {verb} {at(where)}.")


def ask_side(facts: Facts, rng: random.Random) -> Pair | None:
    apart = facts.apart()
    if not apart:
        return None
    one, side, other = rng.choice(apart)
    axis = "left or right of" if "of" in side else "above or below"
    verb = be(1, one)
    return Pair(f"{verb.capitalize()} the {one} {axis} the {other}?", f"The {one} {verb} {side} the {other}.")


def ask_color(facts: Facts, rng: random.Random) -> Pair | None:
    if not facts.colors:
        return None
    category, color = rng.choice(facts.colors)
    verb = be(1, category)
    return Pair(f"What color {verb} the {category}?", f"The {category} {verb} {color}.")


def ask_presence(facts: Facts, rng: random.Random) -> Pair | None:
    if not facts.counts:
        return None
    category = rng.choice(list(facts.counts))
    count = facts.counts[category]
    noun = article(category) if count == 1 else plural(category)
    question = f"{be(1, category).capitalize()} there {article(category)} in the picture?"
    return Pair(question, f"Yes, there {be(count, category)} {noun}.")


def ask_absence(facts: Facts, rng: random.Random) -> Pair | None:
    if not facts.absent:
        return None
    category = rng.choice(facts.absent)
    verb = be(1, category)
    question = f"{verb.capitalize()} there {article(category)} in the picture?"
    return Pair(question, f"No, there {verb} no {category} in the picture.")


# ---- what misleads ---------------------------------------------------------------------------------------------------


def presume_absent(facts: Facts, rng: random.Random) -> Pair | None:
    """Asks about a thing as if it were there."""
    if not facts.absent:
        return None
    category = rng.choice(facts.absent)
    verb = be(1, category)
    question = rng.choice(
        (f"What color {verb} the {category}?", f"Where {verb} the {category}?", f"How large {verb} the {category}?")
    )
    instead = facts.inventory()
    there = f" What can be seen: {instead}." if instead else ""
    return Pair(question, f"There {verb} no {category} in the picture.{there}")


def presume_color(facts: Facts, rng: random.Random) -> Pair | None:
    if not facts.colors:
        return None
    category, color = rng.choice(facts.colors)
    wrong = rng.choice([other for other in COLORS if other not in (color, "gray", "grey")])
    verb = be(1, category)
    return Pair(f"{verb.capitalize()} the {category} {wrong}?", f"No, the {category} {verb} {color}.")


def presume_count(facts: Facts, rng: random.Random) -> Pair | None:
    counted = [category for category in facts.countable() if facts.counts[category] > 1]
    if not counted:
        return None
    category = rng.choice(counted)
    count = facts.counts[category]
    wrong = count + rng.choice((1, 2))
    right = f"No, there are {spoken(count)}, not {spoken(wrong)}."
    return Pair(f"Are there {spoken(wrong)} {plural(category)} in the picture?", right)


def presume_side(facts: Facts, rng: random.Random) -> Pair | None:
    apart = facts.apart()
    if not apart:
        return None
    one, side, other = rng.choice(apart)
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}[side]
    verb = be(1, one)
    return Pair(f"{verb.capitalize()} the {one} {opposite} the {other}?", f"No, the {one} {verb} {side} the {other}.")


UNANSWERABLE = (
    ("Who took this picture?", "The picture does not tell who took it."),
    ("What happened right before this picture was taken?", "The picture shows one moment only; it does not tell."),
    ("In which year was the picture taken?", "The picture does not tell when it was taken."),
    ("What happened after the picture was taken?", "That cannot be seen: the picture shows a single moment."),
    ("What sound can be heard here?", "A picture has no sound, so that cannot be told."),
    ("What is just outside the frame?", "The picture ends at its border; what lies beyond cannot be seen."),
)


def presume_knowledge(facts: Facts, rng: random.Random) -> Pair | None:
    return Pair(*rng.choice(UNANSWERABLE))


# ---- what takes thought ----------------------------------------------------------------------------------------------


def reason_sum(facts: Facts, rng: random.Random) -> Pair | None:
    counted = facts.countable()
    if not counted:
        return None
    category = rng.choice(counted)
    count, more = facts.counts[category], rng.randint(1, 3)
    now = f"{spoken(count)} {category if count == 1 else plural(category)}"
    then = f"{spoken(count + more)} {plural(category)}"
    return Pair(
        f"How many {plural(category)} would there be if {spoken(more)} more came into the picture, and why?",
        f"The picture shows {now} now. With {spoken(more)} more, {spoken(count)} and {spoken(more)} make "
        f"{spoken(count + more)}. So there would be {then}.",
    )


def reason_more(facts: Facts, rng: random.Random) -> Pair | None:
    counted = facts.countable()
    if len(counted) < 2:
        return None
    one, other = rng.sample(counted, 2)
    if facts.counts[one] == facts.counts[other]:
        return None
    few, most = sorted((one, other), key=facts.counts.__getitem__)
    low, high = facts.counts[few], facts.counts[most]
    return Pair(
        f"Are there more {plural(one)} or more {plural(other)}, and by how many?",
        f"There are {spoken(high)} {plural(most)} and {spoken(low)} {few if low == 1 else plural(few)} in the picture. "
        f"{spoken(high).capitalize()} is more than {spoken(low)}, so there are more {plural(most)}, "
        f"by {spoken(high - low)}.",
    )


def reason_way(facts: Facts, rng: random.Random) -> Pair | None:
    apart = facts.apart()
    if not apart:
        return None
    one, side, other = rng.choice(apart)
    way = {"left of": "to the right", "right of": "to the left", "above": "down", "below": "up"}[side]
    verb = be(1, one)
    return Pair(
        f"Which way across the picture would you move your finger from the {one} to the {other}, and why?",
        f"The {one} {verb} {side} the {other}. Whoever starts at the {one} therefore has to move {way} to get to the "
        f"{other}.",
    )


def short_of(asker: Asker) -> Asker:
    """The same question, answered in a word or two."""

    def ask(facts: Facts, rng: random.Random) -> Pair | None:
        pair = asker(facts, rng)
        return None if pair is None else Pair(pair.question, _short(pair))

    return ask


def _short(pair: Pair) -> str:
    """`The dog is on the left.` -> `left`; `There are two cups.` -> `2`."""
    answer = pair.answer.removesuffix(".")
    if answer.startswith(("Yes", "No")):
        return answer.split(",")[0].lower()
    if pair.question.startswith("How many"):
        count = answer.split()[2]
        return str(_DIGITS.get(count, count))
    rest = answer.split(" is " if " is " in answer else " are ", 1)[1]
    if " or " in pair.question:
        return rest.split(" of ")[0].split(" the ")[0]
    return rest.removeprefix("in the ").removeprefix("on the ").removeprefix("at the ")


_DIGITS = {spoken(count): count for count in range(13)}

_PLAIN: tuple[Asker, ...] = (ask_count, ask_place, ask_side, ask_color, ask_presence, ask_absence)
ASKERS: dict[str, tuple[Asker, ...]] = {
    "conversation": (ask_scene, ask_count, ask_place, ask_side, ask_color, ask_absence),
    "reasoning": (reason_sum, reason_more, reason_way),
    "vqa": tuple(short_of(asker) for asker in _PLAIN),
    "negatives": (
        presume_absent,
        presume_color,
        presume_count,
        presume_side,
        presume_knowledge,
        ask_absence,
        ask_presence,
    ),
}


def describe(facts: Facts) -> str:
    """The captions that say something new, the longest first; then how many things there are, and where."""
    parts = [sentence(caption) for caption in facts.telling_captions()]
    inventory = facts.inventory()
    if inventory:
        category, count = next(iter(facts.counts.items()))
        parts.append(f"In all, there {be(count, category)} {inventory}.")
    for category, where in facts.placed():
        parts.append(f"The {category} {be(1, category)} {at(where)}.")
    for one, side, other in facts.apart()[:2]:
        parts.append(f"The {one} {be(1, one)} {side} the {other}.")
    return " ".join(parts)
