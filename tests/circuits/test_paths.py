"""Paths from `embed` to `logits`, against all of them written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuits.graph import Edge, Graph
from circuits.paths import computed_by, random_path, widest_path
from circuits.scores import EdgeScores
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM


def graph_of(pattern: str, heads: int) -> Graph:
    return Graph.of(
        HybridLM(ModelConfig(pattern=pattern, d_model=8, n_heads=heads, d_head=4, d_vocab=5, n_ctx=8))
    )


def every_path(graph: Graph) -> list[tuple[Edge, ...]]:
    feeds = {column: row for row, columns in computed_by(graph).items() for column in columns}

    def from_row(row: int) -> list[tuple[Edge, ...]]:
        found = []
        for column in np.flatnonzero(graph.mask[row]).tolist():
            edge = Edge(graph.writers[row].name, graph.readers[column].name)
            found += [(edge, *rest) for rest in from_row(feeds[column])] if column in feeds else [(edge,)]
        return found

    return from_row(0)


def scored(graph: Graph, seed: int) -> EdgeScores:
    values = torch.randn(1, *graph.mask.shape, generator=torch.Generator().manual_seed(seed))
    values[:, ~torch.from_numpy(graph.mask)] = 0.0
    return EdgeScores(graph=graph, per_example=values, method="eap", metric="logit_diff", edit="schema.table")


def test_a_head_is_computed_from_its_q_k_and_v_and_an_mlp_from_itself() -> None:
    graph = graph_of("*-", 2)
    named = {
        graph.writers[row].name: [graph.readers[column].name for column in columns]
        for row, columns in computed_by(graph).items()
    }
    assert named == {
        "blocks.0.attn.head.0": [f"blocks.0.attn.{port}.0" for port in "qkv"],
        "blocks.0.attn.head.1": [f"blocks.0.attn.{port}.1" for port in "qkv"],
        "blocks.1.mlp": ["blocks.1.mlp"],
    }


@pytest.mark.parametrize("seed", range(6))
def test_the_widest_path_has_the_strongest_weakest_edge_of_all_paths(seed: int) -> None:
    graph = graph_of("*-*", 2)
    scores = scored(graph, seed)
    path = widest_path(scores)
    assert path.edges in {tuple(sorted(one, key=graph.index)) for one in every_path(graph)}
    weakest = [min(abs(scores[edge]) for edge in one) for one in every_path(graph)]
    assert min(abs(scores[edge]) for edge in path.edges) == max(weakest)


def test_a_random_path_is_a_path_and_all_of_them_come_up() -> None:
    graph, rng = graph_of("*-", 1), np.random.default_rng(0)
    known = set(every_path(graph))
    assert {random_path(graph, rng) for _ in range(300)} == known
