"""Greedy and significant selection, against the slow clear form and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuits.circuit import Circuit
from circuits.graph import Edge, Graph
from circuits.paths import computed_by
from circuits.scores import EdgeScores
from circuits.select import _greedy_order, greedy_edges, significant_edges, top_edges
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM


def graph_of(pattern: str, heads: int) -> Graph:
    return Graph.of(
        HybridLM(ModelConfig(pattern=pattern, d_model=8, n_heads=heads, d_head=4, d_vocab=5, n_ctx=8))
    )


def scores_of(graph: Graph, by_edge: dict[str, float], pairs: int = 1) -> EdgeScores:
    values = torch.zeros(pairs, *graph.mask.shape)
    for name, score in by_edge.items():
        values[(slice(None), *graph.index(Edge.parse(name)))] = score
    return EdgeScores(graph=graph, per_example=values, method="eap", metric="logit_diff", edit="schema.table")


def random_scores(graph: Graph, seed: int) -> EdgeScores:
    values = torch.randn(1, *graph.mask.shape, generator=torch.Generator().manual_seed(seed))
    values[:, ~torch.from_numpy(graph.mask)] = 0.0
    return EdgeScores(graph=graph, per_example=values, method="eap", metric="logit_diff", edit="schema.table")


def greedy_as_written(scores: EdgeScores) -> list[Edge]:
    """The largest edge into what is already read, over and over, every candidate looked at every time."""
    graph = scores.graph
    sources = computed_by(graph)
    read, taken = {len(graph.readers) - 1}, []
    while True:
        left = [
            (-abs(float(scores.values[row, column])), int(row), int(column))
            for row, column in np.argwhere(graph.mask)
            if column in read and Edge(graph.writers[row].name, graph.readers[column].name) not in taken
        ]
        if not left:
            return taken
        _, row, column = min(left)
        taken.append(Edge(graph.writers[row].name, graph.readers[column].name))
        read |= set(sources.get(row, ()))


@pytest.mark.parametrize(
    "graph",
    [Graph("*-*", n_heads=4, n_kv_heads=2), Graph("ME*", mamba_heads=2, n_experts=3, n_heads=2)],
    ids=str,
)
def test_what_feeds_several_writers_is_offered_once(graph: Graph) -> None:
    """A shared key, a group's input or a router comes in with the first of the writers it feeds."""
    scores = random_scores(graph, 0)
    order = _greedy_order(scores, graph.mask)
    assert len(order) == len(set(order))
    assert order == greedy_as_written(scores)


@pytest.mark.parametrize("seed", range(3))
def test_the_heap_takes_edges_in_the_order_of_the_clear_form(seed: int) -> None:
    scores = random_scores(graph_of("*-*", 2), seed)
    assert _greedy_order(scores, scores.graph.mask) == greedy_as_written(scores)


@pytest.mark.parametrize("seed", range(3))
def test_a_greedy_circuit_is_connected_nested_and_of_at_most_n_edges(seed: int) -> None:
    scores = random_scores(graph_of("*-*-", 2), seed)
    total, before = len(scores.graph.edges), set()
    for n in range(1, total + 1):
        circuit = greedy_edges(scores, n)
        assert len(circuit) <= n
        assert circuit.edges == circuit.connected().edges
        assert before <= set(circuit.edges)
        before = set(circuit.edges)
    assert len(before) == total


def test_greed_follows_a_strong_edge_down_to_the_embedding() -> None:
    graph = graph_of("*-", 1)
    scores = scores_of(
        graph,
        {
            "blocks.0.attn.head.0 -> logits": -5,
            "embed -> blocks.0.attn.v.0": -1,
            "embed -> logits": 2,
            # The largest of all, into a writer that nobody chosen reads.
            "embed -> blocks.1.mlp": 9,
        },
    )
    # The head comes first, but is a dead end until `v` is read, so one edge alone is `embed -> logits`.
    assert [str(edge) for edge in greedy_edges(scores, 1).edges] == ["embed -> logits"]
    assert {str(edge) for edge in greedy_edges(scores, 3).edges} == {
        "embed -> logits",
        "blocks.0.attn.head.0 -> logits",
        "embed -> blocks.0.attn.v.0",
    }
    assert str(top_edges(scores, 1).edges[0]) == "embed -> blocks.1.mlp"


