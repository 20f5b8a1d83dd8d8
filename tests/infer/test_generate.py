"""Generation: each prompt of a batch gets the answer that it would get alone, and every answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from sightline.errors import ConfigError
from sightline.infer.generate import (
    Prompt,
    _generators,
    context_of,
    decode_steps,
    generate,
    without_placeholder,
)
from sightline.infer.sampling import Sampling
from sightline.infer.words import StopRule
from sightline.model.vlm import VisionLanguageModel
from tests.fakes import IMAGE_TOKEN, PATCHES, tiny_language, tiny_model, tiny_pixels

PICTURE = [IMAGE_TOKEN] * PATCHES
NO_PIXELS = torch.zeros(0, 3, 32, 32)
PROMPTS = [
    Prompt(ids=[1, 5, *PICTURE, 7, 8, 9], pixels=tiny_pixels(1, seed=1)),
    Prompt(ids=[1, 5, 6], pixels=NO_PIXELS),
    Prompt(ids=[1, 5, *PICTURE, 7, 8, 9], pixels=tiny_pixels(1, seed=2)),
    Prompt(ids=[1, *PICTURE, 4, *PICTURE, 9, 10, 11, 12], pixels=tiny_pixels(2, seed=3)),
    Prompt(ids=[1, *range(10, 40)], pixels=NO_PIXELS),
]


def letters(ids: Sequence[int]) -> str:
    """Stands in for a tokenizer: id 65 is "A"."""
    return "".join(map(chr, ids))


def never() -> StopRule:
    return StopRule(ids=frozenset(), decode=letters)


def alone(model: VisionLanguageModel, stop: StopRule, sampling: Sampling) -> list[list[int]]:
    return [generate(model, [prompt], sampling=sampling, stop=stop)[0] for prompt in PROMPTS]


@pytest.mark.parametrize("language", ["llama", "qwen3", "mistral", "gemma2", "phi3"])
def test_a_batch_of_unlike_prompts_gets_the_answers_of_one_by_one(language: str) -> None:
    model = tiny_model("clip", language)
    sampling = Sampling(max_new_tokens=10)
    answers = alone(model, never(), sampling)
    assert generate(model, PROMPTS, sampling=sampling, stop=never()) == answers
    assert len({tuple(answer) for answer in answers}) == len(answers), "the answers must tell the prompts apart"
    # Other lengths of answers: what one of them says in its middle ends the rest too.
    stop = StopRule(ids=frozenset({answers[0][2], answers[3][5]}), decode=letters)
    stopped = alone(model, stop, sampling)
    assert len({len(answer) for answer in stopped}) > 1
    assert generate(model, PROMPTS, sampling=sampling, stop=stop) == stopped


def test_pictures_go_to_their_own_prompts() -> None:
    model = tiny_model()
    sampling = Sampling(max_new_tokens=6)
    forth = generate(model, [PROMPTS[0], PROMPTS[2]], sampling=sampling, stop=never())
    back = generate(model, [PROMPTS[2], PROMPTS[0]], sampling=sampling, stop=never())
    assert forth == back[::-1]
    assert forth[0] != forth[1]


def test_an_answer_ends_with_its_stop_id_and_the_others_go_on() -> None:
    model = tiny_model()
    free = generate(model, PROMPTS, sampling=Sampling(max_new_tokens=8), stop=never())
    stop = StopRule(ids=frozenset({free[0][3]}), decode=letters)
    answers = generate(model, PROMPTS, sampling=Sampling(max_new_tokens=8), stop=stop)
    for answer, unstopped in zip(answers, free, strict=True):
        assert answer == unstopped[: len(answer)]
        assert (answer[-1] in stop.ids) or len(answer) == 8
        assert not stop.ids & set(answer[:-1])


def test_steps_say_none_for_an_answer_that_is_over() -> None:
    model = tiny_model()
    free = generate(model, PROMPTS[:2], sampling=Sampling(max_new_tokens=4), stop=never())
    stop = StopRule(ids=frozenset({free[0][0]}), decode=letters)
    steps = list(decode_steps(model, PROMPTS[:2], sampling=Sampling(max_new_tokens=4), stop=stop))
    assert [step[0] for step in steps] == [free[0][0], *[None] * (len(steps) - 1)]
    assert steps[0][1] == free[1][0]


@pytest.mark.parametrize("limit", [1, 3, 17])
def test_answers_have_no_more_tokens_than_allowed(limit: int) -> None:
    answers = generate(tiny_model(), PROMPTS, sampling=Sampling(max_new_tokens=limit), stop=never())
    assert [len(answer) for answer in answers] == [limit] * len(PROMPTS)


def small_context(limit: int) -> VisionLanguageModel:
    model = tiny_model()
    model.language.config.max_position_embeddings = limit
    return model


def test_an_answer_ends_where_the_context_does_in_a_batch_as_alone() -> None:
    """The last token needs no position of its own: nothing follows it."""
    model = small_context(45)
    prompts = [prompt for prompt in PROMPTS if len(prompt.ids) < 45]
    sampling = Sampling(max_new_tokens=100)
    answers = [generate(model, [prompt], sampling=sampling, stop=never())[0] for prompt in prompts]
    assert [len(prompt.ids) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)] == [46] * 5
    assert generate(model, prompts, sampling=sampling, stop=never()) == answers


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"takes 38 positions.*has 30.*reset"):
        generate(small_context(30), PROMPTS, sampling=Sampling(), stop=never())


@pytest.mark.parametrize(
    ("config", "context"),
    [
        (AutoConfig.for_model("llama", max_position_embeddings=77), 77),
        (AutoConfig.for_model("mpt", max_seq_len=77), 77),
        (AutoConfig.for_model("phi3", original_max_position_embeddings=77, max_position_embeddings=4096), 4096),
        (AutoConfig.for_model("bloom"), 1 << 30),
    ],
)
def test_the_context_is_what_the_configuration_says(config: Any, context: int) -> None:
    assert context_of(SimpleNamespace(language=SimpleNamespace(config=config))) == context  # type: ignore[arg-type]


def test_with_longrope_an_answer_ends_before_its_keys_would_be_turned_otherwise() -> None:
    """Up to there what the cache holds is what the whole conversation gives when it is computed anew."""
    factors = {"short_factor": [1.0] * 4, "long_factor": [8.0] * 4}
    model = tiny_model("clip", "phi3")
    model.language = tiny_language(
        "phi3", original_max_position_embeddings=45, rope_parameters={"rope_type": "longrope", **factors}
    )
    (answer,) = generate(model, PROMPTS[4:], sampling=Sampling(max_new_tokens=100), stop=never())
    ids = torch.tensor([PROMPTS[4].ids + answer])
    assert ids.shape[1] == 46, "the last token needs no position"
    logits = without_placeholder(model(ids[:, :-1])[0], IMAGE_TOKEN)
    assert logits[len(PROMPTS[4].ids) - 1 :].argmax(-1).tolist() == answer


def test_the_placeholder_is_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a row in the vocabulary, and its embedding is a picture's: fed back, it would ask for one."""
    model = tiny_model()
    decode = model.decode

    def longing(*arguments: Any, **options: Any) -> Any:
        logits, past = decode(*arguments, **options)
        return logits + 1e4 * torch.eye(logits.shape[-1])[IMAGE_TOKEN], past

    monkeypatch.setattr(model, "decode", longing)
    for temperature in (0.0, 1.0):
        answers = generate(model, PROMPTS, sampling=Sampling(max_new_tokens=4, temperature=temperature), stop=never())
        assert [len(answer) for answer in answers] == [4] * len(PROMPTS)
        assert IMAGE_TOKEN not in {token for answer in answers for token in answer}


