"""Stability: certain where every pair says the same, chance where pairs say nothing, and by hand between."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.circuit import Circuit
from circuits.graph import Graph
from circuits.judging.compare import chance_jaccard
from circuits.judging.stability import Stability, _jaccards, largest, pairs_needed, resampled, stability
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM

GRAPH = Graph.of(HybridLM(ModelConfig(pattern="*-*-", d_model=8, n_heads=2, d_head=4, d_vocab=5, n_ctx=8)))


def scores_of(values: torch.Tensor) -> EdgeScores:
    """From `[example edge]`."""
    per_example = torch.zeros(len(values), *GRAPH.mask.shape)
    per_example[:, torch.from_numpy(GRAPH.mask)] = values
    return EdgeScores(
        graph=GRAPH, per_example=per_example, method="eap", metric="logit_diff", edit="schema.table"
    )


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, len(GRAPH.edges), generator=torch.Generator().manual_seed(seed))


def circuit(*places: int) -> Circuit:
    return Circuit(GRAPH, tuple(GRAPH.edges[place] for place in places))


def test_pairs_that_agree_give_one_circuit_always() -> None:
    scores = scores_of(noise(1).repeat(20, 1))
    found = resampled(scores, 10)
    assert (found.jaccard, found.lowest, found.stable) == (1.0, 1.0, True)
    assert set(found.survival) == {str(edge) for edge in top_edges(scores, 10).edges}
    assert set(found.survival.values()) == {1.0}


def test_pure_noise_is_not_stable_and_no_edge_is_sure() -> None:
    found = resampled(scores_of(noise(200)), 10)
    assert not found.stable
    assert min(found.survival.values()) < 0.1
    # A bootstrap keeps part of the sample's own noise, so it agrees more than fresh samples would.
    fresh = stability([top_edges(scores_of(noise(200, seed)), 10) for seed in range(12)])
    assert fresh.jaccard == pytest.approx(fresh.chance, abs=0.05)
    assert fresh.jaccard < found.jaccard < 0.6


def test_planted_edges_survive_and_the_last_places_change_hands() -> None:
    values = noise(60)
    values[:, :5] += 8
    found = resampled(scores_of(values), 7)
    assert all(found.survival[str(edge)] == 1.0 for edge in GRAPH.edges[:5])
    assert sum(share < 1 for share in found.survival.values()) > 2
    assert sum(found.survival.values()) == pytest.approx(7)


def test_three_circuits_by_hand() -> None:
    found = stability([circuit(0, 1), circuit(0, 2), circuit(0, 1)])
    assert found.jaccard == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert list(found.survival.values()) == pytest.approx([1, 2 / 3, 1 / 3])
    assert next(iter(found.survival)) == str(GRAPH.edges[0])
    assert found.n_edges == 2
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (written["stable"], written["bar"]) == (False, 0.8)


def test_resampled_indices_are_jaccard_indices() -> None:
    members = np.array([[True, True, False, False], [True, False, True, False], [False, False, True, True]])
    assert _jaccards(members) == pytest.approx([1 / 3, 0, 1 / 3])


def test_more_pairs_agree_more_and_the_needed_number_is_the_first_to_stay_above_the_bar() -> None:
    values = noise(128)
    values[:, :6] += 1.5
    found = pairs_needed(scores_of(values), 6)
    assert found.pairs == (4, 8, 16, 32, 64, 128)
    assert list(found.jaccard) == sorted(found.jaccard)
    assert found.jaccard[0] < 0.8 <= found.jaccard[-1]
    place = found.pairs.index(found.needed)
    assert found.jaccard[place - 1] < 0.8 <= found.jaccard[place]
    assert found.jaccard[-1] == resampled(scores_of(values), 6).jaccard
    assert pairs_needed(scores_of(noise(30)), 6).needed is None


def test_resampling_depends_on_the_seed_alone() -> None:
    scores = scores_of(noise(30))
    first, again, other = (resampled(scores, 10, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_what_is_not_defined_is_refused() -> None:
    with pytest.raises(InputError, match="stability of 1 circuit"):
        stability([circuit(0)])
    with pytest.raises(InputError, match="n is 1000"):
        resampled(scores_of(noise(4)), 1000)
    with pytest.raises(InputError, match="growing numbers"):
        pairs_needed(scores_of(noise(4)), 3, [8, 4])
    with pytest.raises(InputError, match="resamples is 1"):
        resampled(scores_of(noise(4)), 3, resamples=1)


def test_the_lowest_is_the_5th_percentile_over_pairs_of_circuits() -> None:
    """Of six pairs three are the same circuit, and three share one of three edges."""
    found = stability([circuit(0, 1), circuit(0, 1), circuit(0, 1), circuit(1, 2)])
    assert (found.jaccard, found.lowest) == pytest.approx((2 / 3, 1 / 3))
    # Of indices 1/3, 2/3 and 2/3 it lies a tenth of the way from the first to the second.
    three = stability([circuit(0, 1), circuit(0, 2), circuit(0, 1, 2)])
    assert three.lowest == pytest.approx(1 / 3 + 0.1 / 3)


def test_chance_is_that_of_the_circuits_sizes() -> None:
    total = len(GRAPH.edges)
    assert resampled(scores_of(noise(8)), 10).chance == chance_jaccard(10, 10, total)
    found = stability([circuit(0, 1), circuit(0, 2, 3), circuit(1)])
    pairs = [chance_jaccard(2, 3, total), chance_jaccard(2, 1, total), chance_jaccard(3, 1, total)]
    assert found.chance == pytest.approx(np.mean(pairs))
    assert found.n_edges == 2


def test_an_edge_whose_sign_changes_from_pair_to_pair_is_not_on_top() -> None:
    """Means are drawn, and then their sizes: an edge of ±5 averages out where one of 2 stays."""
    values = torch.zeros(400, len(GRAPH.edges))
    values[:, 0] = 2.0
    values[::2, 1], values[1::2, 1] = 5.0, -5.0
    found = resampled(scores_of(values), 1)
    assert found.survival == {str(GRAPH.edges[0]): 1.0}


def test_the_bar_has_to_be_reached_on_all_larger_numbers_of_pairs_too() -> None:
    """One pair of twenty says something else, so loudly that it decides every draw it is in."""
    values = torch.zeros(20, len(GRAPH.edges))
    values[:, 0] = 1.0
    values[7, 1] = 1000.0
    found = pairs_needed(scores_of(values), 1, [1, 20])
    # By chance it is in 1 of 20 draws of one pair, and in 1 - .95 ** 20 = .64 of those of twenty.
    assert found.jaccard[0] == pytest.approx(0.95**2 + 0.05**2, abs=0.08)
    assert found.jaccard[1] == pytest.approx(0.64**2 + 0.36**2, abs=0.08)
    assert found.needed is None
    assert pairs_needed(scores_of(values), 1, [1]).needed == 1


def test_pairs_needed_draws_as_often_as_asked_with_the_seed_it_is_given() -> None:
    scores = scores_of(noise(30))
    for settings in ({"resamples": 7, "seed": 0}, {"resamples": 7, "seed": 1}, {"resamples": 50, "seed": 1}):
        assert pairs_needed(scores, 6, [30], **settings).jaccard == (
            resampled(scores, 6, **settings).jaccard,
        )
    with pytest.raises(InputError, match="seed is -1"):
        pairs_needed(scores, 6, seed=-1)


def test_a_circuit_at_the_bar_is_stable_and_the_text_says_so() -> None:
    at = Stability(
        circuits=3,
        n_edges=2.0,
        jaccard=0.8,
        lowest=0.5,
        chance=0.1,
        survival={"a": 1.0, "b": 1.0, "c": 1 / 3},
    )
    assert at.stable
    assert str(at).splitlines() == [
        "3 circuits of 2 edges: mean pairwise Jaccard index 0.800 (5th percentile 0.500, 0.100 by chance), at least"
        " the bar of 0.8",
        "  2 edges are in every one, 3 in at least one",
    ]
    below = replace(at, jaccard=0.79)
    assert not below.stable
    assert "below the bar of 0.8" in str(below)


@pytest.mark.parametrize("n", [1, 7, 20])
def test_of_equal_sizes_the_first_are_the_largest(n: int) -> None:
    sizes = np.random.default_rng(0).integers(0, 4, size=(50, 20)).astype(float)
    found = largest(sizes, n)
    for row, members in zip(sizes, found, strict=True):
        assert np.flatnonzero(members).tolist() == sorted(np.argsort(-row, kind="stable")[:n].tolist())
