"""What is remembered of conversations: never a position behind another picture, never more than allowed."""

from __future__ import annotations

import pytest
import torch

from sightline.infer.lanes import Prompt, prefill_new
from sightline.infer.memory import Memory
from sightline.model.vlm import VisionLanguageModel
from sightline.serve.shelf import Shelf, picture_keys
from tests.fakes import IMAGE_TOKEN, PATCHES, tiny_model, tiny_pixels

PICTURE = [IMAGE_TOKEN] * PATCHES
IDS = [1, 5, *PICTURE, 7, 8, *PICTURE, 9]
FIRST, SECOND, THIRD = (picture_keys(tiny_pixels(1, seed=seed))[0] for seed in (1, 2, 3))


@torch.inference_mode()
def memory_of(model: VisionLanguageModel, ids: list[int], seeds: tuple[int, ...]) -> Memory:
    memory = Memory(image_tokens=PATCHES)
    pixels = torch.cat([tiny_pixels(0), *(tiny_pixels(1, seed=seed) for seed in seeds)])
    prefill_new(model, Prompt(ids=ids, pixels=pixels), memory)
    return memory


@pytest.fixture(scope="module")
def model() -> VisionLanguageModel:
    return tiny_model()


def shelf_of(model: VisionLanguageModel, capacity: int = 3) -> Shelf:
    return Shelf(model, image_tokens=PATCHES, capacity=capacity)


@pytest.mark.parametrize(
    ("pictures", "ids", "known"),
    [
        ((FIRST, SECOND), [*IDS, 4], len(IDS)),
        ((FIRST, SECOND), IDS, len(IDS) - 1),
        ((FIRST, SECOND), IDS[:30], 29),
        ((FIRST, THIRD), [*IDS, 4], IDS.index(8) + 1),
        ((THIRD, SECOND), [*IDS, 4], 2),
        ((FIRST, SECOND), [1, 6, *IDS[2:]], 1),
        ((), [1, 5, 6], 2),
        ((), [2, 5, 6], 0),
    ],
)
def test_as_much_is_known_as_ids_and_pictures_have_in_common(
    model: VisionLanguageModel, pictures: tuple[bytes, ...], ids: list[int], known: int
) -> None:
    shelf = shelf_of(model)
    kept = memory_of(model, IDS, (1, 2))
    shelf.put((FIRST, SECOND), kept)
    found = shelf.recall(pictures, ids)
    assert found.ids == ids[:known]
    assert (found.cache is None) is (known == 0)
    if known:
        assert found.cache.get_seq_length() == known
        ours, theirs = found.cache.layers[0].keys, kept.cache.layers[0].keys
        torch.testing.assert_close(ours, theirs[:, :, :known], rtol=0, atol=0)
        ours.zero_()
        assert theirs.any(), "a copy: what one request does is nobody else's matter"


def test_the_memory_that_served_nobody_for_longest_goes_first(model: VisionLanguageModel) -> None:
    shelf = shelf_of(model, capacity=2)
    talks = [[1, 10 + number, 20, 30] for number in range(3)]
    shelf.put((), memory_of(model, talks[0], ()))
    shelf.put((), memory_of(model, talks[1], ()))
    assert shelf.recall((), [*talks[0], 4]).ids == talks[0]
    shelf.put((), memory_of(model, talks[2], ()))
    assert [len(shelf.recall((), [*talk, 4]).ids) for talk in talks] == [4, 1, 4]


def test_a_memory_takes_the_place_of_the_one_that_it_continues(model: VisionLanguageModel) -> None:
    shelf = shelf_of(model)
    shelf.put((FIRST,), memory_of(model, IDS[:20], (1,)))
    shelf.put((FIRST, SECOND), memory_of(model, IDS, (1, 2)))
    assert len(shelf) == 1
    shelf.put((THIRD,), memory_of(model, IDS[:20], (3,)))
    assert len(shelf) == 2


def test_features_are_found_by_the_picture_and_forgotten_with_its_memory(model: VisionLanguageModel) -> None:
    shelf = shelf_of(model, capacity=1)
    kept = memory_of(model, IDS, (1, 2))
    shelf.put((FIRST, SECOND), kept)
    assert kept.features is not None
    second = shelf.feature(SECOND)
    assert second is not None
    torch.testing.assert_close(second, kept.features[1], rtol=0, atol=0)
    assert shelf.feature(THIRD) is None
    shelf.put((), memory_of(model, [1, 2, 3], ()))
    assert shelf.feature(SECOND) is None


def test_a_shelf_without_room_keeps_nothing(model: VisionLanguageModel) -> None:
    shelf = shelf_of(model, capacity=0)
    shelf.put((), memory_of(model, [1, 2, 3], ()))
    assert len(shelf) == 0
    assert shelf.recall((), [1, 2, 3]).cache is None


def test_pictures_are_told_apart_by_what_the_encoder_sees() -> None:
    """Equal bytes in another shape would be another tensor: all have one shape, and a picture differs in its values."""
    pixels = torch.zeros(2, 3, 32, 32)
    pixels[1, 0, 0, 0] = 1e-6
    assert len(set(picture_keys(pixels))) == 2
    assert picture_keys(pixels[:1]) == picture_keys(pixels.clone()[:1])
