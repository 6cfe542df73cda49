"""Every measure on a model of three edges, against its definition: eight circuits, each computed by hand.

One MLP has `embed -> mlp`, `embed -> logits` and `mlp -> logits`. What an edge of the circuit carries comes from the
clean prompt, through whatever the circuit hands on, and every other edge carries what it does in the corrupt run.
"""

from __future__ import annotations

from dataclasses import astuple, replace
from itertools import combinations

import numpy as np
import pytest
import torch

from circuits.circuit import Circuit
from circuits.graph import Edge, Graph
from circuits.judging.compare import compare
from circuits.judging.curves import faithfulness_curve
from circuits.judging.faithfulness import evaluate
from circuits.judging.minimality import MOST_PAIRS
from circuits.judging.ratios import Ratios
from circuits.judging.stability import stability
from circuits.methods.exact import exact
from circuits.scores import EdgeScores

GRAPH = Graph("-")
INTO, STRAIGHT, OUT = Edge("embed", "blocks.0.mlp"), Edge("embed", "logits"), Edge("blocks.0.mlp", "logits")
EDGES = (INTO, STRAIGHT, OUT)
CIRCUITS = [frozenset(some) for size in range(4) for some in combinations(EDGES, size)]


@pytest.fixture
def case(random_case):
    """An MLP that matters, and the answers in which the two sides then differ most."""
    made = random_case("-", n=12)
    model, pairs, rows = made.model, made.pairs, torch.arange(12)
    with torch.no_grad():
        model.blocks[0].mlp.W_out.mul_(6)
        clean, corrupt = (model(side.ids)[rows, pairs.position] for side in (pairs.clean, pairs.corrupt))
    gap = clean - corrupt
    return replace(made, pairs=replace(pairs, clean_answer=gap.argmax(-1), corrupt_answer=gap.argmin(-1)))


def by_hand(case, circuit: frozenset[Edge]) -> torch.Tensor:
    """The logit difference of every pair when these edges alone carry clean values."""
    model, pairs, rows = case.model, case.pairs, torch.arange(len(case.pairs))
    block = model.blocks[0]
    with torch.no_grad():
        clean, corrupt = (
            model.embed(side.ids)[rows, pairs.position][:, None] for side in (pairs.clean, pairs.corrupt)
        )
        heard = clean if INTO in circuit else corrupt
        written = block.mlp(block.ln1(heard if OUT in circuit else corrupt))
        logits = model.unembed(model.ln_final((clean if STRAIGHT in circuit else corrupt) + written))[:, 0]
    return logits[rows, pairs.clean_answer] - logits[rows, pairs.corrupt_answer]


@pytest.fixture
def f(case) -> dict[frozenset[Edge], float]:
    """`(m(C) - m(corrupt)) / (m(clean) - m(corrupt))` of every circuit, m a mean over pairs."""
    means = {circuit: float(by_hand(case, circuit).mean()) for circuit in CIRCUITS}
    none, every = means[frozenset()], means[frozenset(EDGES)]
    return {circuit: (mean - none) / (every - none) for circuit, mean in means.items()}


def circuit_of(some) -> Circuit:
    return Circuit(GRAPH, tuple(some))


def test_the_graph_has_these_three_edges() -> None:
    assert GRAPH.edges == EDGES


def test_faithfulness_and_completeness(case, f) -> None:
    assert len({round(value, 2) for value in f.values()}) == 4, (
        "nothing, the straight edge, the path, and both"
    )
    for some in CIRCUITS:
        report = evaluate(case.model, circuit_of(some), case.pairs, random_circuits=1, minimality=False)
        assert report.faithfulness.value == pytest.approx(f[some], abs=1e-5)
        assert report.completeness.value == pytest.approx(f[frozenset(EDGES) - some], abs=1e-5)


def test_random_circuits(case, f) -> None:
    """No two edges lie between the same two blocks, so that the circuit itself is the only layer-matched one."""
    some = frozenset({INTO, OUT})
    report = evaluate(case.model, circuit_of(some), case.pairs, random_circuits=300, minimality=False)
    assert astuple(report.matched) == pytest.approx([f[some]] * 3, abs=1e-5)
    assert (report.sufficiency.share, report.sufficiency.p) == (0, 1)
    of_two = [f[frozenset(EDGES) - {edge}] for edge in EDGES]
    assert report.random.mean == pytest.approx(np.mean(of_two), abs=4 * np.std(of_two) / 300**0.5)
    assert (report.random.low, report.random.high) == pytest.approx((min(of_two), max(of_two)), abs=1e-5)


