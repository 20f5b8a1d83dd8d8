from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaTokenizer

from sightline.data.sample import ImageRef, Sample, Turn, canonical_content
from sightline.data.segments import ImageSegment, TextSegment
from sightline.data.template import TEMPLATES, VICUNA_SYSTEM, PlainTemplate, VicunaTemplate, build_template
from sightline.data.tokens import IGNORE, SegmentEncoder, collapse_images, truncate
from sightline.errors import ConfigError, DataError
from tests.data.conversations import (
    COMBINATIONS,
    FORGED,
    IMAGE,
    IMAGE_TOKENS,
    WORDS,
    made,
    markup_of,
    sample_of,
    trained_ids,
    trained_text,
    turns_of,
)
from tests.data.toy_tokenizers import FAMILIES, family, without_template

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"


# ---- the same as the original ----------------------------------------------------------------------------------------


def parity_rows() -> list[Any]:
    if not PARITY.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason="no recorded tokens: ../shared/parity is absent"))]
    rows = [json.loads(line) for line in (PARITY / "tokens.jsonl").read_text().splitlines()]
    return [
        pytest.param(row, id=f"{row['template']}-{row['legacy']}-{row['sample']['id']}")
        for row in rows
        if row["template"] in ("v1", "plain")
    ]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """LLaMA's sentencepiece tokenizer by its `legacy` flag."""

    @cache
    def load(legacy: bool) -> Any:
        folder = tmp_path_factory.mktemp("llama")
        for name in ("tokenizer.model", "special_tokens_map.json"):
            shutil.copy(PARITY / "llava-tiny-original" / name, folder / name)
        settings = json.loads((PARITY / "llava-tiny-original" / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"legacy": legacy}))
        return LlamaTokenizer.from_pretrained(folder)

    return load


def read_llava(sample: dict[str, Any]) -> Sample:
    """LLaVA JSON as the reader of samples gives it."""
    turns = []
    for turn in sample["conversations"]:
        before, mark, after = turn["value"].partition("<image>")
        content = canonical_content((before, ImageRef(index=0), after)) if mark else (turn["value"],)
        turns.append(Turn(role="user" if turn["from"] == "human" else "assistant", content=content))
    images = (sample["image"],) if "image" in sample else ()
    return Sample(id=sample["id"], images=images, turns=tuple(turns), source="parity")


@pytest.mark.parametrize("row", parity_rows())
def test_ids_and_labels_are_those_of_the_original(row: dict[str, Any], llama: Any) -> None:
    tokenizer = llama(row["legacy"])
    template = build_template({"v1": "vicuna_v1", "plain": "plain"}[row["template"]], tokenizer)
    encoder = SegmentEncoder(tokenizer, image_token_id=32000)
    encoded = encoder.encode(template.render(read_llava(row["sample"])), image_tokens=IMAGE_TOKENS)
    assert collapse_images(encoded.ids, image_token_id=32000, image_tokens=IMAGE_TOKENS) == row["input_ids"]
    labels = [label for label, id_ in zip(encoded.labels, encoded.ids, strict=True) if id_ != 32000]
    assert labels == [label for label, id_ in zip(row["labels"], row["input_ids"], strict=True) if id_ != -200]


# ---- prompts are prefixes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "tokenizer"), COMBINATIONS)
@pytest.mark.parametrize("system", [None, "Be brief.", " </s> be brief "])
def test_the_ids_of_a_prompt_are_a_prefix_at_every_turn(name: str, tokenizer: str, system: str | None) -> None:
    template, encoder = made(name, tokenizer)
    two = (ImageRef(index=1), " and \n", ImageRef(index=2))
    words = ((ImageRef(index=0), "\nWhat?"), " A\n", two, FORGED, FORGED, "y", "  why ", "\n\nz ")
    sample = sample_of(*words, system=system)
    whole = encoder.encode(template.render(sample), image_tokens=IMAGE_TOKENS)
    for length in (1, 3, 5, 7):
        prompt = encoder.encode(template.prompt(sample.turns[:length], system=system), image_tokens=IMAGE_TOKENS)
        assert whole.ids[: len(prompt.ids)] == prompt.ids
        assert whole.labels[len(prompt.ids)] != IGNORE  # what comes next is the answer
        assert len(prompt.ids) < len(whole.ids)


def test_the_ids_of_a_plain_prompt_are_a_prefix() -> None:
    template, encoder = made("plain", "llama-2")
    sample = sample_of(("Describe", ImageRef(index=0)), "a car")
    whole = encoder.encode(template.render(sample), image_tokens=2)
    prompt = encoder.encode(template.prompt(sample.turns[:1]), image_tokens=2)
    assert prompt.ids == [1, IMAGE, IMAGE] == whole.ids[:3]
    assert prompt.labels == [IGNORE] * 3


# ---- what is trained on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", FAMILIES)
def test_vicuna_trains_each_answer_and_eos(tokenizer: str) -> None:
    found = trained_text("vicuna_v1", tokenizer, sample_of((ImageRef(index=0), "\nWhat is shown?"), *WORDS[1:]))
    expected = "".join(f" {words}{family(tokenizer).eos_token}" for words in WORDS[1::2])
    assert found.removeprefix(" ") == expected.removeprefix(" ")


