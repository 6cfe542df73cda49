"""A role-aware circuit is written and read again, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from circuits.circuit import Circuit
from circuits.files.exchange import read_circuit
from circuits.graph import Edge, Graph
from circuits.judging.role_curves import evaluate_by_role, top_parts, top_role_edges
from circuits.methods.role_scores import role_scores
from circuits.role_circuit import RoleCircuit, RoleEdge
from data_gen.errors import InputError

GRAPH = Graph("*-", n_heads=2, n_kv_heads=2)
FIRST, SECOND = Edge("embed", "blocks.0.attn.v.1"), Edge("blocks.0.attn.head.1", "logits")


@pytest.fixture
def circuit() -> RoleCircuit:
    parts = (RoleEdge(SECOND, "sql.from", -2.5), RoleEdge(FIRST, "schema.table", 1.25))
    return RoleCircuit(GRAPH, (*parts, RoleEdge(FIRST, "english.table", 0.5)), {"edit": "schema.table"})


def test_what_is_written_is_read_again(circuit: RoleCircuit, tmp_path: Path) -> None:
    circuit.save(tmp_path / "c.json")
    found = RoleCircuit.load(tmp_path / "c.json")
    assert (found.graph, found.parts, found.metadata) == (circuit.graph, circuit.parts, circuit.metadata)
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]


def test_the_top_role_edges_are_the_top_parts(copied_name, tmp_path: Path) -> None:
    case, pairs = copied_name("copy-attention-name")
    scores = role_scores(case.model, pairs)
    top_role_edges(scores, 7, {"method": "eap-ig"}).save(tmp_path / "c.json")
    found = RoleCircuit.load(tmp_path / "c.json")
    np.testing.assert_array_equal(found.mask(scores.roles), top_parts(scores, 7))
    sizes = [abs(part.score) for part in found.parts]
    assert sizes == sorted(sizes, reverse=True)
    assert found.metadata == {"metric": "logit_diff", "edit": pairs.edit, "method": "eap-ig"}


def test_its_edges_are_a_plain_circuit(circuit: RoleCircuit) -> None:
    assert set(circuit.circuit.edges) == {FIRST, SECOND}
    assert len(circuit) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"role_edges": 3}, "is not a role-aware circuit"),
        ({"role_edges": [{"edge": str(FIRST)}]}, "is not a role-aware circuit"),
        ({"role_edges": [{"edge": "nothing", "role": "a", "score": 1}]}, "is not an edge"),
        ({"role_edges": [{"edge": "embed -> nowhere", "role": "a", "score": 1}]}, "has no `nowhere`"),
        ({"role_edges": [{"edge": str(FIRST), "role": "a", "score": 1}] * 2}, "stands twice at role `a`"),
        ({"role_edges": [{"edge": str(FIRST), "role": "a", "score": float("nan")}]}, "expected a number"),
        ({"graph": {}}, "is not a role-aware circuit"),
        ({"metadata": []}, "expected names and values"),
    ],
)
def test_a_file_that_is_none_is_refused(circuit: RoleCircuit, tmp_path: Path, change, reason: str) -> None:
    (tmp_path / "c.json").write_text(json.dumps({**circuit.to_json(), **change}))
    with pytest.raises(InputError, match=reason):
        RoleCircuit.load(tmp_path / "c.json")


def test_a_plain_circuit_is_no_role_aware_one_nor_the_other_way_round(
    circuit: RoleCircuit, tmp_path: Path
) -> None:
    circuit.save(tmp_path / "roles.json")
    circuit.circuit.save(tmp_path / "plain.json")
    with pytest.raises(InputError, match="is not a role-aware circuit"):
        RoleCircuit.load(tmp_path / "plain.json")
    for read in (Circuit.load, read_circuit):
        with pytest.raises(InputError, match="is a role-aware circuit, and here"):
            read(tmp_path / "roles.json")


def test_a_circuit_that_the_scores_do_not_know_is_refused(copied_name, circuit: RoleCircuit) -> None:
    case, pairs = copied_name("copy-attention-name")
    scores = role_scores(case.model, pairs, steps=1)
    with pytest.raises(InputError, match="the role-aware circuit belongs to a model of"):
        evaluate_by_role(case.model, circuit, scores, pairs)
    found = top_role_edges(scores, 1)
    elsewhere = replace(found, parts=(found.parts[0]._replace(role="sql.nowhere"),))
    with pytest.raises(InputError, match="of which there are no scores"):
        evaluate_by_role(case.model, elsewhere, scores, pairs)
