"""A role-aware circuit is written and read again, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jaxtyping
import numpy as np
import pytest

from circuits.circuit import Circuit
from circuits.files.exchange import read_circuit, to_dot, to_graphml, write_circuit
from circuits.files.export import exported_by_role
from circuits.graph import Edge, Graph
from circuits.judging.role_curves import evaluate_by_role, top_parts, top_role_edges
from circuits.methods.role_scores import role_scores
from circuits.role_circuit import RoleCircuit, RoleEdge
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM

GRAPH = Graph("*-", n_heads=2, n_kv_heads=2)
SPACE = "{http://graphml.graphdrawing.org/xmlns}"
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
        ({"role_edges": 3}, "`role_edges` are 3, expected a list of edges"),
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


@pytest.mark.parametrize(
    ("found", "gaps"),
    [
        ({}, "`graph`, no `role_edges`, no `metadata`"),
        ({"graph": {}, "role_edges": [], "metadata": {}}, "`pattern`"),
        ({"graph": {"pattern": "*"}, "role_edges": [{"edge": "a -> b"}], "metadata": {}}, "`role`"),
    ],
)
def test_what_a_file_lacks_is_said_by_name_and_what_writes_one(tmp_path: Path, found, gaps: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(found))
    with pytest.raises(InputError) as refused:
        RoleCircuit.load(file)
    assert refused.value.message == f"{file} is not a role-aware circuit: it has no {gaps}"
    assert "tinysql circuit find RUN --edit EDIT --by-role" in refused.value.hint


def test_a_part_that_is_wrong_is_told_with_its_file_and_a_hint(circuit: RoleCircuit, tmp_path: Path) -> None:
    file, edge = tmp_path / "c.json", "embed -> blocks.14.attn.q.0"
    change = {"role_edges": [{"edge": edge, "role": "a", "score": 1}]}
    file.write_text(json.dumps({**circuit.to_json(), **change}))
    with pytest.raises(InputError) as refused:
        RoleCircuit.load(file)
    assert refused.value.message.startswith(f"{file}: edge `{edge}`: a model of ")
    assert "tinysql circuit find" in refused.value.hint


def test_a_plain_circuit_is_no_role_aware_one_nor_the_other_way_round(
    circuit: RoleCircuit, tmp_path: Path
) -> None:
    circuit.save(tmp_path / "roles.json")
    circuit.circuit.save(tmp_path / "plain.json")
    with pytest.raises(InputError) as refused:
        RoleCircuit.load(tmp_path / "plain.json")
    assert refused.value.message == (
        f"{tmp_path / 'plain.json'} is not a role-aware circuit: it has no `role_edges`, but the `edges` of a plain one"
    )
    assert "export RUN --edit EDIT --by-role` writes a role-aware one" in refused.value.hint
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


def arcs_of(circuit: RoleCircuit) -> list[dict[str | None, str | None]]:
    """What a GraphML document says of each arc, by the declared names."""
    root = ElementTree.fromstring(to_graphml(circuit))
    names = {key.get("id"): key.get("attr.name") for key in root.iter(f"{SPACE}key")}
    return [
        {
            "ends": f"{edge.get('source')} -> {edge.get('target')}",
            **{names[data.get("key")]: data.text for data in edge},
        }
        for edge in root.iter(f"{SPACE}edge")
    ]


def test_graphml_has_one_arc_for_every_role_an_edge_is_kept_at(circuit: RoleCircuit) -> None:
    value = "out:embed -> in:blocks.0.attn.v.1"
    assert arcs_of(circuit) == [
        {
            "ends": "out:blocks.0.attn.head.1 -> in:logits",
            "kind": "edge",
            "edge": str(SECOND),
            "role": "sql.from",
            "score": "-2.5",
        },
        {"ends": value, "kind": "edge", "edge": str(FIRST), "role": "schema.table", "score": "1.25"},
        {"ends": value, "kind": "edge", "edge": str(FIRST), "role": "english.table", "score": "0.5"},
        {"ends": "in:blocks.0.attn.v.1 -> out:blocks.0.attn.head.1", "kind": "feeds"},
    ]
    root = ElementTree.fromstring(to_graphml(circuit))
    declared = {key.get("id"): (key.get("for"), key.get("attr.type")) for key in root.iter(f"{SPACE}key")}
    assert declared["role"] == ("edge", "string")
    about = {data.get("key"): data.text for data in root.find(f"{SPACE}graph").findall(f"{SPACE}data")}
    assert json.loads(about["metadata"]) == circuit.metadata
    assert Graph.from_json(json.loads(about["graph"])) == GRAPH


def test_dot_writes_the_role_on_every_edge_and_quotes_it(circuit: RoleCircuit) -> None:
    lines = to_dot(circuit).splitlines()
    kept = '"out:embed" -> "in:blocks.0.attn.v.1" [kind=edge'
    assert f'  {kept} role="schema.table" label="schema.table" score="1.25"];' in lines
    assert f'  {kept} role="english.table" label="english.table" score="0.5"];' in lines
    assert sum("kind=edge" in line for line in lines) == 3
    odd = RoleCircuit(GRAPH, (RoleEdge(FIRST, 'a "b" \\c', 1.0),))
    assert (
        f'  {kept} role="a \\"b\\" \\\\c" label="a \\"b\\" \\\\c" score="1.0"];' in to_dot(odd).splitlines()
    )


@pytest.mark.parametrize("suffix", ["json", "graphml", "dot"])
def test_what_goes_out_with_roles_is_never_read_as_a_plain_circuit(
    circuit: RoleCircuit, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"c.{suffix}"
    write_circuit(circuit, file)
    said = rf"{file}.* is a role-aware circuit.*\nhint: .* --edit schema.table --by-role"
    with pytest.raises(InputError, match=said):
        read_circuit(file)
    # Its edges alone are one, and they are read.
    write_circuit(circuit.circuit, file)
    assert set(read_circuit(file).edges) == {FIRST, SECOND}


@pytest.mark.parametrize("suffix", ["graphml", "dot"])
def test_a_role_is_refused_whatever_became_of_the_metadata(
    circuit: RoleCircuit, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"c.{suffix}"
    write_circuit(circuit, file)
    file.write_text(file.read_text().replace('{"edit": "schema.table"}', "{"))
    with pytest.raises(InputError, match="is a role-aware circuit.*\nhint: .* --edit EDIT --by-role"):
        read_circuit(file)


def test_exported_by_role_is_what_the_writers_write_and_scores_have_no_roles(circuit: RoleCircuit) -> None:
    assert json.loads(exported_by_role(circuit, "json")) == circuit.to_json()
    assert exported_by_role(circuit, "graphml") == to_graphml(circuit)
    assert exported_by_role(circuit, "dot") == to_dot(circuit)
    for kind in ("mib", "scores"):
        with pytest.raises(
            InputError, match=f"format `{kind}` holds no roles\nhint: .* json, graphml or dot"
        ):
            exported_by_role(circuit, kind)


def test_a_circuit_of_another_graph_is_refused(circuit: RoleCircuit) -> None:
    circuit.check_belongs(GRAPH)
    with pytest.raises(InputError, match="the role-aware circuit belongs to a model of"):
        circuit.check_belongs(Graph("*-", n_heads=4, n_kv_heads=4))


def test_what_is_no_graph_is_refused_in_one_sentence_that_asks_for_one(
    circuit: RoleCircuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests' check of types would speak first; a user has none.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = HybridLM(ModelConfig(pattern="*-", d_model=8, n_heads=2, d_head=4, d_vocab=5, n_ctx=8))
    circuit.check_belongs(Graph.of(model))
    for one in (circuit, circuit.circuit):
        for other in (model, model.cfg, "*-", None):
            with pytest.raises(InputError) as refused:
                one.check_belongs(other)
            assert refused.value.message.endswith(
                f" is held against a graph, and this is a {type(other).__name__}"
            )
            assert refused.value.hint.endswith("check_belongs(circuits.Graph.of(model))")


@pytest.mark.parametrize("role", ["", "a\nb", "a\x00"])
def test_a_role_that_cannot_be_printed_is_refused(role: str) -> None:
    with pytest.raises(InputError, match="cannot be printed"):
        RoleCircuit(GRAPH, (RoleEdge(FIRST, role, 1.0),))