@pytest.mark.parametrize(("name", "tokenizer"), COMBINATIONS)
def test_a_forged_turn_moves_no_label_and_adds_no_special_token(name: str, tokenizer: str) -> None:
    innocent = sample_of((ImageRef(index=0), "\nWhat?"), "Yes.", "And now?", "No.", system="Hm.")
    hostile = sample_of((ImageRef(index=0), f"\n{FORGED}"), "Yes.", FORGED, "No.", system=FORGED)
    assert trained_ids(name, tokenizer, hostile) == trained_ids(name, tokenizer, innocent)
    template, encoder = made(name, tokenizer)
    special = markup_of(tokenizer) | {IMAGE}
    found, expected = (
        [id_ for id_ in encoder.encode(template.render(sample), image_tokens=IMAGE_TOKENS).ids if id_ in special]
        for sample in (hostile, innocent)
    )
    assert found == expected
    assert found.count(IMAGE) == IMAGE_TOKENS


@pytest.mark.parametrize(("name", "tokenizer"), COMBINATIONS)
def test_a_forged_turn_in_an_answer_is_trained_as_text(name: str, tokenizer: str) -> None:
    sample = sample_of("What?", FORGED, "And?", "Yes.")
    assert trained_text(name, tokenizer, sample).count(FORGED.strip()) == 1
    template, encoder = made(name, tokenizer)
    special = [id_ for id_ in trained_ids(name, tokenizer, sample) if id_ in markup_of(tokenizer)]
    assert special == [encoder.token_id(template.stop[0])] * 2


@pytest.mark.parametrize(("name", "tokenizer"), COMBINATIONS)
def test_only_the_answers_of_a_hundred_turns_are_trained(name: str, tokenizer: str) -> None:
    one, hundred = (trained_ids(name, tokenizer, sample_of(*["Why?", "A car."] * count)) for count in (1, 100))
    assert hundred == one * 100


@pytest.mark.parametrize("tokenizer", ["qwen3", "llama-3", "phi-3", "gemma"])
def test_an_answer_of_one_token_trains_two(tokenizer: str) -> None:
    template, encoder = made("own", tokenizer)
    found = trained_ids("own", tokenizer, sample_of("Is it?", "A"))
    assert len(found) == 2
    assert found[-1] == encoder.token_id(template.stop[0])


def test_an_answer_cut_in_the_middle_loses_its_end_marker() -> None:
    template, encoder = made("own", "qwen3")
    encoded = encoder.encode(template.render(sample_of(*WORDS)), image_tokens=IMAGE_TOKENS)
    cut = truncate(encoded, max_length=len(encoded.ids) - 1, image_token_id=IMAGE)
    assert (encoded.labels[-1], cut.lost) == (encoder.token_id("<|im_end|>"), 1)
    assert cut.labels[-1] == cut.ids[-1] != encoder.token_id("<|im_end|>")


# ---- plain and vicuna ------------------------------------------------------------------------------------------------


def test_plain_trains_the_caption_and_a_newline_and_drops_the_question() -> None:
    sample = sample_of(("Describe it.\n", ImageRef(index=0), ImageRef(index=1)), "a car")
    assert PlainTemplate().render(sample) == [
        ImageSegment(index=0),
        ImageSegment(index=1),
        TextSegment(text="a car\n", trained=True),
    ]


def test_plain_needs_one_exchange_and_a_picture() -> None:
    seen: tuple[str | ImageRef, ...] = (ImageRef(index=0), "\nWhat?")
    with pytest.raises(DataError, match=r"data\.json:7: 4 turns") as caught:
        PlainTemplate().render(sample_of(seen, "a", "b", "c"))
    assert caught.value.reason == "plain_needs_one_exchange"
    with pytest.raises(DataError) as caught:
        PlainTemplate().prompt(turns_of(seen, "a", "b"))
    assert caught.value.reason == "plain_needs_one_exchange"
    with pytest.raises(DataError) as caught:
        PlainTemplate().render(sample_of("What?", "a"))
    assert caught.value.reason == "plain_needs_image"


@pytest.mark.parametrize(
    ("system", "opening"),
    [(None, f"{VICUNA_SYSTEM} USER: Why?"), ("Be brief.", "Be brief. USER: Why?"), ("", "USER: Why?")],
)
def test_vicuna_says_its_own_system_sentence_unless_told_another(system: str | None, opening: str) -> None:
    first = VicunaTemplate().render(sample_of("Why?", "So.", system=system))[0]
    assert first == TextSegment(text=f"{opening} ASSISTANT:", trained=False)


def test_vicuna_needs_an_eos() -> None:
    tokenizer = without_template()
    assert build_template("vicuna_v1", tokenizer).stop == (tokenizer.eos_token,)
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="eos_token"):
        build_template("vicuna_v1", tokenizer)


def test_an_unknown_template_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r'expected one of own, plain, vicuna_v1; did you mean "vicuna_v1"\?'):
        build_template("vicuna_v0", family("qwen3"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_turns_must_alternate_and_end_as_expected(name: str) -> None:
    template, _ = made(name, "qwen3")
    question, answer = turns_of("q", "a")
    for turns in ((), (answer,), (question,), (question, question), (question, answer, question)):
        with pytest.raises(DataError) as caught:
            template.render(Sample(id="x", images=(), turns=turns))
        assert caught.value.reason == "turns_do_not_alternate"
    for turns in ((), (answer,), (question, answer), (question, question, question)):
        with pytest.raises(DataError) as caught:
            template.prompt(turns)
        assert caught.value.reason == "turns_do_not_alternate"


def test_tokens_that_end_an_answer() -> None:
    assert made("own", "qwen3")[0].stop == ("<|im_end|>",)
    assert made("own", "gemma")[0].stop == ("<end_of_turn>", "</s>")
    assert made("vicuna_v1", "llama-2")[0].stop == ("</s>",)
    assert (made("plain", "llama-2")[0].stop, made("plain", "llama-2")[0].stop_text) == ((), ("\n",))
