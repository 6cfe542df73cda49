"""The residual graph is what the pattern says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from circuits.graph import Edge, Graph
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
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
    with pytest.raises(InputError, match="blocks M"):
        Graph(pattern="*M-", n_heads=2)


def test_live_edges_are_those_on_a_path_from_embed_to_logits() -> None:
    path = (Edge("embed", "blocks.0.attn.k.1"), Edge("blocks.0.attn.head.1", "logits"))
    no_start = Edge("blocks.0.attn.head.0", "logits")
    no_end = Edge("embed", "blocks.1.mlp")
    assert SMALL.named(SMALL.live(SMALL.select((*path, no_start, no_end)))) == path
    assert not SMALL.live(SMALL.select((no_start, no_end))).any()
    assert np.array_equal(SMALL.live(SMALL.mask), SMALL.mask)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"n_kv_heads": 1}, "shared key-value heads"),
        ({"gated": True}, "a gated MLP"),
        ({"biases": ("norm",)}, "biases"),
        ({"window": 2, "windowed_blocks": (0,)}, "attention windows"),
    ],
)
def test_parts_whose_ports_are_not_known_are_refused(options: dict[str, Any], part: str) -> None:
    model = HybridLM(ModelConfig(pattern="*-", d_model=8, n_heads=2, d_vocab=5, **options))
    with pytest.raises(InputError, match=part):
        Graph.of(model)
