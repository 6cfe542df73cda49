"""TinySQL's way from scores to heads, by hand, and answers that lack the other heads."""

from __future__ import annotations

import pytest
import torch

from circuits.bench.seed_way import (
    TOP,
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


def test_a_share_of_batches_is_counted_up_to_its_last_digit() -> None:
    """Three of ten batches are a share of .3, although .3 * 10 may be just above 3."""
    batches = [scored(a=3)] * 3 + [scored(b=3)] * 7
    for share in (0.1 + 0.2, 0.3):
        assert set(consistent_edges(batches, share, top=1).edges) == {Edge(*EDGES["a"]), Edge(*EDGES["b"])}


def test_ten_edges_are_taken_from_each_batch() -> None:
    batch = EdgeScores(
        graph=GRAPH,
        per_example=torch.from_numpy(GRAPH.mask).float()[None],
        method="eap",
        metric="logit_diff",
        edit="x",
    )
    assert len(consistent_edges([batch], 1.0)) == TOP == 10
    inner = [edge for edge in GRAPH.edges if edge.writer != "embed" and edge.reader != "logits"]
    assert set(consistent_edges([batch], 1.0).edges) == set(inner[:10])


@pytest.mark.parametrize(
    ("batches", "share", "top", "reason"),
    [
        (["a"], 0.0, 3, "share is 0.0, expected above 0 and at most 1"),
        (["a"], 1.5, 3, "share is 1.5"),
        (["a"], float("nan"), 3, "share is nan"),
        (["a"], 1.0, 0, "top is 0, expected at least 1"),
        (["a", "other"], 1.0, 3, "batches are scored on models of .* and of .*, expected one model"),
    ],
)
def test_what_makes_no_consistent_circuit_is_refused(
    batches: list[str], share: float, top: int, reason: str
) -> None:
    zeros = torch.zeros(1, *HYBRID.mask.shape)
    other = EdgeScores(graph=HYBRID, per_example=zeros, method="eap", metric="logit_diff", edit="x")
    given = [other if name == "other" else scored(**{name: 1.0}) for name in batches]
    with pytest.raises(InputError, match=reason):
        consistent_edges(given, share, top=top)


@pytest.mark.parametrize(
    ("reader", "heads"),
    [
        ("blocks.0.mamba.z.1", {"blocks.0.mamba.head.1"}),
        ("blocks.0.mamba.dt.0", {"blocks.0.mamba.head.0"}),
        ("blocks.0.mamba.B.0", {"blocks.0.mamba.head.0", "blocks.0.mamba.head.1"}),
        ("blocks.2.moe.router", set()),
        ("blocks.2.moe.shared", set()),
    ],
)
def test_every_port_of_a_mamba_head_and_of_experts_counts_for_its_own(reader: str, heads: set[str]) -> None:
    assert heads_at(Circuit(HYBRID, (Edge("embed", reader),))) == heads


def test_a_head_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(
        InputError, match="no head or expert `blocks.1.attn.head.9`; did you mean `blocks.1.attn.head.[0-3]`"
    ):
        edges_among(HYBRID, {"blocks.1.attn.head.9"})
    model, tokenizer = small_model()
    with pytest.raises(InputError, match="no head or expert `blocks.0.mlp`"):
        answers_with(model, tokenizer, ["SELECT"], ["blocks.0.mlp"])


def small_model() -> tuple[HybridLM, Tokenizer]:
    tokenizer = Tokenizer.train(["SELECT a, b FROM t"], vocab_size=270)
    config = ModelConfig(pattern="*", d_model=8, n_heads=1, d_vocab=tokenizer.vocab_size, n_ctx=40)
    return HybridLM(config, seed=1), tokenizer


def test_answers_end_behind_the_longest_number_of_tokens() -> None:
    model, tokenizer = small_model()
    heads = ["blocks.0.attn.head.0"]
    short, longer = (answers_with(model, tokenizer, ["SELECT a", "FROM t"], heads, longest=n) for n in (2, 5))
    assert short == answer(model, tokenizer, ["SELECT a", "FROM t"], longest=2)
    assert longer == answer(model, tokenizer, ["SELECT a", "FROM t"], longest=5) != short


def test_likeness_reads_words_not_their_spelling_around() -> None:
    """A semicolon behind the table, and blanks around a column, are no difference; a word nobody asked for is none."""
    assert likeness("SELECT a ,  b FROM t;", "SELECT a, b FROM t") == 1
    assert likeness("SELECT a, b FROM t", "a, b") == 0
    assert likeness("SELECT a, b", "SELECT a, b FROM t") == pytest.approx(3 / 5)
