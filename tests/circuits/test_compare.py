"""Overlap of circuits against chance, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from circuits.circuit import Circuit
from circuits.graph import Graph
from circuits.judging.compare import chance_jaccard, compare, compare_all
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM


def graph_of(pattern: str) -> Graph:
    """`embed -> q, k, v, logits` and `head -> logits` for `*`: five edges."""
    return Graph.of(
        HybridLM(ModelConfig(pattern=pattern, d_model=8, n_heads=1, d_head=4, d_vocab=5, n_ctx=8))
    )


GRAPH = graph_of("*")


def circuit(*places: int) -> Circuit:
    return Circuit(GRAPH, tuple(GRAPH.edges[place] for place in places))


def test_two_circuits_of_two_edges_among_five() -> None:
    # By chance 0, 1 or 2 shared edges with probabilities 3/10, 6/10 and 1/10.
    found = compare(circuit(0, 1), circuit(1, 2))
    assert (found.shared, found.jaccard, found.overlap) == (1, pytest.approx(1 / 3), 0.5)
    assert found.chance_shared == pytest.approx(0.8)
    assert found.chance_jaccard == pytest.approx(0.6 / 3 + 0.1)
    assert found.p == pytest.approx(0.7)
    assert found.only_first == (str(GRAPH.edges[0]),)
    assert found.only_second == (str(GRAPH.edges[2]),)
    assert compare(circuit(0, 1), circuit(0, 1)).p == pytest.approx(0.1)


def test_chance_is_what_random_sets_share() -> None:
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        a, b = (set(rng.choice(30, size, replace=False)) for size in (8, 12))
        drawn.append(len(a & b) / len(a | b))
    assert chance_jaccard(8, 12, 30) == pytest.approx(np.mean(drawn), abs=5 * np.std(drawn) / 2000**0.5)


def test_a_circuit_in_another_overlaps_wholly_and_empty_ones_divide_by_nothing() -> None:
    inside = compare(circuit(1), circuit(0, 1, 2))
    assert (inside.overlap, inside.jaccard) == (1.0, pytest.approx(1 / 3))
    assert (compare(circuit(), circuit()).jaccard, compare(circuit(), circuit(1)).jaccard) == (1.0, 0.0)


def test_everything_shares_as_much_as_chance() -> None:
    whole = compare(circuit(0, 1, 2, 3, 4), circuit(2, 3))
    assert whole.chance_shared == whole.shared == 2
    assert whole.p == pytest.approx(1)


def test_the_matrix_holds_the_pairs_and_is_symmetric() -> None:
    circuits = {"a": circuit(0, 1), "b": circuit(1, 2), "c": circuit(1, 3, 4)}
    found = compare_all(circuits)
    assert found.names == ("a", "b", "c")
    assert found.jaccard[0][1] == compare(circuits["a"], circuits["b"]).jaccard
    for name in ("jaccard", "overlap", "chance_jaccard", "p"):
        matrix = np.array(getattr(found, name))
        assert np.allclose(matrix, matrix.T)
    assert np.allclose(np.diag(found.jaccard), 1)
    assert found.shared_by_all == (str(GRAPH.edges[1]),)
    json.dumps(found.to_json(), allow_nan=False)


def test_circuits_of_different_models_are_refused() -> None:
    other = graph_of("**")
    with pytest.raises(InputError, match="circuit `second` belongs to a model of pattern '[*][*]'"):
        compare(circuit(0), Circuit(other, other.edges[:1]))
    with pytest.raises(InputError, match="no circuit to compare"):
        compare_all({})


def test_sizes_stand_by_their_circuits_and_the_text_holds_them_all() -> None:
    found = compare_all({"a": circuit(0, 1), "long": circuit(1, 2, 3)})
    assert (found.sizes, found.n_edges_model) == ((2, 3), 5)
    assert str(found).splitlines() == [
        "Jaccard index of 2 circuits; edges, then each with each",
        "a         2  1.00 0.25",
        "long      3  0.25 1.00",
        "1 edges are in all",
    ]
    pair = compare(circuit(0, 1), circuit(1, 2, 3))
    assert (pair.n_first, pair.n_second, pair.n_edges_model) == (2, 3, 5)
    assert str(pair).splitlines()[0] == "2 and 3 of 5 edges, 1 shared (1.2 by chance, p = 0.9)"


def test_an_empty_circuit_lies_in_every_other() -> None:
    assert (compare(circuit(), circuit(1)).overlap, compare(circuit(1), circuit()).overlap) == (1, 1)


def test_a_probability_is_never_above_one() -> None:
    """The probabilities of all counts add up to one but for their last digits."""
    graph = graph_of("*-")
    ends = [Circuit(graph, graph.edges[:n]) for n in range(len(graph.edges) + 1)]
    starts = [Circuit(graph, graph.edges[n:]) for n in range(len(graph.edges) + 1)]
    assert max(compare(first, second).p for first in ends for second in starts) <= 1
