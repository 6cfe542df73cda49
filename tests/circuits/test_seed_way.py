"""TinySQL's way from scores to heads, by hand, and answers that lack the other heads."""

from __future__ import annotations

import pytest
import torch

from circuits.bench.seed_way import (
    answers_with,
    consistent_edges,
    edges_among,
    heads_at,
    heads_of,
    likeness,
)
from circuits.circuit import Circuit
from circuits.graph import Edge, Graph
from circuits.scores import EdgeScores
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_example
from tinysql.answering.generation import answer
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

GRAPH = Graph(pattern="*-*", n_heads=2)
HYBRID = Graph(pattern="M*E", n_heads=4, n_kv_heads=2, mamba_heads=2, mamba_groups=1, n_experts=2)


def scored(**sizes: float) -> EdgeScores:
    """One pair's scores; all edges that are not named have none."""
    found = torch.zeros(1, *GRAPH.mask.shape)
    for name, size in sizes.items():
        writer, reader = EDGES[name]
        found[0][GRAPH.index(Edge(writer, reader))] = size
    return EdgeScores(graph=GRAPH, per_example=found, method="eap", metric="logit_diff", edit="x")


EDGES = {
    "a": ("blocks.0.attn.head.1", "blocks.1.mlp"),
    "b": ("blocks.1.mlp", "blocks.2.attn.q.0"),
    "c": ("blocks.0.attn.head.0", "blocks.2.attn.v.1"),
    "inward": ("embed", "blocks.1.mlp"),
    "outward": ("blocks.2.attn.head.1", "logits"),
}


def test_edges_are_kept_that_are_on_top_in_the_share_of_batches() -> None:
    batches = [scored(a=3, b=-4, inward=9), scored(a=3, c=2, outward=9), scored(a=-3, b=4), scored(a=3, b=4)]
    for share, kept in ((1.0, {"a"}), (0.75, {"a", "b"}), (0.25, {"a", "b", "c"})):
        circuit = consistent_edges(batches, share, top=2)
        assert set(circuit.edges) == {Edge(*EDGES[name]) for name in kept}
    with pytest.raises(InputError, match="no batches"):
        consistent_edges([], 1.0)


def test_heads_are_those_at_either_end_and_mlps_are_none() -> None:
    edges = tuple(Edge(*EDGES[name]) for name in ("a", "b", "inward"))
    assert heads_at(Circuit(GRAPH, edges)) == {"blocks.0.attn.head.1", "blocks.2.attn.head.0"}


@pytest.mark.parametrize(
    ("writer", "reader", "heads"),
    [
        ("embed", "blocks.1.attn.q.3", {"blocks.1.attn.head.3"}),
        ("embed", "blocks.1.attn.k.1", {"blocks.1.attn.head.2", "blocks.1.attn.head.3"}),
        ("embed", "blocks.0.mamba.x.1", {"blocks.0.mamba.head.1"}),
        ("embed", "blocks.0.mamba.C.0", {"blocks.0.mamba.head.0", "blocks.0.mamba.head.1"}),
        ("embed", "blocks.2.moe.expert.1", {"blocks.2.moe.expert.1"}),
        ("blocks.0.mamba.head.1", "blocks.2.moe.router", {"blocks.0.mamba.head.1"}),
        ("blocks.2.moe.shared", "logits", set()),
    ],
)
def test_a_port_of_a_hybrid_counts_for_the_heads_that_have_it(
    writer: str, reader: str, heads: set[str]
) -> None:
    assert heads_at(Circuit(HYBRID, (Edge(writer, reader),))) == heads


def test_edges_among_heads_are_all_but_those_out_of_the_others() -> None:
    kept = edges_among(HYBRID, {"blocks.1.attn.head.2"})
    writers = {edge.writer for edge in kept.edges}
    assert writers == {"embed", "blocks.1.attn.head.2", "blocks.2.moe.shared"}
    assert len(edges_among(HYBRID, heads_of(HYBRID))) == len(HYBRID.edges)


@pytest.mark.parametrize(
    ("given", "fifths"),
    [
        ("SELECT a, b FROM t", 5),
        ("SELECT b, a FROM t", 3),
        ("SELECT a, c FROM t", 4),
        ("SELECT a, b FROM u", 4),
        ("SELECT a FROM t", 4),
        ("SELECT a, b", 3),
        ("", 0),
    ],
)
def test_likeness_counts_five_things(given: str, fifths: int) -> None:
    assert likeness(given, "SELECT a, b FROM t") == pytest.approx(fifths / 5)


def test_a_column_that_neither_has_is_not_the_same() -> None:
    assert likeness("SELECT a FROM t", "SELECT a FROM t") == pytest.approx(4 / 5)


@pytest.mark.parametrize("pattern", ["*-*", "ME*"])
def test_all_heads_answer_as_the_model_and_no_head_as_a_model_without_them(pattern: str) -> None:
    config = DataConfig(command_sets=("cs1",), lexicon="demo", min_columns=2, max_columns=2)
    examples = [make_example(config, index) for index in range(4)]
    prompts = [example.prompt.string for example in examples]
    tokenizer = Tokenizer.train([example.text.string for example in examples], vocab_size=280)
    shape = ModelConfig(
        pattern=pattern,
        d_model=32,
        n_heads=2,
        d_vocab=tokenizer.vocab_size,
        n_ctx=200,
        mamba=MambaConfig(n_heads=2, d_head=16, d_state=8),
        moe=MoEConfig(n_experts=3, d_expert=16, d_shared=16),
    )
    model = HybridLM(shape, seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4
    heads = heads_of(Graph.of(model))
    assert answers_with(model, tokenizer, prompts, heads) == answer(model, tokenizer, prompts)
    without = answers_with(model, tokenizer, prompts, ())
    assert without != answer(model, tokenizer, prompts)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("attn.W_O", "mamba.W_out", "moe.W_out")):
                weight.zero_()
    assert answer(model, tokenizer, prompts) == without
