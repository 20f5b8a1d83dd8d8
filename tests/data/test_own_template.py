from __future__ import annotations

from typing import Any

import pytest
from tokenizers import normalizers

from sightline.data.chat_literals import Strip, read_literals
from sightline.data.literal_template import LiteralTemplate, split_literal
from sightline.data.own_template import own_template
from sightline.data.sample import ImageRef
from sightline.data.segments import ImageSegment, TextSegment, TokenSegment
from sightline.data.template import build_template
from sightline.data.tokens import SegmentEncoder
from sightline.errors import ConfigError
from tests.data.conversations import IMAGE, WORDS, made, sample_of, trained_text, turns_of
from tests.data.toy_tokenizers import FAMILIES, QWEN25, byte_level, family, sentencepiece


def messages_of(*words: str) -> list[dict[str, Any]]:
    return [{"role": turn.role, "content": turn.content[0]} for turn in turns_of(*words)]


ENDS = {
    "qwen2.5": "{}<|im_end|>", "qwen3": "{}<|im_end|>", "llama-3": "{}<|eot_id|>", "llama-3.2": "{}<|eot_id|>",
    "llama-2": " {} </s>", "llama-2-legacy": " {} </s>", "mistral": " {}</s>", "mistral-legacy": " {}</s>",
    "phi-3": "{}<|end|>", "gemma": "{}<end_of_turn>",
}  # fmt: skip


@pytest.mark.parametrize("tokenizer", FAMILIES)
def test_own_trains_each_answer_and_its_end_marker(tokenizer: str) -> None:
    expected = "".join(ENDS[tokenizer].format(words) for words in WORDS[1::2])
    assert trained_text(
        "own", tokenizer, sample_of((ImageRef(index=0), "\nWhat is shown?"), *WORDS[1:])
    ) == expected.removeprefix(" ")


# ---- the form that the model knows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [name for name in FAMILIES if name != "llama-3.2"])  # it would see today's date
def test_own_gives_the_ids_of_the_chat_template_for_turns_of_the_past(tokenizer: str) -> None:
    template, encoder = made("own", tokenizer)
    theirs = family(tokenizer).apply_chat_template(messages_of(*WORDS, "What?"), tokenize=True)["input_ids"]
    ours = encoder.encode(template.render(sample_of(*WORDS)), image_tokens=1).ids
    assert ours == theirs[: len(ours)]


@pytest.mark.parametrize("tokenizer", ["qwen2.5", "qwen3", "llama-3", "llama-2", "llama-2-legacy", "phi-3"])
def test_own_puts_the_system_text_where_the_chat_template_does(tokenizer: str) -> None:
    template, encoder = made("own", tokenizer)
    messages = [{"role": "system", "content": "You are a car."}, *messages_of(*WORDS, "What?")]
    theirs = family(tokenizer).apply_chat_template(messages, tokenize=True)["input_ids"]
    ours = encoder.encode(template.render(sample_of(*WORDS, system="You are a car.")), image_tokens=1).ids
    assert ours == theirs[: len(ours)]


@pytest.mark.parametrize("tokenizer", ["gemma", "mistral"])
def test_a_system_text_without_a_place_of_its_own_goes_before_the_first_question(tokenizer: str) -> None:
    template, _ = made("own", tokenizer)
    folded = sample_of("Be brief.\n\nWhy?", "Yes.", "And?", "No.")
    assert template.render(sample_of("Why?", "Yes.", "And?", "No.", system="Be brief.")) == template.render(folded)
    seen = template.render(sample_of((ImageRef(index=0), "\nWhy?"), "Yes.", system="Be brief."))
    place = seen.index(ImageSegment(index=0))
    before = seen[place - 1]
    assert isinstance(before, TextSegment)
    assert before.text.endswith("Be brief.\n\n")


