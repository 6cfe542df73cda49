"""Random circuits have the sizes they should have, in the layers they should have them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from circuits.circuit import Circuit
from circuits.graph import Graph
from circuits.judging.controls import RandomCircuits, RandomParts
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM


@pytest.fixture(scope="module")
def graph() -> Graph:
    config = ModelConfig(pattern="*-*-", d_model=8, n_heads=3, d_head=4, d_vocab=5, n_ctx=8)
    return Graph.of(HybridLM(config))


def by_blocks(circuit: Circuit) -> Counter[tuple[int, int]]:
    blocks = {one.name: one.block for one in circuit.graph.writers}
    into = {one.name: one.block for one in circuit.graph.readers}
    return Counter((blocks[edge.writer], into[edge.reader]) for edge in circuit.edges)


def test_layer_matched_circuits_have_as_many_edges_between_every_two_blocks(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    chosen = Circuit(graph, tuple(graph.edges[i] for i in rng.choice(len(graph.edges), 30, replace=False)))
    drawn = RandomCircuits.draw(graph, 5, seed=1).layer_matched(chosen)
    assert all(by_blocks(one) == by_blocks(chosen) for one in drawn)
    assert len({one.edges for one in (*drawn, chosen)}) == 6


def test_uniform_circuits_have_the_size_and_are_nested(graph: Graph) -> None:
    draws = RandomCircuits.draw(graph, 4, seed=1)
    for small, large in zip(draws.uniform(10), draws.uniform(25), strict=True):
        assert (len(small), len(large)) == (10, 25)
        assert set(small.edges) < set(large.edges)


def test_layer_matched_circuits_of_nested_circuits_are_nested(graph: Graph) -> None:
    draws = RandomCircuits.draw(graph, 4, seed=1)
    pairs = zip(
        draws.layer_matched(Circuit(graph, graph.edges[::5])),
        draws.layer_matched(Circuit(graph, (*graph.edges[::5], *graph.edges[1::7]))),
        strict=True,
    )
    assert all(set(small.edges) < set(large.edges) for small, large in pairs)


def test_every_edge_is_drawn_equally_often(graph: Graph) -> None:
    counts = np.zeros(len(graph.edges))
    for one in RandomCircuits.draw(graph, 600, seed=2).uniform(len(graph.edges) // 2):
        counts += one.mask[graph.mask]
    assert np.abs(counts / 600 - 0.5).max() < 5 * 0.5 / 600**0.5


def test_draws_depend_on_the_seed_alone(graph: Graph) -> None:
    first, again, other = (RandomCircuits.draw(graph, 2, seed).uniform(9)[0].edges for seed in (0, 0, 1))
    assert first == again != other


def test_no_random_circuit_is_refused(graph: Graph) -> None:
    with pytest.raises(InputError, match="random_circuits is 0"):
        RandomCircuits.draw(graph, 0, seed=0)


def test_the_edges_of_smallest_priority_are_taken_first() -> None:
    """Of one head: `embed` into q, k and v, straight to the logits, and the head's own edge to them."""
    small = Graph("*", n_heads=1)
    orders = RandomCircuits(small, np.array([[0.5, 0.3, 0.4, 0.9, 0.1], [0.1, 0.2, 0.3, 0.4, 0.5]]))

    def places(circuits: list[Circuit]) -> list[list[int]]:
        return [[small.edges.index(edge) for edge in one.edges] for one in circuits]

    assert places(orders.uniform(2)) == [[1, 4], [0, 1]]
    # Two of the three edges into the head's ports, and the one edge behind it.
    chosen = Circuit(small, (small.edges[0], small.edges[2], small.edges[4]))
    assert places(orders.layer_matched(chosen)) == [[1, 2, 4], [0, 1, 4]]


def test_sizes_that_no_circuit_has_and_circuits_of_another_graph_are_refused(graph: Graph) -> None:
    draws = RandomCircuits.draw(graph, 2, seed=0)
    total = len(graph.edges)
    assert [len(one) for size in (0, total) for one in draws.uniform(size)] == [0, 0, total, total]
    for size in (-1, total + 1):
        with pytest.raises(InputError, match=f"size is {size}, expected 0 to {total}"):
            draws.uniform(size)
    other = Graph("*-*-", n_heads=4)
    with pytest.raises(InputError, match=r"of pattern '.*' \(4 heads\), the random orders of one of"):
        draws.layer_matched(Circuit(other, other.edges[:3]))


def test_a_negative_seed_is_refused(graph: Graph) -> None:
    with pytest.raises(InputError, match="seed is -1, expected at least 0"):
        RandomCircuits.draw(graph, 2, seed=-1)


@pytest.fixture(scope="module")
def scored(graph: Graph) -> np.ndarray:
    """Two thirds of the role-aware edges of three roles."""
    return graph.mask & (np.random.default_rng(0).random((3, *graph.mask.shape)) < 2 / 3)


def parts_by_blocks(graph: Graph, mask: np.ndarray) -> Counter[tuple[int, int]]:
    _, writers, readers = np.nonzero(mask)
    return Counter(
        (graph.writers[writer].block, graph.readers[reader].block)
        for writer, reader in zip(writers.tolist(), readers.tolist(), strict=True)
    )


def test_layer_matched_role_aware_edges_are_as_many_between_every_two_blocks(
    graph: Graph, scored: np.ndarray
) -> None:
    chosen = scored & (np.random.default_rng(1).random(scored.shape) < 0.2)
    drawn = RandomParts.draw(graph, scored, 5, seed=1).layer_matched(chosen)
    assert all(parts_by_blocks(graph, one) == parts_by_blocks(graph, chosen) for one in drawn)
    assert not any((one & ~scored).any() for one in drawn)
    assert len({one.tobytes() for one in (*drawn, chosen)}) == 6


def test_edge_matched_role_aware_edges_are_the_same_edges_at_random_roles(
    graph: Graph, scored: np.ndarray
) -> None:
    larger = scored & (np.random.default_rng(1).random(scored.shape) < 0.4)
    chosen = larger & (np.random.default_rng(2).random(scored.shape) < 0.5)
    draws = RandomParts.draw(graph, scored, 5, seed=1)
    drawn, nested = draws.edge_matched(chosen), draws.edge_matched(larger)
    assert all((one.sum(0) == chosen.sum(0)).all() for one in drawn)
    assert not any((one & ~scored).any() for one in drawn)
    assert not any((small & ~large).any() for small, large in zip(drawn, nested, strict=True))
    assert len({one.tobytes() for one in (*drawn, chosen)}) == 6
    # Each role that an edge has a score at is drawn as often as another.
    often = np.mean(RandomParts.draw(graph, scored, 600, seed=3).edge_matched(chosen), axis=0)
    expected = np.where(scored, chosen.sum(0) / np.maximum(scored.sum(0), 1), 0)
    np.testing.assert_allclose(often, expected, atol=0.1)


def test_role_aware_edges_that_cannot_be_drawn_are_refused(graph: Graph, scored: np.ndarray) -> None:
    draws = RandomParts.draw(graph, scored, 1, seed=0)
    for matched in (draws.layer_matched, draws.edge_matched):
        with pytest.raises(InputError, match="role-aware edges have no score"):
            matched(np.ones_like(scored))
    with pytest.raises(InputError, match="random_circuits is 0"):
        RandomParts.draw(graph, scored, 0, seed=0)
