"""Reports: numbers that can be computed by hand, and controls."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from circuits.circuit import Circuit
from circuits.engine.forward import metric_of
from circuits.graph import Graph
from circuits.judging.bootstrap import interval
from circuits.judging.controls import RandomCircuits
from circuits.judging.faithfulness import evaluate, sufficiency
from circuits.judging.ratios import Ratios
from circuits.metrics import answer_log_prob, logit_diff
from data_gen.errors import InputError


def test_metrics_are_what_their_names_say(random_case) -> None:
    pairs = random_case(n=2).pairs
    pairs = dataclasses.replace(pairs, clean_answer=torch.tensor([0, 2]), corrupt_answer=torch.tensor([1, 0]))
    logits = torch.tensor([[3.0, 1.0, 0.0], [1.0, 0.0, 0.5]])
    assert logit_diff(logits, pairs).tolist() == [2.0, -0.5]
    expected = [3 - np.log(np.exp([3, 1, 0]).sum()), 0.5 - np.log(np.exp([1, 0, 0.5]).sum())]
    assert answer_log_prob(logits, pairs).tolist() == pytest.approx(expected)


def test_the_whole_graph_is_faithful_and_leaves_nothing_outside(random_case) -> None:
    case = random_case(n=12)
    graph = Graph.of(case.model)
    report = evaluate(case.model, Circuit(graph, graph.edges), case.pairs, random_circuits=2)
    assert report.faithfulness.value == pytest.approx(1)
    assert report.completeness.value == pytest.approx(0)
    # A random circuit of all edges is the whole graph again.
    assert report.random.mean == pytest.approx(1)


def test_faithfulness_is_a_ratio_of_means_over_pairs(random_case) -> None:
    case = random_case(n=12)
    graph = Graph.of(case.model)
    circuit = Circuit(graph, graph.edges[::2])
    clean, corrupt, alone = metric_of(
        case.model, [Circuit(graph, graph.edges), Circuit(graph, ()), circuit], case.pairs, logit_diff
    ).mean(1)
    report = evaluate(case.model, circuit, case.pairs, random_circuits=3)
    assert report.faithfulness.value == pytest.approx(float((alone - corrupt) / (clean - corrupt)), rel=1e-5)
    assert report.faithfulness.low < report.faithfulness.value < report.faithfulness.high
    assert 0 < report.faithfulness.value < 1


def test_reports_are_reproducible_and_depend_on_the_seed(random_case) -> None:
    case = random_case(n=12)
    graph = Graph.of(case.model)
    circuit = Circuit(graph, graph.edges[:30])
    first, again, other = (
        evaluate(case.model, circuit, case.pairs, random_circuits=4, seed=s) for s in (0, 0, 1)
    )
    assert first == again
    assert first.random != other.random
    json.dumps(first.to_json(), allow_nan=False)


def test_a_model_that_does_not_tell_the_sides_apart_is_refused(random_case) -> None:
    case = random_case()
    same = dataclasses.replace(case.pairs, corrupt=case.pairs.clean)
    graph = Graph.of(case.model)
    with pytest.raises(InputError, match="does not tell clean from corrupt"):
        evaluate(case.model, Circuit(graph, graph.edges), same)
    # A difference that is noise over the pairs is no difference either.
    with torch.no_grad():
        swapped = dataclasses.replace(
            case.pairs, clean_answer=torch.full((5,), 1), corrupt_answer=torch.full((5,), 1)
        )
    with pytest.raises(InputError, match="does not tell clean from corrupt"):
        evaluate(case.model, Circuit(graph, graph.edges), swapped)


def test_a_bootstrap_interval_has_the_width_of_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    low, high = interval(values, seed=1)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_a_circuit_that_restores_half_of_every_pair_has_no_interval() -> None:
    # Numerator and denominator vary together, so resampling pairs moves neither the ratio nor its ends.
    clean, corrupt = np.array([3.0, 5.0, 9.0, 4.0]), np.array([1.0, -2.0, 0.0, 1.0])
    estimate = Ratios(clean, corrupt, seed=0, edit="schema.table").estimate(corrupt + 0.5 * (clean - corrupt))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_interval_is_as_wide_as_the_standard_error_says() -> None:
    rng = np.random.default_rng(0)
    corrupt, clean = np.zeros(400), np.full(400, 2.0)
    restored = rng.normal(1.0, 0.5, 400)
    estimate = Ratios(clean, corrupt, seed=0, edit="schema.table").estimate(restored)
    # A constant denominator of 2: the ratio's standard error is that of the mean, halved.
    expected = 2 * 1.96 * restored.std(ddof=1) / 400**0.5 / 2
    assert estimate.high - estimate.low == pytest.approx(expected, rel=0.15)


def test_sufficiency_is_the_share_of_random_circuits_further_from_the_model() -> None:
    # |1 - f| of the circuit is .1; of the random ones .1, .2, .05 and 1.
    found = sufficiency(1.1, np.array([0.9, 1.2, 0.95, 0.0]))
    assert found.share == pytest.approx(0.5)
    assert found.p == pytest.approx(3 / 5)


@pytest.mark.parametrize("planted", ["copy-attention-place"], indirect=True)
def test_a_planted_circuit_beats_every_layer_matched_one(planted) -> None:
    graph = Graph.of(planted.model)
    report = evaluate(planted.model, Circuit(graph, tuple(planted.edges)), planted.pairs)
    assert report.sufficiency.share == 1.0
    assert report.sufficiency.p == pytest.approx(1 / 21)
    assert report.matched.high < report.faithfulness.low
    json.dumps(report.to_json(), allow_nan=False)


def test_an_empty_circuit_is_the_corrupt_run_and_has_nothing_to_leave_out(random_case) -> None:
    case = random_case(n=12)
    report = evaluate(case.model, Circuit(Graph.of(case.model), ()), case.pairs, random_circuits=2)
    assert (report.faithfulness.value, report.random.mean, report.matched.mean) == (0, 0, 0)
    assert report.minimality is None
    assert report.sufficiency.share == 0


def test_where_no_edge_outside_reaches_the_logits_none_is_live_there(random_case) -> None:
    case = random_case()
    graph = Graph.of(case.model)
    circuit = Circuit(graph, tuple(edge for edge in graph.edges if edge.reader == "logits"))
    report = evaluate(case.model, circuit, case.pairs, random_circuits=2, minimality=False)
    assert (report.n_edges, report.n_live_outside, report.completeness.value) == (len(graph.writers), 0, 0)
    assert report.n_live_edges == 1, "of writers that hear nothing, the embedding alone says something"


def test_a_circuit_of_another_model_is_refused(random_case) -> None:
    case, other = random_case(), random_case("*-")
    graph = Graph.of(other.model)
    with pytest.raises(InputError, match="belongs to a model of pattern"):
        evaluate(case.model, Circuit(graph, graph.edges), case.pairs)


def test_a_metric_that_is_not_a_number_is_refused(random_case) -> None:
    case = random_case(n=4)
    graph = Graph.of(case.model)
    with pytest.raises(InputError, match="values of the metric are not finite"):
        evaluate(
            case.model,
            Circuit(graph, graph.edges),
            case.pairs,
            metric=lambda logits, pairs: logits[:, 0] * float("nan"),
        )


def test_a_report_holds_what_each_run_measured_and_one_minus_f_of_random_circuits(random_case) -> None:
    """Every number again, from the circuits run one by one."""
    case = random_case(n=12)
    graph = Graph.of(case.model)
    circuit = Circuit(graph, graph.edges[::2])
    draws = RandomCircuits.draw(graph, 7, seed=3)
    played = [Circuit(graph, graph.edges), Circuit(graph, ()), circuit, circuit.complement()]
    played += [*draws.uniform(len(circuit)), *draws.layer_matched(circuit)]
    means = metric_of(case.model, played, case.pairs, logit_diff).double().mean(1).numpy()
    f = (means - means[1]) / (means[0] - means[1])
    report = evaluate(case.model, circuit, case.pairs, random_circuits=7, minimality=False, seed=3)
    found = (report.metric_clean, report.metric_corrupt, report.metric_circuit, report.metric_complement)
    assert found == pytest.approx(means[:4], rel=1e-5)
    assert (report.faithfulness.value, report.completeness.value) == pytest.approx(f[2:4], rel=1e-5)
    assert (report.random.mean, report.matched.mean) == pytest.approx(
        (f[4:11].mean(), f[11:].mean()), rel=1e-5
    )
    assert report.sufficiency.share == (np.abs(1 - f[11:]) > np.abs(1 - f[2])).mean()
    assert report.sufficiency.share != (np.abs(1 - f[4:11]) > np.abs(1 - f[2])).mean()
    assert (report.metric, report.random_circuits, report.seed) == ("logit_diff", 7, 3)


def test_a_metric_that_falls_where_another_rises_gives_the_same_report(random_case) -> None:
    """Faithfulness, and what an edge changes, are shares of the way from corrupt to clean, up or down."""
    case = random_case(n=12)
    graph = Graph.of(case.model)
    circuit = Circuit(graph, graph.edges[::2])
    rises, falls = (
        evaluate(case.model, circuit, case.pairs, metric=metric, random_circuits=2)
        for metric in (logit_diff, lambda logits, pairs: -3 * logit_diff(logits, pairs))
    )
    assert falls.metric_clean == pytest.approx(-3 * rises.metric_clean)
    for name in ("faithfulness", "completeness", "random", "matched"):
        assert dataclasses.astuple(getattr(falls, name)) == pytest.approx(
            dataclasses.astuple(getattr(rises, name)), rel=1e-5, abs=1e-6
        )
    assert falls.minimality.changes == pytest.approx(rises.minimality.changes, rel=1e-4, abs=1e-6)
    assert falls.minimality.quantile == pytest.approx(rises.minimality.quantile, rel=1e-4)


def test_the_seed_draws_the_bootstrap_and_the_random_edges_too(random_case) -> None:
    case = random_case(n=12)
    graph = Graph.of(case.model)
    first, other = (
        evaluate(case.model, Circuit(graph, graph.edges[::2]), case.pairs, random_circuits=2, seed=seed)
        for seed in (0, 1)
    )
    assert first.faithfulness.value == other.faithfulness.value
    assert first.faithfulness.low != other.faithfulness.low
    assert first.minimality.quantile != other.minimality.quantile


def test_a_report_reads_as_its_numbers_say(random_case) -> None:
    case = random_case(n=12)
    graph = Graph.of(case.model)
    report = evaluate(case.model, Circuit(graph, graph.edges[::2]), case.pairs, random_circuits=2)
    needed = report.minimality
    lines = str(report).splitlines()
    assert lines == [
        f"schema.table: {report.n_edges} of 75 edges ({report.n_live_edges} live, {report.n_live_outside} live"
        " outside) on 12 pairs",
        f"  the circuit alone      {report.faithfulness}",
        f"  everything outside it  {report.completeness}",
        f"  2 random circuits      {report.random}",
        f"  2 layer-matched ones   {report.matched}; less faithful than the circuit: {report.sufficiency.share:.0%},"
        f" p = {report.sufficiency.p:.3f}",
        f"  needed edges           {needed.share:.0%} of {report.n_live_edges} change more than the 90 % quantile of"
        f" random edges ({needed.quantile:.3f}); redundant: {len(needed.redundant)}",
    ]
    assert str(dataclasses.replace(report, minimality=None)).splitlines() == lines[:-1]
    alone = str(dataclasses.replace(report, n_pairs=1, random_circuits=1)).splitlines()
    assert alone[0].endswith(" on 1 pair")
    assert alone[3:5] == [
        line.replace("2 random circuits ", "1 random circuit  ").replace(
            "2 layer-matched ones ", "1 layer-matched one  "
        )
        for line in lines[3:5]
    ]