def test_a_system_text_that_changes_the_headers_goes_before_the_first_question() -> None:
    noted = QWEN25.replace(
        "<|im_start|>{{ m['role'] }}\n",
        "<|im_start|>{{ m['role'] }}{% if messages[0]['role'] == 'system' %}!{% endif %}\n",
    )
    tokenizer = byte_level(special=["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=noted)
    assert read_literals(tokenizer).around_system is None


def test_every_turn_is_written_as_history_without_an_empty_think_block() -> None:
    template, _ = made("own", "qwen3")
    assert isinstance(template, LiteralTemplate)
    assert template.literals.header == "<|im_end|>\n<|im_start|>assistant\n"
    segments = template.render(sample_of(*WORDS))
    assert not any(isinstance(segment, TokenSegment) and segment.token == "<think>" for segment in segments)
    assert segments[-2:] == [
        TextSegment(text="Yellow.", trained=True),
        TokenSegment(token="<|im_end|>", trained=True),
    ]


def test_a_template_never_sees_the_date_of_the_day() -> None:
    template, _ = made("own", "llama-3.2")
    assert isinstance(template, LiteralTemplate)
    assert "Today Date: 26 Jul 2024\n" in template.literals.opening


@pytest.mark.parametrize(
    ("tokenizer", "question", "answer"),
    [
        ("qwen3", Strip(), Strip()),
        ("llama-3", Strip(left=True, right=True), Strip(left=True, right=True)),
        ("gemma", Strip(left=True, right=True), Strip(left=True, right=True)),
        ("mistral", Strip(), Strip()),
    ],
)
def test_words_are_stripped_where_the_chat_template_strips(tokenizer: str, question: Strip, answer: Strip) -> None:
    literals = read_literals(family(tokenizer))
    assert (literals.strip_question, literals.strip_answer) == (question, answer)
    template, _ = made("own", tokenizer)
    padded = template.render(sample_of("\n Why? ", "\n Yes. ", ("\n a ", ImageRef(index=0), " b\n"), "No."))
    bare = template.render(sample_of("Why?", "Yes.", ("a ", ImageRef(index=0), " b"), "No."))
    assert (padded == bare) is question.left
    after = bare[bare.index(ImageSegment(index=0)) + 1]
    assert isinstance(after, TextSegment)
    assert after.text.startswith(" b")  # only the ends of a turn are stripped


def test_bos_is_put_before_a_template_that_writes_none() -> None:
    zephyr = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}</s>\n{% endfor %}"
    tokenizer = sentencepiece(legacy=False, template=zephyr)
    template = build_template("own", tokenizer)
    segments = template.render(sample_of("a car", "Yes."))
    ids = SegmentEncoder(tokenizer, image_token_id=IMAGE).encode(segments, image_tokens=1).ids
    assert tokenizer.decode(ids) == "<s> <|user|>\na car</s>\n<|assistant|>\nYes.</s>"


def test_a_special_token_swallows_the_space_beside_it() -> None:
    markup = {token.content: token for token in family("phi-3").added_tokens_decoder.values()}
    assert split_literal("a<|end|>\n<|user|>\n b", markup) == [
        TextSegment(text="a", trained=False),
        TokenSegment(token="<|end|>", trained=False),
        TokenSegment(token="<|user|>", trained=False),
        TextSegment(text="b", trained=False),
    ]


# ---- what is refused -------------------------------------------------------------------------------------------------

CHATML = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize(
    ("chat_template", "complaint"),
    [
        (None, "no chat template"),
        ("{{ nothing.at.all }}", "fails"),
        ("{{ raise_exception('not today') }}", "not today"),
        (CHATML.replace("m['content']", "m['content'][:9]"), "drops, repeats or reorders"),
        (CHATML + "{{ messages[0]['content'] }}", "drops, repeats or reorders"),
        (CHATML.replace("<|im_end|>", "{{ loop.index }}<|im_end|>"), "unlike one another"),
        ("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}", "no special token"),
    ],
)
def test_a_chat_template_that_cannot_be_trained_with_is_refused(chat_template: str | None, complaint: str) -> None:
    tokenizer = byte_level(special=["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=chat_template)
    with pytest.raises(ConfigError, match=complaint) as caught:
        build_template("own", tokenizer)
    assert "template: vicuna_v1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_changes_words_is_refused_with_expected_and_found() -> None:
    tokenizer = byte_level(special=["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=QWEN25)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ConfigError, match=r"should be \['Yes\..* and is \['yes\."):
        own_template(tokenizer)


def test_the_self_test_sees_prompts_that_are_no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    template = own_template(family("qwen3"))
    honest = template.prompt
    monkeypatch.setattr(template, "prompt", lambda turns, system=None: honest(turns, system=(system or "") + "x"))
    with pytest.raises(ConfigError, match="the prompt of 1 turns"):
        template.verify(family("qwen3"))
