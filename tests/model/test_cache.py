"""The cache that grows in place: it holds what transformers' own would, and refuses what a layer cannot do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from sightline.model.cache import BLOCK, GrowingLayer, copy_row, cut, drop_first, join, new_cache, stackable
from tests.fakes import tiny_language


def states(length: int, *, rows: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values, [rows, 2, length, 4]."""
    noise = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, rows, 2, length, 4, generator=noise)
    return keys, values


def filled(config: Any, length: int, *, rows: int = 2, seed: int = 0) -> Any:
    cache = new_cache(config)
    for index in range(len(cache.layers)):
        cache.update(*states(length, rows=rows, seed=seed + index), index)
    return cache


def test_positions_are_appended_as_transformers_own_cache_does() -> None:
    config = tiny_language("llama").config
    ours, theirs = new_cache(config), DynamicCache(config=config)
    for seed, length in enumerate((5, 1, 1, 3, BLOCK, 1, 1)):
        for found, wanted in zip(
            ours.update(*states(length, seed=seed), 0), theirs.update(*states(length, seed=seed), 0), strict=True
        ):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        assert ours.get_seq_length() == theirs.get_seq_length()
        assert ours.get_mask_sizes(1, 0) == theirs.get_mask_sizes(1, 0)


def test_a_step_copies_nothing_but_its_own_positions() -> None:
    layer = GrowingLayer()
    layer.update(*states(7))
    layer.update(*states(1))
    place = layer.keys.data_ptr()
    for _ in range(BLOCK - 1):
        layer.update(*states(1))
        assert layer.keys.data_ptr() == place
    assert layer.get_seq_length() == 7 + BLOCK


def test_what_was_given_first_is_never_written_to() -> None:
    """It is the attention's own tensor."""
    keys, values = states(7)
    before = keys.clone()
    layer = GrowingLayer()
    layer.update(keys, values)
    layer.crop(-3)
    layer.update(*states(2, seed=1))
    torch.testing.assert_close(keys, before, rtol=0, atol=0)
    torch.testing.assert_close(layer.keys, torch.cat([before[:, :, :4], states(2, seed=1)[0]], dim=2), rtol=0, atol=0)


def test_rows_that_stay_move_to_the_front() -> None:
    layer = GrowingLayer()
    keys, _ = states(5, rows=4)
    layer.update(*states(5, rows=4))
    layer.update(*states(1, rows=4, seed=1))
    layer.batch_select_indices(torch.tensor([0, 3]))
    torch.testing.assert_close(layer.keys[:, :, :5], keys[[0, 3]], rtol=0, atol=0)
    layer.update(*states(1, rows=2, seed=2))
    assert layer.keys.shape == (2, 2, 7, 4)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("lengths", [(9, 4), (4, 9)])
def test_rows_of_another_cache_join_behind_zeros(family: str, lengths: tuple[int, int]) -> None:
    config = tiny_language(family, sliding_window=6).config
    first, second = filled(config, lengths[0], rows=1), filled(config, lengths[1], rows=2, seed=5)
    wanted = [
        (layer.keys.clone(), other.keys.clone()) for layer, other in zip(first.layers, second.layers, strict=True)
    ]
    join(first, [second])
    assert first.get_seq_length() == 9
    for layer, parts in zip(first.layers, wanted, strict=True):
        width = layer.keys.shape[2]
        for found, part in zip((layer.keys[:1], layer.keys[1:]), parts, strict=True):
            length = min(part.shape[2], width)
            torch.testing.assert_close(found[:, :, width - length :], part[:, :, -length:], rtol=0, atol=0)
            assert not found[:, :, : width - length].any()


def test_rows_join_and_leave_in_place() -> None:
    """Room that rows have left is used again, however many come and go."""
    config = tiny_language("llama").config
    cache = filled(config, 9, rows=2)
    join(cache, [filled(config, 5, rows=2, seed=1)])
    place = cache.layers[0].keys.untyped_storage().data_ptr()
    for seed in range(2, 12):
        cache.batch_select_indices(torch.tensor([0, 1, 3]))
        newcomer = filled(config, 6, rows=1, seed=seed)
        wanted = [layer.keys.clone() for layer in newcomer.layers]
        join(cache, [newcomer])
        for layer, keys in zip(cache.layers, wanted, strict=True):
            torch.testing.assert_close(layer.keys[3:, :, -6:], keys, rtol=0, atol=0)
            assert not layer.keys[3:, :, :-6].any(), "what another row has left must not be seen"
        assert cache.layers[0].keys.untyped_storage().data_ptr() == place
    assert cache.layers[0].keys.shape == (4, 2, 9, 4)