def test_an_edge_that_may_not_be_taken_is_not() -> None:
    graph = graph_of("*-", 1)
    scores = random_scores(graph, 0)
    forbidden = Circuit(graph, (Edge("embed", "logits"), Edge("embed", "blocks.1.mlp")))
    grown = greedy_edges(scores, len(graph.edges), without=forbidden)
    assert not set(grown.edges) & set(forbidden.edges)
    assert len(grown) == len(graph.edges) - 2


def test_significant_edges_are_those_of_constant_sign_and_come_with_their_rate() -> None:
    graph = graph_of("*-", 1)
    noise = torch.randn(30, *graph.mask.shape, generator=torch.Generator().manual_seed(0))
    noise[:, ~torch.from_numpy(graph.mask)] = 0.0
    planted = {Edge("embed", "blocks.0.attn.v.0"), Edge("blocks.0.attn.head.0", "logits")}
    for edge in planted:
        noise[(slice(None), *graph.index(edge))] -= 2.0
    scores = EdgeScores(
        graph=graph, per_example=noise, method="eap", metric="logit_diff", edit="schema.table"
    )
    circuit = significant_edges(scores, 0.01)
    assert set(circuit.edges) == planted
    assert circuit.metadata["q"] == 0.01
    alone = Edge("blocks.1.mlp", "logits")
    noise[(slice(None), *graph.index(alone))] -= 2.0
    assert alone in significant_edges(scores, 0.01).edges
    assert set(significant_edges(scores, 0.01, connected=True).edges) == planted


@pytest.mark.parametrize("choose", [top_edges, greedy_edges])
@pytest.mark.parametrize("n", [0, 10_000])
def test_more_edges_than_exist_are_refused(choose, n: int) -> None:
    scores = random_scores(graph_of("*-", 1), 0)
    with pytest.raises(InputError, match=f"n is {n}, expected 1 to {len(scores.graph.edges)}"):
        choose(scores, n)


def test_too_few_pairs_for_any_discovery_and_impossible_rates_are_refused() -> None:
    scores = scores_of(graph_of("*-", 1), {"embed -> logits": 1.0}, pairs=5)
    with pytest.raises(InputError, match=r"q = 0.05 on 5 pairs: the smallest p is 0.0625"):
        significant_edges(scores, 0.05)
    with pytest.raises(InputError, match="between 0 and 1"):
        significant_edges(scores, 5.0)


def test_a_circuit_says_what_was_asked_of_which_scores() -> None:
    graph = graph_of("*-", 1)
    scores = scores_of(graph, {"embed -> logits": -2.0, "embed -> blocks.1.mlp": 1.0})
    about = {"method": "eap", "metric": "logit_diff", "edit": "schema.table", "asked": 2}
    assert top_edges(scores, 2).metadata == {
        **about,
        "connected": False,
        "scores": {"embed -> logits": -2.0, "embed -> blocks.1.mlp": 1.0},
    }
    greedy = greedy_edges(scores, 2).metadata
    assert {name: greedy[name] for name in about} == about
    assert greedy["greedy"] is True


def test_the_seed_draws_the_signs_of_the_test() -> None:
    """Twenty pairs are too many to try every sign, and edges at the level depend on the draw."""
    graph = graph_of("*-*", 2)
    noise = torch.randn(20, *graph.mask.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    scores = EdgeScores(
        graph=graph, per_example=noise * torch.from_numpy(graph.mask), method="m", metric="m", edit="e"
    )
    found = [significant_edges(scores, 0.06, seed=seed) for seed in range(6)]
    for seed, circuit in enumerate(found):
        assert set(circuit.edges) == set(scores.significant(0.06, seed=seed))
        assert circuit.metadata["seed"] == seed
    assert len({circuit.edges for circuit in found}) > 1


@pytest.mark.parametrize(("n", "remedy"), [(0, "ask for at least one edge"), (-2, "at least"), (14, "fewer")])
def test_a_wrong_number_of_edges_comes_with_what_to_ask_for(n: int, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        top_edges(random_scores(graph_of("*-", 1), 0), n)
    with pytest.raises(InputError, match="n is 2, expected 1 to 1.*\n.*fewer"):
        top_edges(random_scores(Graph(""), 0), 2)


def test_edges_of_another_model_cannot_be_left_out() -> None:
    other = graph_of("**", 1)
    with pytest.raises(InputError, match="the edges to leave out are of a model of pattern '[*][*]'"):
        greedy_edges(random_scores(graph_of("*-", 1), 0), 2, without=Circuit(other, ()))
