"""The original's templates: its ids and labels, and what each class promises."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.data.legacy_templates import HUMAN_SYSTEM, VICUNA_SYSTEM, PlainTemplate
from sightline.data.sample import ImageRef
from sightline.data.segments import ImageSegment, Segment, TextSegment, TokenSegment
from sightline.data.template import build_template
from sightline.data.tokens import IGNORE, SegmentEncoder, collapse_images
from sightline.errors import ConfigError, DataError
from tests.data.conversations import IMAGE_TOKENS, made, sample_of, turns_of
from tests.data.original import TEMPLATES, llama, needs_llama, read_llava, recorded
from tests.data.toy_tokenizers import without_template

SHOWN: tuple[str | ImageRef, ...] = (ImageRef(index=0), "\nWhy?")


def text(words: str, *, trained: bool = False) -> TextSegment:
    return TextSegment(text=words, trained=trained)


def token(name: str, *, trained: bool = False) -> TokenSegment:
    return TokenSegment(token=name, trained=trained)


# ---- the same as the original ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", recorded())
def test_ids_and_labels_are_those_of_the_original(row: dict[str, Any]) -> None:
    tokenizer = llama(row["legacy"])
    template = build_template(TEMPLATES[row["template"]], tokenizer)
    encoder = SegmentEncoder(tokenizer, image_token_id=32000)
    encoded = encoder.encode(template.render(read_llava(row["sample"])), image_tokens=IMAGE_TOKENS)
    assert collapse_images(encoded.ids, image_token_id=32000, image_tokens=IMAGE_TOKENS) == row["input_ids"]
    labels = [label for label, id_ in zip(encoded.labels, encoded.ids, strict=True) if id_ != 32000]
    assert labels == [label for label, id_ in zip(row["labels"], row["input_ids"], strict=True) if id_ != -200]


# What sentencepiece makes of the original's strings, the trained pieces in brackets; "·" for its space mark, "IMG" for
# the picture. A question that is a picture alone, and an answer with two spaces at its start.
PIECES = {
    ("vicuna_v1", False): r"·US ER : · IMG · ·A SS IST ANT : [·Yes . </s>] USER : ·a ·A SS IST ANT : [· ·So </s>]",
    ("vicuna_v1", True): r"·US ER : · IMG · ·A SS IST ANT : [·Yes . </s>] ·US ER : ·a ·A SS IST ANT : [· ·So </s>]",
    ("llava_llama_2", False): r"IMG · ·[ / INST ] [·Yes . · </s>] <s> [ INST ] ·a ·[ / INST ] [· ·So · </s>]",
    ("llava_llama_2", True): r"IMG · ·[ / INST ] [·Yes . · </s>] <s> ·[ INST ] ·a ·[ / INST ] [· ·So · </s>]",
    ("mistral_instruct", False): r"<s> ·[ INST ] · IMG · ·[ / INST ] [·Yes . · </s>] [ INST ] ·a ·[ / INST ] "
    r"[· ·So · </s>]",
    ("mistral_instruct", True): r"<s> ·[ INST ] · IMG · ·[ / INST ] [·Yes . · </s>] ·[ INST ] ·a ·[ / INST ] "
    r"[· ·So · </s>]",
    **dict.fromkeys(
        [("v0", False), ("v0", True)],
        r". \n \n [## #] ·Human : · IMG · \n [## # ·Ass istant : ·Yes . \n ## #] ·Human : ·a \n "
        r"[## # ·Ass istant : · ·So \n ## # ·]",
    ),
    **dict.fromkeys(
        [("mpt", False), ("mpt", True)],
        r"user \n IMG ·< | im _ end | >< | im _ start | > ass istant \n [Yes .< | im _ end | ><] | im _ start | > "
        r"user \n a < | im _ end | >< | im _ start | > ass istant \n [·So < | im _ end | >]",
    ),
}


@needs_llama
@pytest.mark.parametrize(("name", "legacy"), PIECES)
def test_pieces_and_mask_around_a_picture_alone_and_between_turns(name: str, legacy: bool) -> None:
    tokenizer = llama(legacy)
    sample = sample_of((ImageRef(index=0),), "Yes.", "a", " So")
    segments = build_template(name, tokenizer).render(sample)
    encoded = SegmentEncoder(tokenizer, image_token_id=32000).encode(segments, image_tokens=1)
    trained = [False, *(label != IGNORE for label in encoded.labels), False]
    shown = []
    for index, id_ in enumerate(encoded.ids):
        piece = "IMG" if id_ == 32000 else tokenizer.convert_ids_to_tokens(id_)
        opens, closes = trained[index + 1] > trained[index], trained[index + 1] > trained[index + 2]
        shown.append("[" * opens + piece.replace("<0x0A>", r"\n").replace("▁", "·") + "]" * closes)
    assert " ".join(shown).endswith(PIECES[name, legacy])


@needs_llama
@pytest.mark.parametrize("legacy", [False, True])
def test_a_caption_after_a_picture_gets_one_more_space_than_it_has(legacy: bool) -> None:
    tokenizer = llama(legacy)
    encoder = SegmentEncoder(tokenizer, image_token_id=32000)
    for caption, pieces in (("a car", ["▁a"]), (" a car", ["▁", "▁a"]), ("  a car", ["▁▁", "▁a"])):
        segments = PlainTemplate().render(sample_of((ImageRef(index=0),), caption))
        encoded = encoder.encode(segments, image_tokens=1)
        assert tokenizer.convert_ids_to_tokens(encoded.ids[2:]) == [*pieces, "▁car", "<0x0A>"]
        assert encoded.labels == [IGNORE, IGNORE, *encoded.ids[2:]]


# ---- what each writes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "system"), [("vicuna_v1", VICUNA_SYSTEM), ("llava_v1", HUMAN_SYSTEM)])
def test_v1_forms_differ_in_the_system_sentence_alone(name: str, system: str) -> None:
    template, _ = made(name, "llama-2")
    assert template.render(sample_of(SHOWN, "So.", "And?", "No. ")) == [
        text(f"{system} USER: "), ImageSegment(index=0), text("\nWhy? ASSISTANT:"),
        text(" So.", trained=True), token("</s>", trained=True), text("USER: And? ASSISTANT:"),
        text(" No. ", trained=True), token("</s>", trained=True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "opening", "between"),
    [
        ("llama_2", "[INST] <<SYS>>\nYou are a helpful, respectful and honest assistant. ", [token("<s>")]),
        ("llava_llama_2", "[INST] <<SYS>>\nYou are a helpful language and vision assistant. ", [token("<s>")]),
        ("mistral_instruct", "[INST] ", []),
    ],
)
def test_llama_2_forms_differ_in_the_system_text_and_in_bos(name: str, opening: str, between: list[Segment]) -> None:
    template, _ = made(name, "llama-2")
    first, *rest = template.render(sample_of(SHOWN, "So.", "And?", "No."))
    assert isinstance(first, TextSegment)
    assert first.text.startswith(opening)
    assert first.text.endswith("[INST] " if name == "mistral_instruct" else "\n<</SYS>>\n\n")
    assert rest == [
        ImageSegment(index=0), text("\nWhy? [/INST]"), text(" So. ", trained=True), token("</s>", trained=True),
        *between, text("[INST] And? [/INST]"), text(" No. ", trained=True), token("</s>", trained=True),
    ]  # fmt: skip


def test_a_tokenizer_without_bos_gets_none_between_turns() -> None:
    template, _ = made("llama_2", "qwen3")
    assert token("<s>") not in template.render(sample_of(SHOWN, "So.", "And?", "No."))


def test_v0_trains_headers_of_answers_and_marks_of_questions() -> None:
    template, _ = made("v0", "llama-2")
    assert template.render(sample_of(SHOWN, "So.", "And?", "No.")) == [
        text(f"{HUMAN_SYSTEM}\n\n"), text("###", trained=True), text(" Human: "), ImageSegment(index=0),
        text("\nWhy?\n"), text("### Assistant:", trained=True), text(" So.\n", trained=True),
        text("###", trained=True), text(" Human: And?\n"), text("### Assistant:", trained=True),
        text(" No.\n", trained=True), text("### ", trained=True),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["v0", "vicuna_v1", "llama_2"])
def test_an_empty_system_text_leaves_no_trace(name: str) -> None:
    template, _ = made(name, "llama-2")
    first = next(segment for segment in template.render(sample_of("Why?", "So.", system="")) if segment != text(""))
    assert first in (text("###", trained=True), text("USER: Why? ASSISTANT:"), text("[INST] Why? [/INST]"))


def test_mpt_spells_its_markers_where_the_tokenizer_has_none() -> None:
    template, _ = made("mpt", "llama-2")
    assert template.render(sample_of(SHOWN, "So.", "And?", "No.", system="Hm.")) == [
        text("<|im_start|>system\nHm.<|im_end|><|im_start|>user\n"), ImageSegment(index=0),
        text("\nWhy?<|im_end|><|im_start|>assistant\n"), text("So.<|im_end|><", trained=True),
        text("|im_start|>user\nAnd?<|im_end|><|im_start|>assistant\n"), text("No.<|im_end|>", trained=True),
    ]  # fmt: skip


def test_plain_trains_the_caption_and_a_newline_and_drops_the_question() -> None:
    sample = sample_of(("Describe it.\n", ImageRef(index=0), ImageRef(index=1)), "a car")
    assert PlainTemplate().render(sample) == [
        ImageSegment(index=0),
        ImageSegment(index=1),
        TextSegment(text="a car\n", trained=True),
    ]


def test_plain_needs_one_exchange_and_a_picture() -> None:
    with pytest.raises(DataError, match=r"data\.json:7: 4 turns") as caught:
        PlainTemplate().render(sample_of(SHOWN, "a", "b", "c"))
    assert caught.value.reason == "plain_needs_one_exchange"
    with pytest.raises(DataError) as caught:
        PlainTemplate().prompt(turns_of(SHOWN, "a", "b"))
    assert caught.value.reason == "plain_needs_one_exchange"
    with pytest.raises(DataError) as caught:
        PlainTemplate().render(sample_of("What?", "a"))
    assert caught.value.reason == "plain_needs_image"


@pytest.mark.parametrize(
    ("system", "opening"),
    [(None, f"{VICUNA_SYSTEM} USER: Why?"), ("Be brief.", "Be brief. USER: Why?"), ("", "USER: Why?")],
)
def test_vicuna_says_its_own_system_sentence_unless_told_another(system: str | None, opening: str) -> None:
    first = made("vicuna_v1", "llama-2")[0].render(sample_of("Why?", "So.", system=system))[0]
    assert first == TextSegment(text=f"{opening} ASSISTANT:", trained=False)


def test_vicuna_needs_an_eos() -> None:
    tokenizer = without_template()
    assert build_template("vicuna_v1", tokenizer).stop == (tokenizer.eos_token,)
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="eos_token"):
        build_template("vicuna_v1", tokenizer)
