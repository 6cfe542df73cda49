"""Leaving edges out: the binomial by hand, and a wired circuit with a passenger."""

from __future__ import annotations

import numpy as np
import pytest

from circuits.circuit import Circuit
from circuits.graph import Edge, Graph
from circuits.judging.faithfulness import evaluate
from circuits.judging.minimality import LeaveOneOut, _binomial_below, minimality

EDGES = (Edge("embed", "blocks.0.attn.v.0"), Edge("embed", "logits"))
PASSENGER = (Edge("embed", "blocks.1.mlp"), Edge("blocks.1.mlp", "logits"))


def test_the_binomial_tail_by_hand() -> None:
    assert _binomial_below(2, 2) == pytest.approx(1)
    assert _binomial_below(1, 2) == pytest.approx(1 - 0.81)
    assert _binomial_below(0, 2) == pytest.approx(0.01)


def test_an_edge_is_needed_when_it_changes_more_than_random_edges() -> None:
    randoms = np.linspace(-0.01, 0.01, 41)
    found = minimality(EDGES, np.array([-0.5, 0.0]), randoms)
    assert found.share == 0.5
    assert found.redundant == ("embed -> logits",)
    assert found.changes == {"embed -> blocks.0.attn.v.0": -0.5, "embed -> logits": 0.0}
    assert found.quantile == pytest.approx(np.quantile(np.abs(randoms), 0.9))
    # No random edge is below a change of zero; corrected for two edges.
    assert found.p == pytest.approx(2 * 0.1**41, rel=1e-9, abs=0)


def test_one_edge_too_little_is_no_evidence() -> None:
    # An edge between the quantiles passes 36 of 40, which is what the null allows.
    found = minimality(EDGES[:1], np.array([0.0365]), np.arange(40) / 1000 + 0.0001)
    assert found.redundant == ()
    assert found.p > 0.5


def test_inflated_circuits_hold_the_circuit_and_a_whole_path(planted) -> None:
    graph = Graph.of(planted.model)
    circuit = Circuit(graph, tuple(planted.edges))
    left_out = LeaveOneOut(circuit, seed=0)
    assert len(left_out.inflated) == 50
    for inflated, deflated in zip(left_out.inflated, left_out.deflated, strict=True):
        (gone,) = set(inflated.edges) - set(deflated.edges)
        assert gone not in circuit.edges
        assert gone in inflated.connected().edges
        assert set(circuit.edges) < set(inflated.edges)


def test_planted_edges_are_needed_and_a_passenger_is_redundant(planted) -> None:
    graph = Graph.of(planted.model)
    report = evaluate(planted.model, Circuit(graph, (*planted.edges, *PASSENGER)), planted.pairs)
    assert set(report.minimality.redundant) == {str(edge) for edge in PASSENGER}
    assert report.minimality.share == len(planted.edges) / (len(planted.edges) + len(PASSENGER))
    assert report.minimality.p < 0.05
    assert all(report.minimality.changes[str(edge)] > 0.5 for edge in planted.edges)


def test_where_nothing_can_be_added_or_left_out_there_is_no_test(random_case) -> None:
    graph = Graph.of(random_case().model)
    assert not LeaveOneOut(Circuit(graph, graph.edges), seed=0).inflated
    assert not LeaveOneOut(Circuit(graph, ()), seed=0).circuits
