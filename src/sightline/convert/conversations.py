"""Conversations that exist: ShareGPT's, of text alone, and LLaVA-Instruct's.

Comes in: their files. Goes out: the same conversations, whole, cleaned, or left out with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from sightline.convert.dialogue import Dialogue, Item, LeftOut
from sightline.convert.formats import Options
from sightline.convert.html_text import is_html, plain_text
from sightline.convert.source import Row, Source, samples
from sightline.data.parsing import iterate_samples
from sightline.data.sample import Rejection, Turn

SPEAKERS = {
    **dict.fromkeys(("human", "user"), "human"),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "assistant"), "gpt"),
}
"""Speakers in ShareGPT's files -> ours, as Vicuna's cleaning reads them (fastchat/data/clean_sharegpt.py)."""


def sharegpt(source: Source, options: Options) -> Iterator[Item]:
    """Vicuna's conversations. Answers before the first question and questions after the last answer are dropped.

    LLaVA drops invalid ones "as Vicuna does" and cuts at 2048 tokens (arXiv 2310.03744, A.2); the cut is left to
    training, which knows the tokenizer. No language is preferred.
    """
    paths = [source.main("ShareGPT_V3_unfiltered_cleaned_split.json", "sg_90k_part1.json")]
    second = None if source.root.is_file() else source.find("sg_90k_part2.json")
    if second is not None and paths[0].name == "sg_90k_part1.json":
        paths.append(second)
    for path in paths:
        yield from map(_cleaned, samples(path))


def instruct(source: Source, options: Options) -> Iterator[Item]:
    """LLaVA-Instruct as it is, with its pictures' names under the pattern."""
    path = source.main("llava_instruct_150k.json", "llava_instruct_80k.json")
    for sample in iterate_samples(path, number_repeated_ids=True):
        if isinstance(sample, Rejection):
            yield LeftOut(reason=sample.reason, place=f"{sample.file}:{sample.line}")
        elif len(sample.images) > 1 or sample.system is not None:
            yield LeftOut(reason="not_one_picture" if sample.images else "system_text", place=sample.source)
        else:
            said = [_words(turn) for turn in sample.turns]
            image = options.picture(name=sample.images[0]) if sample.images else None
            turns = tuple(zip(said[::2], said[1::2], strict=True))
            yield Dialogue(id=sample.id, image=image, turns=turns, units=1)


def _words(turn: Turn) -> str:
    return "".join(piece for piece in turn.content if isinstance(piece, str)).strip("\n")


def _cleaned(row: Row) -> Item:
    said = []
    for turn in row.rows("conversations"):
        speaker = SPEAKERS.get(turn.text("from").lower())
        if speaker is None:
            return LeftOut(reason="role_unknown", place=turn.place)
        said.append((speaker, _clean(turn.text("value"))))
    while said and said[0][0] == "gpt":
        said.pop(0)
    while said and said[-1][0] == "human":
        said.pop()
    if not said:
        return LeftOut(reason="no_exchange", place=row.place)
    if any(speaker != ("human", "gpt")[number % 2] for number, (speaker, _) in enumerate(said)):
        return LeftOut(reason="turn_order", place=row.place)
    if not all(text for _, text in said):
        return LeftOut(reason="turn_empty", place=row.place)
    turns = tuple(zip((text for _, text in said[::2]), (text for _, text in said[1::2]), strict=True))
    return Dialogue(id=row.name("id"), image=None, turns=turns, units=1)


def _clean(text: str) -> str:
    """Line ends as they should be; a turn that is a piece of a web page as the text that it shows."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    return plain_text(text) if is_html(text) else text