def test_cmd_and_cpr(case, f) -> None:
    """Of three edges MIB's fractions take none below .5, one at .5 and all at 1, where f is 0, f(one) and 1."""
    scores = torch.tensor([0.1, -3.0, 2.0])
    per_example = torch.zeros(1, *GRAPH.mask.shape)
    per_example[0, torch.from_numpy(GRAPH.mask)] = scores
    found = EdgeScores(graph=GRAPH, per_example=per_example, method="m", metric="m", edit="e")
    areas = faithfulness_curve(case.model, found, case.pairs, random_circuits=1).areas
    one = f[frozenset({STRAIGHT})]
    assert abs(1 - one) > 0.05
    assert areas.cpr.value.value == pytest.approx(0.3 * one / 2 + 0.5 * (one + 1) / 2, abs=1e-5)
    assert areas.cmd.value.value == pytest.approx(
        0.199 + 0.3 * (1 + abs(1 - one)) / 2 + 0.5 * abs(1 - one) / 2, abs=1e-5
    )
    fifth, half = np.log(2.5), np.log(2)
    assert areas.cpr_log.value.value == pytest.approx(
        (fifth * one / 2 + half * (one + 1) / 2) / np.log(1000), abs=1e-5
    )
    # Layer-matched circuits are the circuits themselves here.
    assert areas.cmd.matched.mean == pytest.approx(areas.cmd.value.value, abs=1e-6)


def test_minimality(case, f) -> None:
    """What leaving out one edge changes: of the path through the MLP either edge takes the whole path away."""
    some = frozenset({INTO, OUT})
    assert len(case.pairs) < MOST_PAIRS
    needed = evaluate(case.model, circuit_of(some), case.pairs, random_circuits=1).minimality
    assert needed.changes == pytest.approx({str(edge): f[some] for edge in (INTO, OUT)}, abs=1e-5)
    # The straight edge is the only one that can be added, and all that any random edge changes.
    assert needed.quantile == pytest.approx(abs(f[frozenset(EDGES)] - f[some]), abs=1e-5)


def test_exact_scores(case) -> None:
    """What the metric changes when this edge alone carries the corrupt value."""
    every = frozenset(EDGES)
    scores = exact(case.model, case.pairs)
    for edge in EDGES:
        lost = by_hand(case, every - {edge}) - by_hand(case, every)
        found = scores.per_example[(slice(None), *GRAPH.index(edge))]
        torch.testing.assert_close(found.double(), lost, atol=1e-5, rtol=0)


def test_jaccard_indices_and_their_chance() -> None:
    """Of two circuits of two edges among three, one in three pairs is the same and the others share one of three."""
    first, second = circuit_of({INTO, OUT}), circuit_of({INTO, STRAIGHT})
    found = compare(first, second)
    assert (found.jaccard, found.overlap, found.shared) == (pytest.approx(1 / 3), 1 / 2, 1)
    assert found.chance_jaccard == pytest.approx((1 + 2 / 3) / 3)
    assert found.chance_shared == pytest.approx(4 / 3)
    assert found.p == pytest.approx(1), "two edges of three cannot share none"
    assert stability([first, second, first]).jaccard == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)


def test_the_bootstrap_of_two_pairs() -> None:
    """Draws are the first pair twice, the second twice, or both, with probabilities 1/4, 1/4 and 1/2."""
    ratios = Ratios(np.array([2.0, 4.0]), np.zeros(2), 0, "e")
    values = np.array([1.0, 3.0])
    assert astuple(ratios.estimate(values)) == pytest.approx((4 / 6, 1 / 2, 3 / 4))
    draws, counts = np.unique(ratios.draws(values).round(9), return_counts=True)
    assert draws == pytest.approx([1 / 2, 4 / 6, 3 / 4])
    assert counts / counts.sum() == pytest.approx([1 / 4, 1 / 2, 1 / 4], abs=0.06)
