"""Leaving edges out: the binomial by hand, and a wired circuit with a passenger."""

from __future__ import annotations

import numpy as np
import pytest

from circuits.circuit import Circuit
from circuits.engine.forward import metric_of
from circuits.graph import Edge, Graph
from circuits.judging.faithfulness import evaluate
from circuits.judging.minimality import (
    MOST_PAIRS,
    MOST_TESTED,
    RANDOM_EDGES,
    LeaveOneOut,
    _binomial_below,
    minimality,
)
from circuits.metrics import logit_diff

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


def test_a_corrected_probability_is_no_more_than_one_and_decides_who_is_redundant() -> None:
    """An edge that passes 41 of 50 random ones has p = .0245 + ...: low for one edge, not for three."""
    randoms = np.arange(1, 51) / 100
    alone = minimality(EDGES[:1], np.array([0.405]), randoms)
    assert alone.p == pytest.approx(_binomial_below(40, 50))
    assert 0.05 / 3 < alone.p < 0.05
    assert alone.redundant == ("embed -> blocks.0.attn.v.0",)
    three = minimality((*EDGES, PASSENGER[0]), np.array([0.405, 1.0, 1.0]), randoms)
    assert three.p == pytest.approx(3 * alone.p)
    assert three.redundant == ()
    assert minimality(EDGES, np.array([1.0, 1.0]), randoms).p == 1
    assert (three.tested, three.random_edges) == (3, 50)


def test_an_edge_has_to_change_more_than_the_quantile() -> None:
    assert minimality(EDGES, np.array([0.5, 0.6]), np.full(9, 0.5)).share == 1 / 2


def test_changes_are_those_of_faithfulness_on_the_first_pairs(random_case) -> None:
    """Over the metric's span on all pairs, so that they are in the units of the report."""
    case = random_case(n=MOST_PAIRS + 4)
    graph = Graph.of(case.model)
    circuit = Circuit(graph, graph.edges[::2])
    report = evaluate(case.model, circuit, case.pairs, random_circuits=1)
    tested = circuit.connected().edges
    without = [Circuit(graph, tuple(other for other in circuit.edges if other != edge)) for edge in tested]
    first = metric_of(case.model, [circuit, *without], case.pairs[:MOST_PAIRS], logit_diff).double().mean(1)
    changes = (first[0] - first[1:]) / (report.metric_clean - report.metric_corrupt)
    assert list(report.minimality.changes) == [str(edge) for edge in tested]
    assert list(report.minimality.changes.values()) == pytest.approx(changes.tolist(), rel=1e-4, abs=1e-6)
    assert report.minimality.tested == len(tested) < len(circuit), "edges that are not live change nothing"


def test_of_very_many_edges_a_random_hundred_is_tested() -> None:
    graph = Graph("*-*-", n_heads=4)
    circuit = Circuit(graph, graph.edges[1:])
    plans = [LeaveOneOut(circuit, seed) for seed in (0, 0, 1)]
    for plan in plans:
        places = [graph.edges.index(edge) for edge in plan.tested]
        assert len(set(places)) == MOST_TESTED
        assert places == sorted(places)
        assert [set(circuit.edges) - set(one.edges) for one in plan.without] == [
            {edge} for edge in plan.tested
        ]
    assert plans[0].tested == plans[1].tested != plans[2].tested


def test_the_random_edge_is_any_edge_of_the_path_that_the_circuit_has_not() -> None:
    graph = Graph("*-*-", n_heads=3)
    plan = LeaveOneOut(Circuit(graph, (Edge("embed", "logits"),)), seed=0)
    gone = [
        (set(one.edges) - set(other.edges)).pop()
        for one, other in zip(plan.inflated, plan.deflated, strict=True)
    ]
    assert len(gone) == RANDOM_EDGES
    first = [edge.writer == "embed" for edge in gone]
    last = [edge.reader == "logits" for edge in gone]
    assert 5 < sum(first) < 45
    assert 5 < sum(last) < 45
    other = LeaveOneOut(Circuit(graph, (Edge("embed", "logits"),)), seed=1)
    assert [one.edges for one in other.inflated] != [one.edges for one in plan.inflated]
