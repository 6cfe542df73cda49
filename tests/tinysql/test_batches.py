"""Batches: every row once an epoch, padding little, order a function of the seed."""

import numpy as np
import pytest
import torch

from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from tinysql.tokens import Tokenizer
from tinysql.training.batches import BatchOrder, TrainingRows

LENGTHS = np.random.default_rng(0).integers(20, 120, size=1003)


def test_an_epoch_holds_every_row_at_most_once_and_leaves_out_less_than_a_batch() -> None:
    order = BatchOrder(LENGTHS, batch_size=16, seed=0)
    rows = np.concatenate([order.rows(step) for step in range(order.per_epoch)])
    assert len(set(rows.tolist())) == len(rows) == 1003 - 1003 % 16


def test_batches_follow_seed_and_step_alone() -> None:
    first, again, other = (BatchOrder(LENGTHS, batch_size=16, seed=seed) for seed in (1, 1, 2))
    steps = [0, 61, 62, 130]
    forward = [first.rows(step).tolist() for step in steps]
    backward = [again.rows(step).tolist() for step in reversed(steps)][::-1]
    assert forward == backward
    assert forward != [other.rows(step).tolist() for step in steps]
    assert first.rows(0).tolist() != first.rows(first.per_epoch).tolist()


def test_rows_of_like_length_share_a_batch() -> None:
    order = BatchOrder(LENGTHS, batch_size=16, seed=0)
    batches = [LENGTHS[order.rows(step)] for step in range(order.per_epoch)]
    padded, real = sum(len(b) * b.max() for b in batches), sum(b.sum() for b in batches)
    assert padded < 1.06 * real


def test_rows_come_back_as_they_were_encoded() -> None:
    examples = [make_example(DataConfig(lexicon="demo"), i) for i in range(40)]
    tokenizer = Tokenizer.train((e.text.string for e in examples), vocab_size=500)
    rows = TrainingRows.encode(
        [(e.prompt.string, e.sql.string) for e in examples], tokenizer, n_ctx=400, chunk=7
    )
    tokens, batch = tokenizer.encode(examples), rows.batch(range(40))
    assert batch.ids.tolist() == tokens.ids.tolist()
    assert batch.tokens == tokens.mask.sum()
    width = batch.ids.shape[1]
    scored = [
        row * width + place - 1
        for row, start in enumerate(tokens.answer_start.tolist())
        for place in range(start, int(tokens.mask[row].sum()))
    ]
    assert batch.places.tolist() == scored
    assert batch.targets.tolist() == tokens.ids.flatten()[torch.tensor(scored) + 1].tolist()
    assert batch.weights.sum().item() == pytest.approx(1)


def test_rows_beyond_the_context_are_refused_by_their_number_and_the_longest() -> None:
    tokenizer = Tokenizer.train(["a b"], vocab_size=300)
    with pytest.raises(
        InputError, match="1 of 2 training rows do not fit: .* 42 tokens and .* context is 10"
    ):
        TrainingRows.encode([("a", "b"), ("a" * 40, "b")], tokenizer, n_ctx=10)


def test_fewer_rows_than_a_batch_are_refused() -> None:
    with pytest.raises(InputError, match="3 training rows are fewer than one batch of 16"):
        BatchOrder(np.array([1, 2, 3]), batch_size=16, seed=0)
