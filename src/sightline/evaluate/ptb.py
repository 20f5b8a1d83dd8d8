"""Captions into words as coco-caption's tokenizer makes them: Stanford's PTBTokenizer 3.4.1 with -preserveLines
-lowerCase, then without punctuation. The original is a Java program; these are its rules as far as captions need them.

Comes in: captions, in the order in which the original is given them: a letter with a period at the end of a line is
read with the first word of the next. Goes out: the words of each, lower-cased, parted by single blanks.

At each place the longest of the rules' matches counts, and of equally long ones the first, as in the original's lexer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

DROPPED = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""What coco-caption drops (ptbtokenizer.py). Its list has brackets in upper case, so that `-lrb-` stays a word."""

BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_WRITTEN = str.maketrans(
    {"‘": "`", "“": '"', "”": '"', "«": '"', "»": '"', "…": "...", "—": "--", "–": "--", "―": "--"}
    | {"£": " # ", "€": " $ ", "\u200b": " ", "\t": " ", "\r": " ", "\n": " "}
)
_SPELT_OUT = {"’": "'", "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "¢": "cents", '"': "''", **BRACKETS}
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&nbsp;": " "}

# Abbreviations that keep their period, in any case.
_ALWAYS = """
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri ala ariz calif colo conn ct
    dak fla ga ind kan kans ky md mich minn mo mont neb nev okla penn tenn va vt wis wisc wyo inc co cos corp
    pty pte ltd plc rt bancorp dept bhd assn univ intl sys ph tel est ext sq ft jr sr bros blvd rd esq etc al
    seq bldg mr mrs ms dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm rev maj sgt
    cpl pvt capt st ste ave pres lieut hon brig cmdr comdr pfc spc supt supts det mt ft adj adv asst assoc ens
    insp mlle mme msgr sfc invt elec natl mfg mtg vs alex wm jos cie cf treas ph\\.d ed\\.d
"""
_CAPITALISED = "Az Ark Del Ill La Mass Miss Ore Pa Tex Wash LA"
_BEFORE_NUMBERS = "no nos prop ca fig figs art pp op"
_STARTERS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Mr\\.
    Ms\\. Now Once One Other Our She Since So Some Such That The Their Then There These They This We When While
    What Yet You
"""
"""Before one of these words a single letter with a period ends a sentence."""

_L, _A = r"[^\W\d_½¼¾⅓⅔]", r"[^\W_½¼¾⅓⅔]"  # a letter; a letter or digit
_Q = "['’]"  # either stays as it is written, but in contractions
_SPACED = r"[^\s\"<>|()]"
_SITE = r"www\.(?:[^\s\"<>|.!?(){},]+\.)+[A-Za-z]{2,4}|(?:[^\s\"`'<>|.!?(){},\-_$/@]+\.)+(?:com|net|org|edu)"
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("tag", r"</?[A-Za-z][^<>]*>|<[!?][^<>]*>"),
        ("url", rf"https?://{_SPACED}+[^\s\"<>|.!?(){{}},-]"),
        ("url", rf"(?:{_SITE})(?![A-Za-z])(?:/{_SPACED}+[^\s\"<>|.!?(){{}},-])?"),
        ("mail", r"[A-Za-z0-9][^\s\"<>|(){}@]*@(?:[^\s\"<>|(){}.@]+\.)*[^\s\"<>|(){}.,!?:;@'`-]+"),
        ("handle", r"[@#][A-Za-z_]\w*"),
        ("phone", r"(?:\(\d{2,3}\)[ \xa0]?|(?:\+{0,2}\d{2,4}[- \xa0])?\d{2,4}[- \xa0])\d{3,4}[- \xa0]?\d{3,5}(?!\d)"),
        ("fraction", r"(?:\d{1,4}[- \xa0])?\d{1,4}[/⁄]\d{1,4}"),
        ("date", r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}"),
        ("number", r"[-+]?(?:\d*(?:[.:,]\d+)+|\d+)"),
        ("joined", r"[A-Z]+(?:[+&][A-Z]+)+|[cC]\+\+|[cCfF]#"),
        ("abbreviation", rf"(?i:{'|'.join(sorted(_ALWAYS.split(), key=len, reverse=True))})\."),
        ("abbreviation", rf"(?:{'|'.join(_CAPITALISED.split())})\."),
        ("abbreviation", rf"(?i:{'|'.join(_BEFORE_NUMBERS.split())})\.(?=\s?\d)"),
        ("abbreviation", rf"{_A}+(?:(?:[.!?](?={_L})|-){_A}+)*\.(?=[,;:])"),
        ("letters", rf"{_L}(?:\.{_L})*\.(?!{_L})"),
        ("word", rf"{_L}{_A}*(?:[.!?]{_L}{_A}*)*"),
        ("thing", rf"(?:[dDoOlL]{_Q}{_A})?{_A}+(?:[-_](?:[dDoOlL]{_Q}{_A})?{_A}+)*"),
        ("slashed", rf"{_A}+(?:-{_L}+){{0,2}}(?:/{_A}+(?:-{_L}+){{0,2}}){{1,2}}"),
        (
            "apostrophe",
            rf"{_L}*[aeiouAEIOU]'[aeiou]{_L}*|'[nN]'|'[nN](?!{_L})|ol'|[lLdDjJ]'(?!(?:[sSmMdD]|ll|re|ve)(?!{_L}))|[yY]'(?={_L})",
        ),
        ("apostrophe", rf"{_L}*[aeiouAEIOU]{_Q}[aeiou]{_L}*|{_Q}[nN]{_Q}|{_Q}[nN](?!{_L})|ol{_Q}|[yY]{_Q}(?={_L})"),
        ("apostrophe", rf"[lLdDjJ]{_Q}(?!(?:[sSmMdD]|ll|re|ve)(?!{_L}))|(?i:{_Q}em|{_Q}till?|{_Q}cause)(?!{_L})"),
        ("apostrophe", rf"{_Q}[2-9]0s|{_Q}\d\d(?=\s|$)|'[tT](?=(?i:is|was)\b)"),
        ("contraction", rf"{_Q}(?:[sSmMdD]|ll|LL|re|RE|ve|VE)(?!{_L})"),
        ("smiley", rf"[<>]?[:;=][-o*']?[()DPdpO\\{{@|\[\]](?!{_L})"),
        ("run", r"[?!]+|\*+|_+|\.\.\.|-{2,}"),
        ("mark", r"\S"),
    )
)
_SPLIT_IN_THREE = {"cannot", "gonna", "gotta", "lemme", "gimme", "wanna"}
_PLAIN = re.compile(r"[A-Za-z]{2,}(?=[ ,]|$)")
_STARTER = re.compile(rf"\s+(?:{'|'.join(_STARTERS.split())})(?!\w)")


def tokenise(captions: Sequence[str]) -> list[str]:
    """The words of each caption."""
    lines = [_prepared(caption) for caption in captions]
    following = [*lines[1:], ""]
    return [" ".join(_words(line, after)) for line, after in zip(lines, following, strict=True)]


def _prepared(caption: str) -> str:
    if "&" in caption:
        for entity, letter in _ENTITIES.items():
            caption = caption.replace(entity, letter)
    return caption.translate(_WRITTEN)


def _words(line: str, after: str) -> list[str]:
    found: list[str] = []
    at, end = 0, len(line)
    while at < end:
        if line[at].isspace():
            at += 1
            continue
        plain = _PLAIN.match(line, at)
        if plain and plain[0].lower() not in _SPLIT_IN_THREE:
            found.append(plain[0].lower())
            at = plain.end()
            continue
        name, stop = _longest(line, at)
        tokens, at = _tokens(name, line, at, stop, after)
        found += [token for token in tokens if token not in DROPPED]
    return found


def _longest(line: str, at: int) -> tuple[str, int]:
    best, furthest = "mark", at
    for name, pattern in _RULES:
        match = pattern.match(line, at)
        if match and match.end() > furthest:
            best, furthest = name, match.end()
    return best, furthest


def _tokens(name: str, line: str, at: int, stop: int, after: str) -> tuple[list[str], int]:
    """The tokens of a match, and where the next one begins."""
    text = line[at:stop].lower()
    if name in ("word", "thing"):
        if (
            text[-1] == "n"
            and line[stop : stop + 2].lower() in ("'t", "’t")
            and not line[stop + 2 : stop + 3].isalpha()
        ):
            return [text[:-1], "n't"] if len(text) > 1 else ["n't"], stop + 2
        if text in _SPLIT_IN_THREE:
            return [text[:3], text[3:]], stop
    elif name == "letters" and len(text) == 2 and _STARTER.match(f"{line[stop:]}\n{after}"):
        return [text[:1]], stop
    elif name in ("phone", "fraction"):
        text = text.replace(" ", "\xa0").replace("(", BRACKETS["("]).replace(")", BRACKETS[")"])
    elif name == "contraction":
        text = text.replace("’", "'")
    elif name == "smiley":
        text = "".join(BRACKETS.get(letter, letter) for letter in text)
    elif name == "run" and text[0] == "-":
        text = "--"
    return [_SPELT_OUT.get(text, text)], stop
