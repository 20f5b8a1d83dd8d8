"""Where the model looked: the heat lies on what decides the answer, in the picture as it was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sightline.data.sample import ImageRef, Turn
from sightline.errors import ConfigError, DataError
from sightline.infer.chat import ChatSession, stop_rule
from sightline.infer.explain import Heat, explain, to_json, words_of
from sightline.infer.relevance import Asked, integrated_gradients
from sightline.infer.sampling import Sampling
from sightline.infer.words import StopRule
from sightline.model.connector import Connector
from sightline.model.vision import VisionEncoder
from sightline.model.vlm import VisionLanguageModel
from tests.fakes import IMAGE_SIZE, PATCH_SIZE, PATCHES, tiny_backbone
from tests.tiny_checkpoint import SETTINGS, tiny_assistant, tiny_processor

SIDE = IMAGE_SIZE // PATCH_SIZE
ANSWER = "Yellow car, red and blue."
GREY = tuple(int(channel * 255) for channel in SETTINGS.image_mean)


def noise(width: int = 40, height: int = 30, *, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def question(*, pictures: int = 1, first: int = 0) -> Turn:
    shown = [piece for index in range(first, first + pictures) for piece in (ImageRef(index=index), "\n")]
    return Turn(role="user", content=(*shown, "What colour is it?"))


class Only(nn.Module):
    """A connector behind which all features are the same but that of one place of one picture."""

    def __init__(self, connector: Connector, *, place: int, picture: int = 0) -> None:
        super().__init__()
        self.connector, self.place, self.picture = connector, place, picture

    def forward(self, features: Tensor) -> Tensor:
        found = torch.linspace(-1, 1, 32).repeat(*features.shape[:2], 1)
        found[self.picture, self.place] = self.connector(features)[self.picture, self.place]
        return found


class Means(nn.Module):
    """An encoder that knows the mean color of every patch, and nothing of its neighbors."""

    image_size, patch_size, tokens_per_image = IMAGE_SIZE, PATCH_SIZE, PATCHES

    def forward(self, pixels: Tensor) -> Tensor:
        means = nn.functional.avg_pool2d(pixels, PATCH_SIZE).flatten(2).mT
        return nn.functional.pad(means, (0, 29))


def either_way(asked: Asked) -> Tensor:
    """Random weights may speak against any answer: what speaks against it counts as well."""
    return integrated_gradients(asked).abs()


# ---- the map ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["pad", "crop"])
@pytest.mark.parametrize("language", ["llama", "qwen3", "gemma2"])
def test_there_is_a_heat_from_0_to_1_for_each_picture_on_one_scale(language: str, policy: str) -> None:
    model, processor = tiny_assistant(language=language, image_policy=policy)
    turns = [question(pictures=2), Turn(role="assistant", content=("Red.",)), question(first=2)]
    pictures = [noise(seed=seed) for seed in range(3)]
    heats = explain(model, processor, turns, pictures, ANSWER, system="Look.")
    assert len(heats) == 3
    for heat in heats:
        assert heat.grid.shape == (SIDE, SIDE)
        assert heat.grid.dtype == np.float32
        assert heat.grid.min() >= 0
        assert heat.words == ("Yellow", "car,", "red", "and", "blue.")
    assert max(heat.grid.max() for heat in heats) == 1


@pytest.mark.parametrize("language", ["llama", "gemma2", "starcoder2"])
@pytest.mark.parametrize("place", [(0, 3), (2, 1), (3, 0)])
def test_the_heat_is_at_the_only_patch_that_differs_from_the_others(place: tuple[int, int], language: str) -> None:
    model, processor = tiny_assistant(language=language)
    model.connector = Only(model.connector, place=place[0] * SIDE + place[1])  # type: ignore[assignment]
    (heat,) = explain(model, processor, [question()], [noise()], ANSWER, method=either_way)
    assert heat.grid[place] == 1
    assert np.sort(heat.grid, axis=None)[-2] < 0.7


def test_of_two_pictures_only_the_one_that_decides_has_heat() -> None:
    model, processor = tiny_assistant()
    model.connector = Only(model.connector, place=6, picture=1)  # type: ignore[assignment]
    turns = [question(), Turn(role="assistant", content=("Red.",)), question(first=1)]
    first, second = explain(model, processor, turns, [noise(), noise(seed=1)], ANSWER, method=either_way)
    assert first.grid.max() < 1e-5
    assert second.grid[1, 2] == 1


def test_what_comes_before_the_patches_has_no_place_in_the_map() -> None:
    processor = tiny_processor(image_tokens=PATCHES + 1)
    model, _ = tiny_assistant()
    encoder = VisionEncoder(tiny_backbone("clip"), select="cls_patch")
    whole = VisionLanguageModel(encoder, model.connector, model.language, image_token_id=model.image_token_id).eval()
    whole.connector = Only(whole.connector, place=1 + 7)  # type: ignore[assignment]
    (heat,) = explain(whole, processor, [question()], [noise()], ANSWER, method=either_way)
    assert heat.grid.argmax() == 7
    assert heat.grid.shape == (SIDE, SIDE)


@pytest.mark.parametrize("policy", ["pad", "crop"])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 48), (48, 96), (83, 64), (33, 64)])
def test_the_heat_is_where_the_spot_is_in_the_picture_as_it_was_given(width: int, height: int, policy: str) -> None:
    """A grey picture with one white spot, of whose patches the language model is told the mean colors."""
    model, processor = tiny_assistant(image_policy=policy)
    model.vision, model.connector = Means(), nn.Identity()  # type: ignore[assignment]
    middle = min(width, height)
    left, top = (width - middle) // 2 + middle * 5 // 8, (height - middle) // 2 + middle // 8  # seen when cropped, too
    picture = Image.new("RGB", (width, height), GREY)
    spot = middle * 3 // 8
    picture.paste((255, 255, 255), (left, top, left + spot, top + spot))

    def method(asked: Asked) -> Tensor:
        return asked.features.norm(dim=-1)  # mean color is zero

    (heat,) = explain(model, processor, [question()], [picture], ANSWER, method=method)
    over = heat.over_picture(width, height)
    assert over.shape == (height, width)
    row, column = np.unravel_index(over.argmax(), over.shape)
    assert left <= column < left + spot
    assert top <= row < top + spot


GRID = np.arange(16, dtype=np.float32).reshape(4, 4) / 15


def heat(box: tuple[float, float, float, float], grid: Any = GRID) -> Heat:
    return Heat(grid=grid, box=box, words=("x",))


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        pytest.param((0, 0, 4, 4), (4, 4), GRID, id="square"),
        pytest.param((0, 1, 4, 3), (4, 2), GRID[1:3], id="landscape, padded"),
        pytest.param((1, 0, 3, 4), (2, 4), GRID[:, 1:3], id="portrait, padded"),
        pytest.param((-1, 0, 5, 4), (6, 4), np.pad(GRID, ((0, 0), (1, 1))), id="landscape, cropped"),
        pytest.param((0, -2, 4, 6), (4, 8), np.pad(GRID, ((2, 2), (0, 0))), id="portrait, cropped"),
        pytest.param((0, 0, 4, 4), (2, 1), [[6.5 / 15, 8.5 / 15]], id="between the centers"),
        pytest.param((0, 0, 4, 1), (8, 1), [[0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]] / np.float32(15), id="finer"),
    ],
)
def test_heat_over_the_picture(box: tuple[float, float, float, float], size: tuple[int, int], expected: Any) -> None:
    found = heat(box).over_picture(*size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_json_has_about_one_number_a_patch_over_each_whole_picture() -> None:
    assert to_json([heat((0, 1, 4, 3))]) == {
        "width": 4,
        "height": 2,
        "heat": [[[0.2667, 0.3333, 0.4, 0.4667], [0.5333, 0.6, 0.6667, 0.7333]]],
        "words": ["x"],
    }
    thin = to_json([heat((1.9, 0, 2.1, 4))])
    assert (thin["width"], thin["height"]) == (1, 4)
    both = to_json([heat((-1, 0, 5, 4)), heat((0, 1, 4, 3))])
    assert (both["width"], both["height"]) == (6, 4)
    assert [np.shape(one) for one in both["heat"]] == [(4, 6), (4, 6)]


# ---- the words -------------------------------------------------------------------------------------------------------


def captured(words: slice | None, *, family: str = "qwen2.5", answer: str = ANSWER) -> tuple[str, Asked, Sequence[str]]:
    """The text of the tokens that are asked about."""
    model, processor = tiny_assistant(family, template="own" if family == "qwen2.5" else "vicuna_v1")
    seen: list[Asked] = []

    def method(asked: Asked) -> Tensor:
        seen.append(asked)
        return torch.ones(len(asked.places))

    (found,) = explain(model, processor, [question()], [noise()], answer, words=words, method=method)
    return processor.decode(seen[0].tokens.tolist()).strip(), seen[0], found.words


@pytest.mark.parametrize("family", ["qwen2.5", "llama-2"])
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (None, ANSWER),
        (slice(0, 1), "Yellow"),
        (slice(1, 3), "car, red"),
        (slice(-1, None), "blue."),
    ],
)
def test_the_tokens_are_those_of_the_words(words: slice | None, text: str, family: str) -> None:
    tokens, asked, found = captured(words, family=family)
    assert tokens == text
    assert list(found) == text.split()
    assert asked.embeddings.shape[1] == int(asked.before[-1]) + 2, "nothing after the last word is computed"
    assert len(asked.places) == PATCHES
    assert int(asked.places[-1] - asked.places[0]) == PATCHES - 1
    assert int(asked.before[0]) > int(asked.places[-1])


def test_a_word_has_all_tokens_of_its_characters_and_the_end_is_no_word() -> None:
    processor = tiny_processor("qwen2.5")
    ids = [*processor.tokenizer("naïve 😀👩‍🚀 café", add_special_tokens=False)["input_ids"], *processor.stop_ids]
    words = words_of(ids, stop_rule(processor))
    assert [word.text for word in words] == ["naïve", "😀👩‍🚀", "café"]
    places = [place for word in words for place in word.tokens]
    assert places == list(range(len(ids) - 1)), "every token but the last, once and in order"
    for word in words:
        assert processor.decode([ids[place] for place in word.tokens]).strip() == word.text


def test_what_a_stop_text_cuts_off_is_no_word() -> None:
    spelled = {1: "red", 2: " car", 3: "\n", 4: "USER"}
    rule = StopRule(ids=frozenset(), texts=("\n",), decode=lambda ids: "".join(spelled[token] for token in ids))
    assert [(word.text, word.tokens) for word in words_of([1, 2, 3, 4], rule)] == [("red", (0,)), ("car", (1,))]


# ---- what is left behind ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["llama", "gemma2"])
def test_the_model_is_left_as_it_was(language: str) -> None:
    model, processor = tiny_assistant(language=language)
    model.language.train()
    model.connector.requires_grad_(False)

    def state() -> list[Any]:
        modules = list(model.modules())
        return [
            [module.training for module in modules],
            [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
            [len(module._backward_hooks) for module in modules],
            [parameter.requires_grad for parameter in model.parameters()],
            [parameter.grad for parameter in model.parameters()],
            model.language.config._attn_implementation,
        ]

    before, weights = state(), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    explain(model, processor, [question()], [noise()], ANSWER)
    assert state() == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert torch.is_grad_enabled()


def test_it_works_in_the_middle_of_inference_and_changes_no_answer() -> None:
    model, processor = tiny_assistant()

    def answer() -> str:
        return ChatSession(model=model, processor=processor, sampling=Sampling(max_new_tokens=8)).ask(
            "What?", [noise()]
        )

    before = answer()
    outside = explain(model, processor, [question()], [noise()], ANSWER)
    with torch.inference_mode():
        inside = explain(model, processor, [question()], [noise()], ANSWER)
    assert np.array_equal(outside[0].grid, inside[0].grid)
    assert answer() == before


def test_a_model_in_bfloat16_is_explained_too() -> None:
    model, processor = tiny_assistant()
    (plain,) = explain(model, processor, [question()], [noise()], ANSWER, method=either_way)
    (half,) = explain(model.bfloat16(), processor, [question()], [noise()], ANSWER, method=either_way)
    assert np.corrcoef(plain.grid.flat, half.grid.flat)[0, 1] > 0.9


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words", "pictures", "message"),
    [
        (ANSWER, None, 0, "no picture"),
        ("", None, 1, "none of the answer's 0"),
        (ANSWER, slice(7, 9), 1, "none of the answer's 5"),
        ("word " * 2000, None, 1, "the language model has 1024"),
    ],
)
def test_what_cannot_be_explained_is_refused(answer: str, words: slice | None, pictures: int, message: str) -> None:
    model, processor = tiny_assistant()
    with pytest.raises(ConfigError, match=message):
        explain(model, processor, [question(pictures=pictures)], [noise()] * pictures, answer, words=words)


def test_an_answer_that_is_no_text_is_refused() -> None:
    model, processor = tiny_assistant()
    with pytest.raises(DataError, match=r"U\+DCFF"):
        explain(model, processor, [question()], [noise()], "a \udcff b")
