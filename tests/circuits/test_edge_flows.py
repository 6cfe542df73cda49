"""Flows of edges: they sum to the scores by role and to the edge's, and they find what is planted."""

from __future__ import annotations

import json
import math

import pytest
import torch

from circuits.files.flow_files import load_flows, save_flows
from circuits.graph import Edge, Graph
from circuits.methods.eap_ig import eap_ig
from circuits.methods.edge_flows import EdgeFlows, edge_flows
from circuits.methods.role_scores import role_scores
from circuits.tables import flow_table
from data_gen.errors import InputError


def test_parts_of_every_edge_sum_to_its_scores_by_role_and_to_its_score(
    random_case, shape, with_roles
) -> None:
    case = random_case(**shape)
    pairs = with_roles(case.pairs, lambda row, column: ("a", "b", "c")[column % 3])
    edges = Graph.of(case.model).edges
    found = edge_flows(case.model, pairs, edges, steps=2)
    whole, roles = eap_ig(case.model, pairs, steps=2), role_scores(case.model, pairs, steps=2)
    torch.testing.assert_close(found.per_example.sum((-2, -1)), whole.of_edges(), rtol=1e-4, atol=1e-5)
    mask = torch.from_numpy(roles.graph.mask)
    torch.testing.assert_close(
        found.per_example.sum(-1).mean(0), roles.values[:, mask].T, rtol=1e-4, atol=1e-5
    )
    between = found.per_example - torch.diag_embed(found.per_example.diagonal(dim1=-2, dim2=-1))
    carried = [number for number, edge in enumerate(edges) if any(p in edge.reader for p in (".v.", ".x."))]
    assert bool(carried) == bool(set(shape["pattern"]) & set("*M"))
    assert not carried or between[:, carried].abs().max() > 1e-4
    local = [
        number
        for number, edge in enumerate(edges)
        if edge.reader == "logits" or any(p in edge.reader for p in (".q.", ".mlp", ".moe"))
    ]
    assert between[:, local].abs().max() == 0


@pytest.mark.parametrize("name", ["copy-attention-name", "copy-mamba-name"])
def test_a_planted_copy_runs_from_the_name_to_the_question(name: str, copied_name) -> None:
    """What is carried furthest is read where the name stands, by a value, and put out at the last token."""
    case, pairs = copied_name(name)
    found = edge_flows(case.model, pairs, Graph.of(case.model).edges)
    row = max((row for row in found.largest(50) if row.source != row.target), key=lambda row: abs(row.score))
    assert (row.source, row.target) == ("name", "question")
    assert any(port in row.edge for port in ("attn.v.", "mamba.x."))
    assert row.low <= row.score <= row.high < 0


def test_batches_and_their_parts_give_the_same(random_case, monkeypatch, with_roles) -> None:
    case = random_case()
    pairs = with_roles(case.pairs, lambda row, column: ("even", "odd")[column % 2])
    edges = Graph.of(case.model).edges[::7]
    together = edge_flows(case.model, pairs, edges, steps=2).per_example
    monkeypatch.setattr("circuits.engine.attribution.CHANGE_BYTES", (1, 1))
    alone = edge_flows(case.model, pairs, edges, steps=2, batch_size=2).per_example
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)


def test_parts_of_one_edge_are_listed_by_falling_size(random_case, with_roles) -> None:
    case = random_case("*-*")
    pairs = with_roles(case.pairs, lambda row, column: ("even", "odd")[column % 2])
    edge = Edge("embed", "blocks.0.attn.v.0")
    found = edge_flows(case.model, pairs, [Edge("embed", "logits"), edge], steps=1)
    parts = found.of_edge(edge)
    assert {part.edge for part in parts} == {str(edge)}
    assert len(parts) == 4
    sizes = [abs(part.score) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(part.score for part in parts) == pytest.approx(
        float(found.per_example[:, 1].sum((1, 2)).mean())
    )


def test_what_cannot_be_followed_is_refused(random_case) -> None:
    case = random_case("*-")
    edge = Edge("embed", "logits")
    with pytest.raises(InputError, match="no edges to follow"):
        edge_flows(case.model, case.pairs, [])
    with pytest.raises(InputError, match="steps is 0"):
        edge_flows(case.model, case.pairs, [edge], steps=0)
    with pytest.raises(InputError, match=r"has no `blocks\.9\.mlp`"):
        edge_flows(case.model, case.pairs, [Edge("embed", "blocks.9.mlp")])


def test_files_say_each_edges_largest_parts_and_what_the_others_sum_to(
    random_case, tmp_path, with_roles
) -> None:
    case = random_case("*-*")
    pairs = with_roles(case.pairs, lambda row, column: ("a", "b", "c")[column % 3])
    edges = [Edge("embed", "blocks.0.attn.v.0"), Edge("blocks.0.attn.head.0", "logits")]
    found = edge_flows(case.model, pairs, edges, steps=1)
    save_flows(found, tmp_path)
    written = json.loads((tmp_path / "flows.json").read_text())
    assert written["roles"] == list(found.roles)
    assert [entry["edge"] for entry in written["edges"]] == [str(edge) for edge in edges]
    for number, entry in enumerate(written["edges"]):
        score = float(found.per_example[:, number].sum((1, 2)).mean())
        assert entry["score"] == pytest.approx(score)
        assert sum(part["score"] for part in entry["flows"]) + entry["others"] == pytest.approx(score)
    assert [part["from"] for part in written["edges"][0]["flows"]] == [
        part.source for part in found.of_edge(edges[0])
    ]
    assert load_flows(tmp_path) == {str(edge): found.of_edge(edge, 1)[0] for edge in edges}


def test_one_pair_has_no_interval(random_case, tmp_path) -> None:
    case = random_case("*-")
    edge = Edge("embed", "blocks.0.attn.v.0")
    save_flows(edge_flows(case.model, case.pairs[:1], [edge], steps=1), tmp_path)
    (entry,) = json.loads((tmp_path / "flows.json").read_text())["edges"]
    assert entry["flows"][0]["low"] is None
    assert math.isnan(load_flows(tmp_path)[str(edge)].low)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"edges"', "is not whole JSON"),
        ("{}", "holds no whole flows"),
        ('{"edges": [{"edge": "a -> b", "score": NaN}]}', "`edges.0.score` is nan, expected a finite number"),
        ('{"edges": [{"edge": "a -> b", "flows": [{"from": "x"}]}]}', "holds no whole flows"),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(tmp_path, text: str, reason: str) -> None:
    assert load_flows(tmp_path) == {}
    (tmp_path / "flows.json").write_text(text)
    with pytest.raises(InputError, match=reason) as refused:
        load_flows(tmp_path)
    assert "tinysql circuit find RUN --edit EDIT --by-role --overwrite" in refused.value.hint


def test_a_table_of_edges_that_carry_nothing_has_its_head_alone() -> None:
    nothing = EdgeFlows(
        edges=(Edge("embed", "logits"),),
        roles=("a",),
        per_example=torch.zeros(2, 1, 1, 1),
        metric="m",
        edit="x",
    )
    assert flow_table(nothing).split() == ["from", "to", "edge", "score", "95", "%", "interval"]
