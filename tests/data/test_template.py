"""What is true of every template, whichever it is."""

from __future__ import annotations

import pytest

from sightline.data.sample import ImageRef, Sample
from sightline.data.template import TEMPLATES, build_template
from sightline.data.tokens import IGNORE, truncate
from sightline.errors import ConfigError, DataError
from tests.data.conversations import (
    COMBINATIONS,
    ENDED_BY_WORDS,
    FORGED,
    IMAGE,
    IMAGE_TOKENS,
    LEGACY,
    WORDS,
    made,
    markup_of,
    sample_of,
    trained_ids,
    trained_text,
    turns_of,
)
from tests.data.toy_tokenizers import FAMILIES, family

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
    ends = [] if (name, tokenizer) in ENDED_BY_WORDS else [encoder.token_id(template.stop[0])] * 2
    assert special == ends


@pytest.mark.parametrize(("name", "tokenizer"), [pair for pair in COMBINATIONS if pair not in ENDED_BY_WORDS])
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


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_an_unknown_template_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r'expected one of own, plain, .*did you mean "vicuna_v1"\?') as caught:
        build_template("vicuna_v0", family("qwen3"))
    assert all(name in str(caught.value) for name in TEMPLATES)


@pytest.mark.parametrize(("name", "tokenizer"), [*COMBINATIONS, ("plain", "llama-2")])
def test_turns_must_alternate_and_end_as_expected(name: str, tokenizer: str) -> None:
    template, _ = made(name, tokenizer)
    question, answer = turns_of("q", "a")
    for turns in (
        (), (answer,), (question,), (question, question), (question, answer, question), (answer, answer),
        (answer, question, answer),
    ):  # fmt: skip
        with pytest.raises(DataError) as caught:
            template.render(Sample(id="x", images=(), turns=turns))
        assert caught.value.reason == "turns_do_not_alternate"
    for turns in ((), (answer,), (question, answer), (answer, question), (question, question, question)):
        with pytest.raises(DataError) as caught:
            template.prompt(turns)
        assert caught.value.reason == "turns_do_not_alternate"


@pytest.mark.parametrize(
    ("name", "tokenizer", "stop", "stop_text"),
    [
        ("own", "qwen3", ("<|im_end|>",), ()),
        ("own", "gemma", ("<end_of_turn>", "</s>"), ()),
        ("plain", "llama-2", (), ("\n",)),
        ("v0", "llama-2", ("</s>",), ("###",)),
        *((name, "llama-2", ("</s>",), ()) for name in LEGACY if name != "v0"),
        ("mpt", "llama-2", ("</s>",), ("<|im_end|>",)),
        ("mpt", "qwen2.5", ("<|im_end|>",), ()),
        ("chatml", "qwen2.5", ("<|im_end|>",), ()),
        ("llama_3", "llama-3", ("<|eot_id|>", "<|end_of_text|>"), ()),
        ("gemma", "gemma", ("<end_of_turn>", "</s>"), ()),
        ("phi", "phi-3", ("<|end|>", "</s>"), ()),
    ],
)
def test_what_ends_an_answer(name: str, tokenizer: str, stop: tuple[str, ...], stop_text: tuple[str, ...]) -> None:
    template, _ = made(name, tokenizer)
    assert (template.name, template.stop, template.stop_text) == (name, stop, stop_text)
