"""JSON whose parts are of other types than a circuit's ends in a sentence of ours, never in one of Python's."""

import json
from pathlib import Path

import pytest
import torch

from circuits.circuit import Circuit
from circuits.files.exchange import from_graphml, read_circuit, to_dot, to_graphml
from circuits.graph import Graph
from circuits.role_circuit import RoleCircuit, RoleEdge
from circuits.scores import EdgeScores
from data_gen.errors import InputError

GRAPH = Graph(pattern="*", n_heads=1)
CIRCUIT = Circuit(GRAPH, GRAPH.edges[:2], {"edit": "schema.table"})
ROLE_CIRCUIT = RoleCircuit(GRAPH, (RoleEdge(GRAPH.edges[0], "schema.table", 1.0),), {"edit": "schema.table"})
SCORES = EdgeScores(
    graph=GRAPH, per_example=torch.zeros(2, *GRAPH.mask.shape), method="eap", metric="m", edit="schema.table"
)
WRONG = (3, None, True, "embed", [], {}, [3], {"a": 1}, [[]], [{}])
OF_PYTHON = ("Error(", "object is not", "object has no", "must be", "not subscriptable", "not iterable")


def refused(error: InputError) -> None:
    """One sentence that Python did not write, and a hint."""
    assert not any(part in error.message for part in OF_PYTHON), error.message
    assert "\n" not in error.message
    assert error.hint


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize(
    ("found", "name"),
    [
        *((CIRCUIT, name) for name in ("graph", "edges", "metadata")),
        *((ROLE_CIRCUIT, name) for name in ("graph", "role_edges", "metadata")),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_a_part_of_another_type_is_told_with_its_file(
    found: Circuit | RoleCircuit, name: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "circuit.json"
    path.write_text(json.dumps({**found.to_json(), name: value}))
    if (name.endswith("edges") and value == []) or (name == "metadata" and isinstance(value, dict)):
        assert type(found).load(path).graph == GRAPH  # no edges, or other metadata, are a circuit too
        return
    with pytest.raises(InputError) as raised:
        type(found).load(path)
    assert str(path) in raised.value.message
    refused(raised.value)


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", ["graph", "method", "metric", "edit", "metadata", "edges", "per_example"])
def test_scores_of_another_type_are_told(name: str, value: object) -> None:
    found = {**SCORES.to_json(), name: value}
    if (name == "metadata" and isinstance(value, dict)) or (
        name in ("method", "metric", "edit") and isinstance(value, str)
    ):
        assert getattr(EdgeScores.from_json(found), name) == value
        return
    with pytest.raises(InputError) as raised:
        EdgeScores.from_json(found)
    refused(raised.value)


@pytest.mark.parametrize("value", [3, None, "embed", [], [{}]], ids=repr)
@pytest.mark.parametrize("kind", [Circuit.load, RoleCircuit.load, read_circuit])
def test_what_is_no_object_is_told(kind, value: object, tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="holds a JSON .*, expected an object") as raised:
        kind(path)
    refused(raised.value)
    with pytest.raises(InputError) as raised:
        EdgeScores.from_json(value)
    refused(raised.value)


@pytest.mark.parametrize("name", ["edge", "role", "score"])
@pytest.mark.parametrize("value", [None, True, [], {}, 10**400], ids=lambda value: repr(value)[:8])
def test_a_role_aware_edge_with_a_part_of_another_type_is_told(
    name: str, value: object, tmp_path: Path
) -> None:
    written = ROLE_CIRCUIT.to_json()
    path = tmp_path / "circuit.json"
    path.write_text(json.dumps({**written, "role_edges": [{**written["role_edges"][0], name: value}]}))
    with pytest.raises(InputError) as raised:
        RoleCircuit.load(path)
    assert f"`{name}`" in raised.value.message or "score" in raised.value.message
    refused(raised.value)


@pytest.mark.parametrize("name", ["n_heads", "pattern"])
@pytest.mark.parametrize("value", ["x", 1.5, None, [], True], ids=repr)
def test_a_graph_of_other_types_is_told(name: str, value: object) -> None:
    with pytest.raises(InputError) as raised:
        Graph.from_json({**GRAPH.to_json(), name: value})
    refused(raised.value)


@pytest.mark.parametrize("text", ["3", "null", "[]", '"*"'])
@pytest.mark.parametrize("written", [to_graphml, to_dot])
def test_drawings_with_another_graph_or_metadata_are_told(written, text: str, tmp_path: Path) -> None:
    for part in (json.dumps(GRAPH.to_json()), json.dumps(CIRCUIT.metadata)):
        path = tmp_path / ("c.graphml" if written is to_graphml else "c.dot")
        whole = written(CIRCUIT)
        assert part in whole
        path.write_text(whole.replace(part, text))
        with pytest.raises(InputError) as raised:
            read_circuit(path)
        refused(raised.value)
    assert from_graphml(to_graphml(CIRCUIT)).edges == CIRCUIT.edges