def test_prompts_are_drawn_for_by_their_words_and_their_number() -> None:
    """Each has numbers of its own, whoever stands beside it."""
    sampling = Sampling(temperature=1.0, seed=4)
    prompts = [Prompt(ids=ids, pixels=tiny_pixels(0), number=number) for ids in ([1, 5], [1, 6]) for number in (0, 1)]
    together = _generators(prompts, sampling, torch.device("cpu"))
    assert together is not None
    assert len({generator.initial_seed() for generator in together}) == 4
    alone = _generators(prompts[3:], sampling, torch.device("cpu"))
    assert alone is not None
    assert alone[0].initial_seed() == together[3].initial_seed()


def test_a_seed_repeats_an_answer_and_another_one_changes_it() -> None:
    model = tiny_model()

    def answers(seed: int | None) -> list[list[int]]:
        sampling = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=12, seed=seed)
        return generate(model, PROMPTS, sampling=sampling, stop=never())

    first = answers(1)
    torch.rand(7)  # a seed is not the process's
    assert answers(1) == first != answers(2)


def test_nothing_is_recorded_for_a_backward_pass_and_dropout_is_off() -> None:
    model = tiny_model().train()
    steps = decode_steps(model, PROMPTS[:1], sampling=Sampling(max_new_tokens=2), stop=never())
    next(steps)
    assert not model.training
    assert torch.is_grad_enabled(), "the mode inside must not leak out between two steps"
    steps.close()
    assert torch.is_grad_enabled()
