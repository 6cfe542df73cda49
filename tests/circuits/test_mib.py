"""MIB's score file: its names, its sign, and every edge of its graph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from circuits.files.mib import mib_scores, write_mib
from circuits.graph import Edge, Graph
from circuits.scores import EdgeScores
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM


def scores_of(pattern: str, heads: int) -> EdgeScores:
    graph = Graph.of(
        HybridLM(ModelConfig(pattern=pattern, d_model=8, n_heads=heads, d_head=4, d_vocab=5, n_ctx=8))
    )
    values = torch.randn(3, *graph.mask.shape, generator=torch.Generator().manual_seed(0))
    values[:, ~torch.from_numpy(graph.mask)] = 0.0
    return EdgeScores(graph=graph, per_example=values, method="eap", metric="logit_diff", edit="schema.table")


def names_in_mib(layers: int, heads: int) -> set[str]:
    """Edges as `Graph.from_model` of EAP-IG lists them: everything written so far, into each head's q, k, v and MLP."""
    stream, edges = ["input"], set()
    for layer in range(layers):
        here = [f"a{layer}.h{head}" for head in range(heads)]
        edges |= {f"{parent}->{head}<{port}>" for parent in stream for head in here for port in "qkv"}
        stream += here
        edges |= {f"{parent}->m{layer}" for parent in stream}
        stream.append(f"m{layer}")
    return edges | {f"{parent}->logits" for parent in stream}


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 3), (3, 2)])
def test_every_edge_of_mibs_graph_has_a_score_and_no_other(layers: int, heads: int) -> None:
    found = mib_scores(scores_of("*-" * layers, heads), d_model=8)
    assert set(found["edges"]) == names_in_mib(layers, heads)
    assert found["cfg"] == {"n_layers": layers, "n_heads": heads, "parallel_attn_mlp": False, "d_model": 8}
    assert len(found["nodes"]) == 2 + layers * (heads + 1)


def test_a_score_of_zero_is_written_without_a_sign() -> None:
    scores = scores_of("*-", 1)
    scores.per_example.zero_()
    assert "-0" not in json.dumps(mib_scores(scores, d_model=8)["edges"])


def test_scores_keep_their_places_and_turn_their_sign() -> None:
    scores = scores_of("*-*-", 2)
    edges = mib_scores(scores, d_model=8)["edges"]
    by_hand = {
        "input->a0.h1<v>": Edge("embed", "blocks.0.attn.v.1"),
        "a0.h1->m0": Edge("blocks.0.attn.head.1", "blocks.1.mlp"),
        "m0->a1.h0<k>": Edge("blocks.1.mlp", "blocks.2.attn.k.0"),
        "m1->logits": Edge("blocks.3.mlp", "logits"),
    }
    for name, edge in by_hand.items():
        assert edges[name]["score"] == pytest.approx(-scores[edge])
        assert edges[name]["in_graph"] is False


def test_the_file_is_json(tmp_path: Path) -> None:
    scores = scores_of("*-", 1)
    write_mib(scores, tmp_path / "importances.json", d_model=8)
    assert json.loads((tmp_path / "importances.json").read_text()) == mib_scores(scores, d_model=8)


def test_nodes_stand_layer_by_layer_and_none_is_chosen() -> None:
    nodes = mib_scores(scores_of("*-*-", 2), d_model=8)["nodes"]
    assert list(nodes) == ["input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1", "logits"]
    assert list(nodes.values()) == [{"in_graph": False}] * 8


def test_heads_that_share_keys_have_no_names_in_mib() -> None:
    graph = Graph("*-", n_heads=4, n_kv_heads=2)
    shared = EdgeScores(
        graph=graph, per_example=torch.zeros(1, *graph.mask.shape), method="m", metric="m", edit="e"
    )
    with pytest.raises(InputError, match="no names for .* with 4 heads and 2 key-value heads"):
        mib_scores(shared, d_model=8)


@pytest.mark.parametrize("pattern", ["*", "-*", "**--"])
def test_a_model_that_mib_has_no_names_for_is_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="no names for a model of pattern"):
        mib_scores(scores_of(pattern, 1), d_model=8)
