"""Pairs in batches of like length: little padding, and results in the pairs' own order whoever asks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from circuits.circuit import Circuit
from circuits.engine.batching import by_length, parting
from circuits.engine.forward import metric_of, run_circuit
from circuits.graph import Graph
from circuits.metrics import logit_diff
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


@pytest.fixture
def model() -> HybridLM:
    return HybridLM(ModelConfig(pattern="*-", d_model=8, n_heads=2, d_vocab=9, n_ctx=12))


@pytest.fixture
def pairs(pairs_of) -> TokenPairs:
    """Six pairs; the first token of each is its number."""
    generator = torch.Generator().manual_seed(0)
    clean, corrupt = torch.randint(1, 9, (2, 6, 10), generator=generator)
    clean[:, 0] = torch.arange(6)
    answers = torch.tensor([[1], [2]]).expand(2, 6)
    return pairs_of(clean, corrupt, torch.tensor([9, 2, 5, 2, 7, 3]), *answers)


def test_shortest_first_and_pairs_of_one_length_in_their_order(model, pairs) -> None:
    """Where prompts part at the first token."""
    pairs = replace(pairs, corrupt=replace(pairs.corrupt, ids=pairs.clean.ids + 1))
    found = by_length(model, pairs, 2)
    assert [batch.position.tolist() for batch in found.batches] == [[2, 2], [3, 5], [7, 9]]
    assert torch.cat([batch.clean.ids[:, 0] for batch in found.batches]).tolist() == [1, 3, 5, 2, 4, 0]


def test_prompts_part_at_the_first_token_that_differs_and_no_later_than_the_metric_looks(pairs) -> None:
    ids = pairs.clean.ids.clone()
    ids[torch.arange(5), [0, 2, 4, 9, 3]] += 1  # the sixth pair is the same on both sides
    pairs = replace(pairs, corrupt=replace(pairs.corrupt, ids=ids))
    assert pairs.position.tolist() == [9, 2, 5, 2, 7, 3]
    assert parting(pairs).tolist() == [0, 2, 4, 2, 3, 3]
    several = replace(pairs, position=torch.stack([pairs.position, torch.tensor([1, 2, 3, 4, 5, 6])], dim=1))
    assert parting(several).tolist() == [0, 2, 3, 2, 3, 3]


def test_in_a_batch_prompts_that_part_early_stand_first(model, pairs) -> None:
    ids = pairs.clean.ids.clone()
    ids[torch.arange(6), [6, 2, 0, 1, 0, 3]] += 1
    pairs = replace(pairs, corrupt=replace(pairs.corrupt, ids=ids))
    found = by_length(model, pairs, 3)
    assert [batch.clean.ids[:, 0].tolist() for batch in found.batches] == [[3, 1, 5], [2, 4, 0]]
    assert found.order.tolist() == [3, 1, 5, 2, 4, 0]


def test_everything_of_a_pair_moves_with_it(model, pairs) -> None:
    for batch in by_length(model, pairs, 4).batches:
        for row, number in enumerate(batch.clean.ids[:, 0].tolist()):
            own = pairs[number : number + 1]
            for side, of_own in ((batch.clean, own.clean), (batch.corrupt, own.corrupt)):
                assert torch.equal(side.ids[row], of_own.ids[0])
                assert torch.equal(side.mask[row], of_own.mask[0])
                assert side.roles[row] == of_own.roles[0]
                assert side.answer_start[row] == of_own.answer_start[0]
            assert batch.position[row] == own.position[0]


def test_results_go_back_into_the_order_of_the_pairs(model, pairs) -> None:
    found = by_length(model, pairs, 4)
    numbers = [batch.clean.ids[:, 0] for batch in found.batches]
    assert found.restored(numbers).tolist() == list(range(6))
    assert found.restored([one.expand(3, -1) for one in numbers], dim=1).tolist() == [list(range(6))] * 3


def test_the_last_of_several_positions_counts(model, pairs) -> None:
    several = torch.tensor([[1, 8], [2, 3], [5, 6]])
    pairs = replace(pairs[:3], position=several, clean_answer=several, corrupt_answer=several)
    assert by_length(model, pairs, None).order.tolist() == [1, 2, 0]


def test_a_circuit_answers_each_pair_as_if_alone(model, pairs) -> None:
    graph = Graph.of(model)
    circuit = Circuit(graph, graph.edges)
    alone = torch.cat([run_circuit(model, circuit, pairs[row : row + 1]) for row in range(6)])
    torch.testing.assert_close(run_circuit(model, circuit, pairs), alone)
    values = metric_of(model, [circuit], pairs, logit_diff, batch_size=2)[0]
    torch.testing.assert_close(values, alone[:, 1] - alone[:, 2])


def test_no_pairs(model, pairs) -> None:
    with pytest.raises(InputError, match="there are no pairs"):
        by_length(model, pairs[:0], None)