def test_positions_that_were_dropped_are_room_for_longer_rows() -> None:
    config = tiny_language("llama").config
    cache = filled(config, 9, rows=1)
    join(cache, [filled(config, 4, rows=1, seed=1)])
    kept = cache.layers[0].keys[:, :, 3:].clone()
    assert drop_first(cache, 3)
    place = cache.layers[0].keys.untyped_storage().data_ptr()
    cache.batch_select_indices(torch.tensor([0]))
    join(cache, [filled(config, 8, rows=1, seed=2)])
    assert cache.layers[0].keys.untyped_storage().data_ptr() == place
    torch.testing.assert_close(cache.layers[0].keys[:1, :, 2:], kept[:1], rtol=0, atol=0)
    assert not cache.layers[0].keys[:1, :, :2].any()


def test_a_row_is_copied_without_what_lies_around_it() -> None:
    config = tiny_language("llama").config
    cache = filled(config, 9, rows=3)
    wanted = cache.layers[1].values[1:2, :, 2:7].clone()
    copied = copy_row(cache, 1, start=2, end=7, config=config)
    assert copied is not None
    cache.layers[1].values.zero_()
    torch.testing.assert_close(copied.layers[1].values, wanted, rtol=0, atol=0)
    assert copied.get_seq_length() == 5
    assert (
        copy_row(filled(tiny_language("gemma2", sliding_window=6).config, 9), 0, start=0, end=9, config=config) is None
    )


def test_a_cache_is_cut_and_goes_on() -> None:
    config = tiny_language("llama").config
    cache = filled(config, 9)
    assert cut(cache, 9)
    assert cut(cache, 6)
    assert [layer.get_seq_length() for layer in cache.layers] == [6, 6]
    cache.update(*states(2, seed=9), 0)
    torch.testing.assert_close(cache.layers[0].keys, torch.cat([states(9)[0][:, :, :6], states(2, seed=9)[0]], dim=2))
    assert not cut(cache, 7), "the second layer has six"
    assert not cut(cache, 0)


def test_a_step_that_was_broken_off_between_layers_is_cut_away() -> None:
    config = tiny_language("llama").config
    cache = filled(config, 9)
    cache.update(*states(1, seed=3), 0)
    assert cut(cache, 9)
    assert [layer.get_seq_length() for layer in cache.layers] == [9, 9]


def test_a_full_sliding_window_cannot_go_back_and_nothing_is_changed() -> None:
    config = tiny_language("gemma2", sliding_window=6).config
    cache = filled(config, 9)
    assert cut(cache, 9)
    assert not cut(cache, 8)
    assert {layer.get_seq_length() for layer in cache.layers} == {9}
    young = filled(config, 5)
    assert cut(young, 3)
    assert {layer.get_seq_length() for layer in young.layers} == {3}


def test_leading_positions_are_dropped_where_every_layer_has_them_all() -> None:
    cache = filled(tiny_language("llama").config, 9)
    assert drop_first(cache, 4)
    torch.testing.assert_close(cache.layers[0].keys, states(9)[0][:, :, 4:], rtol=0, atol=0)
    cache.update(*states(1, seed=1), 0)
    assert cache.get_seq_length() == 6
    sliding = filled(tiny_language("gemma2", sliding_window=6).config, 9)
    assert not drop_first(sliding, 4)
    assert sliding.get_seq_length() == 9


@pytest.mark.parametrize("kind", ["linear_attention", "hybrid"])
def test_a_state_that_is_not_keys_and_values_alone_is_neither_stacked_nor_cut(kind: str) -> None:
    config = tiny_language("llama").config
    config.layer_types = ["full_attention", kind]
    assert not stackable(config)
    assert not cut(new_cache(config), 1)
    assert stackable(tiny_language("gemma2").config)
