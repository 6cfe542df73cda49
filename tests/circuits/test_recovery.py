"""Scores against true edges: areas by hand, what they do not depend on, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.graph import Edge, Graph
from circuits.judging.recovery import auroc, average_precision, recovery
from circuits.scores import EdgeScores
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM

CASES = [
    # values, true, AUROC, AP
    ([4, 3, 2, 1], [1, 1, 0, 0], 1.0, 1.0),
    ([4, 3, 2, 1], [0, 0, 1, 1], 0.0, (1 / 3 + 2 / 4) / 2),
    # The true 4 beats both others, the true 2 one of two; precision 1 at the first, 2/3 at the second.
    ([4, 3, 2, 1], [1, 0, 1, 0], 3 / 4, (1 + 2 / 3) / 2),
    ([1, 1, 1, 1], [1, 0, 0, 0], 0.5, 1 / 4),
    # The true one ties with one of two others, and comes with it at precision 1/2.
    ([2, 2, 1], [1, 0, 0], 3 / 4, 1 / 2),
    ([5, 0, 0, 0, 0], [0, 1, 0, 0, 0], 3 / 8, 1 / 5),
]


@pytest.mark.parametrize(("values", "true", "area", "precision"), CASES)
def test_areas_by_hand(values: list[float], true: list[int], area: float, precision: float) -> None:
    arrays = np.array(values, float), np.array(true, bool)
    assert auroc(*arrays) == pytest.approx(area)
    assert average_precision(*arrays) == pytest.approx(precision)


@pytest.fixture
def scores() -> EdgeScores:
    """Scores of the 13 edges of two heads and an MLP on four examples."""
    graph = Graph.of(HybridLM(ModelConfig(pattern="*-", d_model=8, n_heads=2, d_vocab=5, n_ctx=4)))
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, *graph.mask.shape, generator=generator) * torch.from_numpy(graph.mask)
    return EdgeScores(graph=graph, per_example=values, method="m", metric="logit_diff", edit="schema.table")


def test_recovery_takes_the_mean_over_examples_and_ignores_its_sign(scores: EdgeScores) -> None:
    first, second, third, *_ = scores.ranked()
    found = recovery(scores, {first, third})
    others = len(scores.graph.edges) - 2
    assert (found.n_true, found.n_edges) == (2, len(scores.graph.edges))
    assert found.auroc == pytest.approx((2 * others - 1) / (2 * others))
    assert found.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert found.found == pytest.approx(1 / 2)
    negated = replace(scores, per_example=-scores.per_example)
    assert recovery(negated, {first, third}) == found
    # The second edge stood between the two.
    assert recovery(scores, {first, third}, {second}).auroc == 1


def test_areas_depend_on_the_order_alone(scores: EdgeScores) -> None:
    true = set(scores.graph.edges[::4])
    shuffled = replace(scores, per_example=scores.per_example.flip(0))
    larger = replace(scores, per_example=(7 * scores.values[None] ** 3))
    for other in (shuffled, larger):
        assert recovery(other, true).auroc == pytest.approx(recovery(scores, true).auroc)
        assert recovery(other, true).average_precision == pytest.approx(
            recovery(scores, true).average_precision
        )


def test_true_edges_that_tie_share_the_places_left(scores: EdgeScores) -> None:
    flat = replace(scores, per_example=torch.ones_like(scores.per_example))
    true = set(scores.graph.edges[:3])
    assert recovery(flat, true).found == pytest.approx(3 / len(scores.graph.edges))


def test_what_cannot_be_scored_is_refused(scores: EdgeScores) -> None:
    edge, *_ = scores.graph.edges
    for edges, ambiguous, sentence in [
        ([], [], "0 of"),
        (scores.graph.edges, [], "nothing to tell apart"),
        ([edge], [edge], "both true and ambiguous"),
        ([Edge("embed", "blocks.7.mlp")], [], "has no `blocks.7.mlp`"),
    ]:
        with pytest.raises(InputError, match=sentence):
            recovery(scores, edges, ambiguous)
    broken = scores.per_example.clone()
    broken[(0, *scores.graph.index(edge))] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        recovery(replace(scores, per_example=broken), [edge])
