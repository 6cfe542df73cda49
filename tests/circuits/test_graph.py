"""The residual graph is what the pattern says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from circuits.graph import Edge, Graph
from data_gen.errors import InputError
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM

SMALL = Graph(pattern="*-", n_heads=2)


def test_writers_and_readers_are_read_off_the_pattern() -> None:
    assert [writer.name for writer in SMALL.writers] == [
        "embed",
        "blocks.0.attn.head.0",
        "blocks.0.attn.head.1",
        "blocks.1.mlp",
    ]
    assert [reader.name for reader in SMALL.readers] == [
        *(f"blocks.0.attn.{port}.{head}" for port in "qkv" for head in (0, 1)),
        "blocks.1.mlp",
        "logits",
    ]


def test_an_edge_exists_exactly_from_a_writer_to_every_later_reader() -> None:
    # embed: 6 ports, the MLP and the logits; each head: the MLP and the logits; the MLP: the logits.
    assert SMALL.mask.sum(1).tolist() == [8, 2, 2, 1]
    assert len(SMALL.edges) == 13
    assert SMALL.named(SMALL.select(SMALL.edges)) == SMALL.edges


def test_an_edge_written_out_parses_back() -> None:
    edge = Edge("blocks.0.attn.head.3", "blocks.2.attn.q.1")
    assert str(edge) == "blocks.0.attn.head.3 -> blocks.2.attn.q.1"
    assert Edge.parse(str(edge)) == edge


def test_a_graph_written_as_json_reads_back() -> None:
    assert Graph.from_json(SMALL.to_json()) == SMALL


@pytest.mark.parametrize(
    ("edge", "reason"),
    [
        ("embed -> blocks.0.attn.q.2", "did you mean `blocks.0.attn.q.[01]`"),
        ("blocks.1.mlp -> blocks.1.mlp", "does not stand before"),
        ("embed, logits", "is not an edge"),
    ],
)
def test_an_edge_that_is_none_is_refused_with_the_reason(edge: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        SMALL.index(Edge.parse(edge))


def test_an_unknown_kind_of_block_is_refused() -> None:
    with pytest.raises(InputError, match="blocks X"):
        Graph(pattern="*X-", n_heads=2)


def test_every_kind_of_block_names_its_writers_and_readers() -> None:
    config = ModelConfig(
        pattern="M*E",
        d_model=8,
        n_heads=4,
        n_kv_heads=2,
        d_vocab=5,
        mamba=MambaConfig(n_heads=4, d_head=4, d_state=3, n_groups=2),
        moe=MoEConfig(n_experts=2, n_active=1, d_expert=4, d_shared=4),
    )
    graph = Graph.of(HybridLM(config))
    assert [writer.name for writer in graph.writers] == [
        "embed",
        *(f"blocks.0.mamba.head.{head}" for head in range(4)),
        *(f"blocks.1.attn.head.{head}" for head in range(4)),
        "blocks.2.moe.expert.0",
        "blocks.2.moe.expert.1",
        "blocks.2.moe.shared",
    ]
    assert [reader.name for reader in graph.readers] == [
        *(
            f"blocks.0.mamba.{port}.{slot}"
            for port, n in zip(("z", "x", "B", "C", "dt"), (4, 4, 2, 2, 4), strict=True)
            for slot in range(n)
        ),
        *(f"blocks.1.attn.{port}.{slot}" for port, n in (("q", 4), ("k", 2), ("v", 2)) for slot in range(n)),
        "blocks.2.moe.router",
        "blocks.2.moe.expert.0",
        "blocks.2.moe.expert.1",
        "blocks.2.moe.shared",
        "logits",
    ]
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph


@pytest.mark.parametrize(
    ("reader", "feeds"),
    [
        ("blocks.0.mamba.x.1", ["blocks.0.mamba.head.0", "blocks.0.mamba.head.1"]),
        ("blocks.0.mamba.B.1", ["blocks.0.mamba.head.2", "blocks.0.mamba.head.3"]),
        ("blocks.1.attn.q.3", ["blocks.1.attn.head.3"]),
        ("blocks.1.attn.k.1", ["blocks.1.attn.head.2", "blocks.1.attn.head.3"]),
        ("blocks.2.moe.router", ["blocks.2.moe.expert.0", "blocks.2.moe.expert.1"]),
        ("blocks.2.moe.expert.1", ["blocks.2.moe.expert.1"]),
        ("blocks.2.moe.shared", ["blocks.2.moe.shared"]),
        ("logits", []),
    ],
)
def test_a_reader_feeds_the_writers_computed_from_it(reader: str, feeds: list[str]) -> None:
    graph = Graph(pattern="M*E", n_heads=4, n_kv_heads=2, mamba_heads=4, mamba_groups=2, n_experts=2)
    assert {found.name: list(found.feeds) for found in graph.readers}[reader] == feeds


def test_live_edges_are_those_on_a_path_from_embed_to_logits() -> None:
    path = (Edge("embed", "blocks.0.attn.k.1"), Edge("blocks.0.attn.head.1", "logits"))
    no_start = Edge("blocks.0.attn.head.0", "logits")
    no_end = Edge("embed", "blocks.1.mlp")
    assert SMALL.named(SMALL.live(SMALL.select((*path, no_start, no_end)))) == path
    assert not SMALL.live(SMALL.select((no_start, no_end))).any()
    assert np.array_equal(SMALL.live(SMALL.mask), SMALL.mask)


@pytest.mark.parametrize(
    "counts",
    [
        {"n_heads": -1},
        {"n_heads": 4, "n_kv_heads": 3},
        {"n_heads": 2, "n_kv_heads": 4},
        {"mamba_heads": 3, "mamba_groups": 2},
        {"mamba_heads": 2, "mamba_groups": 0},
        {"n_experts": -3},
    ],
)
def test_counts_that_no_model_has_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(InputError, match="is no model's graph"):
        Graph(pattern="*M-E", **counts)
