"""EdgeScores, Circuit and selection: files and order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from circuits.circuit import Circuit
from circuits.graph import Edge, Graph
from circuits.methods.eap import eap
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError

GRAPH = Graph(pattern="*", n_heads=1)


def scores(*rows: list[float]) -> EdgeScores:
    """Scores of `embed -> q, k, v, logits` and `head -> logits`, one row per example."""
    per_example = torch.zeros(len(rows), 2, 4)
    per_example[:, torch.from_numpy(GRAPH.mask)] = torch.tensor(rows)
    return EdgeScores(
        graph=GRAPH, per_example=per_example, method="eap", metric="logit_diff", edit="schema.table"
    )


def test_the_table_holds_means_intervals_and_sign_consistency() -> None:
    found = scores([1.0, -4.0, 0.0, 0.0, 0.5], [3.0, -4.0, 0.0, 0.0, -1.0]).table(3)
    assert [row["edge"] for row in found] == [
        "embed -> blocks.0.attn.k.0",
        "embed -> blocks.0.attn.q.0",
        "blocks.0.attn.head.0 -> logits",
    ]
    assert [row["score"] for row in found] == [-4.0, 2.0, -0.25]
    assert (found[0]["low"], found[0]["high"]) == (-4.0, -4.0)
    assert found[1]["low"] == 1.0
    assert found[1]["high"] == 3.0
    assert [row["same_sign"] for row in found] == [1.0, 1.0, 0.5]


def test_the_top_edges_are_those_of_largest_absolute_mean() -> None:
    circuit = top_edges(scores([1.0, -4.0, 0.0, 3.0, 2.0]), 2)
    assert circuit.edges == (Edge("embed", "blocks.0.attn.k.0"), Edge("embed", "logits"))
    assert circuit.metadata["scores"] == {"embed -> blocks.0.attn.k.0": -4.0, "embed -> logits": 3.0}


def test_connected_drops_dead_ends_and_adds_nothing() -> None:
    circuit = top_edges(scores([1.0, -4.0, 0.0, 3.0, 2.0]), 2, connected=True)
    assert circuit.edges == (Edge("embed", "logits"),)


@pytest.mark.parametrize("n", [0, 6])
def test_an_impossible_number_of_edges_is_refused(n: int) -> None:
    with pytest.raises(InputError, match=f"n is {n}, expected 1 to 5"):
        top_edges(scores([1.0, 1.0, 1.0, 1.0, 1.0]), n)


def test_scores_read_back_as_they_were_written(random_case, tmp_path: Path) -> None:
    case = random_case()
    written = eap(case.model, case.pairs)
    written.save(tmp_path)
    read = EdgeScores.load(tmp_path)
    assert torch.equal(read.per_example, written.per_example)
    for name in ("graph", "method", "metric", "edit", "metadata"):
        assert getattr(read, name) == getattr(written, name)


def test_scores_cut_short_or_of_another_graph_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scores\.json"):
        EdgeScores.load(tmp_path)
    scores([1.0, 1.0, 1.0, 1.0, 1.0]).save(tmp_path)
    sidecar = json.loads((tmp_path / "scores.json").read_text())
    (tmp_path / "scores.json").write_text(json.dumps({**sidecar, "graph": {"pattern": "**", "n_heads": 1}}))
    with pytest.raises(InputError, match="has shape"):
        EdgeScores.load(tmp_path)
    tensors = tmp_path / "scores.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8])
    with pytest.raises(InputError, match="no whole edge scores"):
        EdgeScores.load(tmp_path)


def test_a_circuit_reads_back_as_it_was_written(tmp_path: Path) -> None:
    circuit = top_edges(scores([1.0, -4.0, 0.0, 3.0, 2.0]), 3)
    circuit.save(tmp_path / "circuit.json")
    read = Circuit.load(tmp_path / "circuit.json")
    assert (read.graph, read.edges, read.metadata) == (circuit.graph, circuit.edges, circuit.metadata)


def test_a_circuit_and_its_complement_are_all_edges() -> None:
    circuit = Circuit(GRAPH, (GRAPH.edges[3], GRAPH.edges[1], GRAPH.edges[1]))
    assert circuit.edges == (GRAPH.edges[1], GRAPH.edges[3])
    assert sorted((*circuit.edges, *circuit.complement().edges)) == sorted(GRAPH.edges)


def test_a_file_that_is_no_circuit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    for text, gaps in (
        ("{}", "`graph`, no `edges`, no `metadata`"),
        ('{"graph": {"pattern": "*"}}', "`edges`, no `metadata`"),
        ('{"graph": {}, "edges": [], "metadata": {}}', "`pattern`"),
    ):
        path.write_text(text)
        with pytest.raises(InputError) as refused:
            Circuit.load(path)
        assert refused.value.message == f"{path} is not a circuit: it has no {gaps}"
        assert "`tinysql circuit export` writes it" in refused.value.hint


def test_an_edge_that_the_graph_lacks_is_told_with_its_file_and_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    found = Circuit(GRAPH, GRAPH.edges[:1]).to_json()
    path.write_text(json.dumps({**found, "edges": ["embed -> blocks.14.attn.q.0"]}))
    with pytest.raises(InputError) as refused:
        Circuit.load(path)
    assert refused.value.message.startswith(f"{path}: edge `embed -> blocks.14.attn.q.0`: a model of ")
    assert "has no `blocks.14.attn.q.0`" in refused.value.message
    assert "`tinysql circuit export` writes it" in refused.value.hint


def test_the_table_says_how_sure_each_edge_is() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 5, generator=generator)
    rows[:, 1] -= 3
    (first, *rest) = scores(*rows.tolist()).table(5)
    assert first["edge"] == "embed -> blocks.0.attn.k.0"
    assert first["q"] < 0.001
    assert all(row["p"] <= row["q"] for row in (first, *rest))
    assert min(row["q"] for row in rest) > 0.05


def test_significant_edges_come_by_falling_size() -> None:
    rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    rows[:, 1] -= 2
    rows[:, 3] += 4
    assert [str(edge) for edge in scores(*rows.tolist()).significant(0.01)] == [
        "embed -> logits",
        "embed -> blocks.0.attn.k.0",
    ]


def test_a_score_that_is_not_finite_is_refused_with_its_edge_and_pair() -> None:
    with pytest.raises(InputError, match=r"eap score of edge `embed -> logits` on pair 1 is nan, and 1 more"):
        scores([1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, float("nan"), float("inf")])


def test_scores_of_another_shape_or_of_no_pair_are_refused() -> None:
    for shape in ((2, 3, 4), (0, 2, 4)):
        with pytest.raises(InputError, match="expected at least one example of 2 writers and 4 readers"):
            EdgeScores(graph=GRAPH, per_example=torch.zeros(shape), method="eap", metric="m", edit="e")


def test_scores_come_back_from_json_in_whatever_order_the_edges_stand() -> None:
    written = scores([1.0, -4.0, 0.1, 3.0, 2.0], [0.0, 1.0, 2.0, 3.0, 4.0])
    found = json.loads(json.dumps(written.to_json(), allow_nan=False))
    assert torch.equal(EdgeScores.from_json(found).per_example, written.per_example)
    turned = {
        **found,
        "edges": found["edges"][::-1],
        "per_example": [row[::-1] for row in found["per_example"]],
    }
    assert torch.equal(EdgeScores.from_json(turned).per_example, written.per_example)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"edges": ["embed -> logits"] * 5},
            "edge `embed -> logits` stands 5 times, expected each edge once",
        ),
        ({"edges": ["embed -> logits"], "per_example": [[1.0]]}, "name 1 of the graph's 5 edges"),
        ({"per_example": [[1.0, 2.0]]}, "expected for every example a list of 5 numbers"),
        ({"per_example": []}, "expected for every example a list of 5 numbers"),
        ({"per_example": [[float("nan")] * 5]}, "is nan"),
        ({"edges": ["embed"] * 5}, "is not an edge"),
        ({"graph": {}}, "not edge scores"),
        ({"metadata": None}, "the `metadata` of edge scores is None, expected names and values"),
    ],
)
def test_json_that_holds_no_scores_is_refused(change: dict, reason: str) -> None:
    found = scores([1.0, -4.0, 0.1, 3.0, 2.0]).to_json()
    with pytest.raises(InputError, match=reason):
        EdgeScores.from_json({**found, **change})


def test_what_is_left_of_a_circuit_keeps_what_made_it() -> None:
    circuit = Circuit(GRAPH, GRAPH.edges[:3], {"edit": "schema.table"})
    assert circuit.complement().metadata == circuit.connected().metadata == {"edit": "schema.table"}
