"""The language part's batches and rates: what is learnt, what shares a position, when the rate falls."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from sightline.demo.corpus import BOS, Piece, dialogue
from sightline.demo.pretrain_language import (
    Cycle,
    Row,
    answer_loss,
    collate,
    language_config,
    rate,
    tokenize,
    train_tokenizer,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(documents=300)


def words(tokenizer: PreTrainedTokenizerFast, row: Row) -> list[str]:
    return [tokenizer.decode([token]) for token in row.ids]


def test_answers_and_their_ends_are_labelled_and_nothing_else(tokenizer: PreTrainedTokenizerFast) -> None:
    row = tokenize(dialogue([Piece(text=" c2 redstar")], [("Red?", "yes")]), tokenizer)
    labelled = [label for label in row.labels if label != -100]
    assert tokenizer.decode(labelled) == "yes<|end|>"
    assert words(tokenizer, row)[:4] == [BOS, "<|user|>", " c2", " redstar"]
    assert set(row.partners) == {()}


def test_the_words_of_a_cell_can_share_a_position(tokenizer: PreTrainedTokenizerFast) -> None:
    cells = [Piece(text=text, shared=True) for text in (" c2 redstar", " d2 .", " e2 red ring large")]
    row = tokenize([Piece(text=BOS, special=True), *cells], tokenizer)
    assert words(tokenizer, row) == [BOS, " redstar", " .", " large"]
    partners = [[tokenizer.decode([partner]) for partner in others] for others in row.partners]
    assert partners == [[], [" c2"], [" d2"], [" e2", " red", " ring"]]


def test_a_shared_position_adds_the_embeddings_and_any_other_is_left_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(language_config(tokenizer)).eval()
    labels = torch.tensor([[-100, -100, 7, 8]])
    ids, none = torch.tensor([[1, 5, 6, 7]]), torch.full((1, 4, 2), -1)
    plain = model(input_ids=ids, labels=labels).loss
    assert answer_loss(model, ids, labels, none)[0].item() == pytest.approx(plain.item(), abs=1e-6)
    pair = torch.tensor([[[-1, -1], [9, 4], [-1, 9], [-1, -1]]])
    table = model.get_input_embeddings().weight
    embedded = table[ids] + torch.stack([0 * table[0], table[9] + table[4], table[9], 0 * table[0]])
    both = model(inputs_embeds=embedded, labels=labels).loss
    assert answer_loss(model, ids, labels, pair)[0].item() == pytest.approx(both.item(), abs=1e-6)
    assert both.item() != pytest.approx(plain.item(), abs=1e-4)


def test_rows_are_padded_where_nothing_is_learnt() -> None:
    ids, labels, partners = collate([Row([1, 2], [-100, 2], [(), (5, 6)]), Row([3], [3], [(4,)])], pad=0)
    assert ids.tolist() == [[1, 2], [3, 0]]
    assert labels.tolist() == [[-100, 2], [3, -100]]
    assert partners.tolist() == [[[-1, -1], [5, 6]], [[4, -1], [-1, -1]]]


@pytest.mark.parametrize(
    ("cycle", "step", "expected"),
    [
        (Cycle(steps=1000, lr=1.0), 1, 1 / 200),
        (Cycle(steps=1000, lr=1.0), 1000, 1.0),
        (Cycle(steps=1000, lr=2.0, cooling=400), 600, 2.0),
        (Cycle(steps=1000, lr=2.0, cooling=400), 801, 1.0),
        (Cycle(steps=1000, lr=2.0, cooling=400), 1000, 2.0 / 400),
        (Cycle(steps=800, lr=1.0, cooling=400, horizon=1000), 800, 201 / 400),
    ],
)
def test_the_rate_warms_up_stays_and_falls_in_a_straight_line(cycle: Cycle, step: int, expected: float) -> None:
    assert rate(step, cycle=cycle) == pytest.approx(expected)
