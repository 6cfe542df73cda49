"""Circuit <-> GraphML and DOT, RoleCircuit -> both: for networkx, Gephi, yEd and Graphviz, none needed here.

Writers and readers are nodes of their own (an MLP is both: `out:blocks.1.mlp` and `in:blocks.1.mlp`), and beside the
circuit's edges stand arcs of kind `feeds` from each reader to the writers computed from it, so that paths of the
drawing are paths of the model. Reading takes the edges of kind `edge` and the graph's own description.
A role-aware circuit has one arc for every role that an edge is kept at, and that role on it; it comes back as JSON
alone (`RoleCircuit.load`), and is never taken for a plain one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from circuits.circuit import AGAIN, Circuit, RoleAwareError, edges_of, metadata_of, role_aware, why
from circuits.graph import Edge, Graph
from circuits.paths import computed_by
from circuits.role_circuit import RoleCircuit
from data_gen.errors import InputError
from data_gen.files import write_atomic

_SPACE = "http://graphml.graphdrawing.org/xmlns"
_KEYS = {
    "graph": ("graph", "string"),
    "metadata": ("graph", "string"),
    "kind": ("all", "string"),
    "name": ("node", "string"),
    "block": ("node", "int"),
    "edge": ("edge", "string"),
    "score": ("edge", "double"),
}
"""By attribute: what carries it, and its type. `kind` is of nodes `writer` or `reader`, of edges `edge` or `feeds`."""
_ROLE_KEYS = {**_KEYS, "role": ("edge", "string")}
"""Those of a role-aware circuit: `role` is the one whose tokens the edge is kept at."""


class _Node(NamedTuple):
    id: str
    kind: str
    name: str
    block: int


class _Arc(NamedTuple):
    source: str
    target: str
    kind: str
    edge: str
    score: float | None
    role: str | None = None


def to_graphml(circuit: Circuit | RoleCircuit) -> str:
    """The circuit as a GraphML document; a role-aware one has the role on every arc of kind `edge`."""
    ElementTree.register_namespace("", _SPACE)
    root = ElementTree.Element(f"{{{_SPACE}}}graphml")
    for name, (owner, kind) in (_ROLE_KEYS if isinstance(circuit, RoleCircuit) else _KEYS).items():
        attributes = {"id": name, "for": owner, "attr.name": name, "attr.type": kind}
        ElementTree.SubElement(root, f"{{{_SPACE}}}key", attributes)
    graph = ElementTree.SubElement(root, f"{{{_SPACE}}}graph", {"id": "circuit", "edgedefault": "directed"})
    _data(graph, graph=json.dumps(circuit.graph.to_json()), metadata=json.dumps(circuit.metadata))
    nodes, arcs = _drawing(circuit)
    for node in nodes:
        element = ElementTree.SubElement(graph, f"{{{_SPACE}}}node", {"id": node.id})
        _data(element, kind=node.kind, name=node.name, block=node.block)
    for arc in arcs:
        ends = {"source": arc.source, "target": arc.target}
        element = ElementTree.SubElement(graph, f"{{{_SPACE}}}edge", ends)
        _data(element, kind=arc.kind, edge=arc.edge or None, role=arc.role, score=arc.score)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def from_graphml(document: str | bytes) -> Circuit:
    """Inverse of `to_graphml`; attributes are told by their names, so a file that networkx wrote again is read too.

    Raises `InputError` for what is no GraphML, no circuit, a role-aware one, or declares a document type: entities,
    which can make a small file large or read other files, are declared there.
    """
    root = _parse(document)
    names = {key.get("id"): key.get("attr.name") for key in root.iter(f"{{{_SPACE}}}key")}
    graph = root.find(f"{{{_SPACE}}}graph")
    if graph is None:
        raise InputError("the GraphML document holds no graph", hint=AGAIN)

    def attributes(element: ElementTree.Element) -> dict[str | None, str]:
        return {names.get(data.get("key")): data.text or "" for data in element.findall(f"{{{_SPACE}}}data")}

    rows = [attributes(edge) for edge in graph.findall(f"{{{_SPACE}}}edge")]
    about = attributes(graph)
    if any("role" in row for row in rows):
        raise role_aware("the GraphML document", *(_value(about.get(name)) for name in ("metadata", "graph")))
    _check_kinds("GraphML document", [row.get("kind") for row in rows])
    edges = [row.get("edge", "") for row in rows if row.get("kind") == "edge"]
    return _circuit("GraphML document", about.get("graph"), about.get("metadata"), edges)


def to_dot(circuit: Circuit | RoleCircuit) -> str:
    """The circuit as a DOT graph, one statement per line; a role-aware one has roles on its edges, as labels too."""
    nodes, arcs = _drawing(circuit)
    head = {"graph": json.dumps(circuit.graph.to_json()), "metadata": json.dumps(circuit.metadata)}
    lines = ["digraph circuit {", "  rankdir=BT;"]
    # DOT has no attributes of one's own for the graph but comments, which every reader of DOT skips.
    lines += [f"  // {name}: {text}" for name, text in head.items()]
    lines += [
        f'  "{node.id}" [label="{node.name}" shape={"box" if node.kind == "writer" else "ellipse"}];'
        for node in nodes
    ]
    for arc in arcs:
        known = "" if arc.score is None else f' score="{arc.score!r}"'
        if arc.role is not None:
            role = arc.role.replace("\\", "\\\\").replace('"', '\\"')
            known = f' role="{role}" label="{role}"{known}'
        shown = f"kind={arc.kind}{known}" if arc.kind == "edge" else "kind=feeds style=dotted"
        lines.append(f'  "{arc.source}" -> "{arc.target}" [{shown}];')
    return "\n".join([*lines, "}"]) + "\n"


def from_dot(text: str) -> Circuit:
    """Inverse of `to_dot`: reads what it wrote of a plain circuit. Raises `InputError` for anything else."""
    if not text.strip():
        raise InputError("the DOT file is empty", hint=AGAIN)
    about = dict(re.findall(r"^  // (graph|metadata): (.*)$", text, re.MULTILINE))
    # A file that was cut between two statements would else be a smaller circuit.
    if "graph" in about and text.rstrip().splitlines()[-1] != "}":
        raise InputError("the DOT file is cut short: its last line is no `}`", hint=AGAIN)
    found = re.findall(r'^ *"([^"]+)" -> "([^"]+)"(?: \[kind=(\w+)( role=)?)?', text, re.MULTILINE)
    if any(role for *_, role in found):
        raise role_aware("the DOT file", *(_value(about.get(name)) for name in ("metadata", "graph")))
    arcs = [arc[:3] for arc in found]
    _check_kinds("DOT file", [kind for *_, kind in arcs])
    edges = [
        f"{source.removeprefix('out:')} -> {target.removeprefix('in:')}"
        for source, target, kind in arcs
        if kind == "edge"
    ]
    return _circuit("DOT file", about.get("graph"), about.get("metadata"), edges)


def write_circuit(circuit: Circuit | RoleCircuit, path: str | Path) -> None:
    """Write `.json`, `.graphml` or `.dot` by the path's suffix, whole or not at all.

    A role-aware circuit is read again from JSON alone, by `RoleCircuit.load`. Raises `InputError` for another suffix.
    """
    kind = _suffix(path)
    if kind == ".json":
        circuit.save(path)
    else:
        write_atomic(path, to_graphml(circuit) if kind == ".graphml" else to_dot(circuit))


def read_circuit(path: str | Path) -> Circuit:
    """Inverse of `write_circuit`. Raises `InputError` for a file that is missing, cut short or no plain circuit."""
    kind = _suffix(path)
    if kind == ".json":
        return Circuit.load(path)
    try:
        found = Path(path).read_bytes()
        return from_graphml(found) if kind == ".graphml" else from_dot(found.decode())
    except RoleAwareError as error:
        raise RoleAwareError(f"{path}: {error.message}", error.hint, error.graph) from error
    except InputError as error:  # a document does not know where it stands, and two may be compared
        raise InputError(f"{path}: {error.message}", hint=error.hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read `{path}`: {error}", hint="check the path") from error


def _suffix(path: str | Path) -> str:
    found = Path(path).suffix.lower()
    if found not in (".json", ".graphml", ".dot"):
        ends = f"ends in {found!r}" if found else "has no ending"
        raise InputError(f"`{path}` {ends}, expected a circuit's", hint="known: .json, .graphml, .dot")
    return found


def _drawing(circuit: Circuit | RoleCircuit) -> tuple[list[_Node], list[_Arc]]:
    """Every writer and reader that an edge of the circuit touches, and their arcs."""
    graph, arcs = circuit.graph, _edge_arcs(circuit)
    writers = {arc.source.removeprefix("out:") for arc in arcs}
    readers = {arc.target.removeprefix("in:") for arc in arcs}
    nodes = [
        *(
            _Node(f"out:{one.name}", "writer", one.name, one.block)
            for one in graph.writers
            if one.name in writers
        ),
        *(
            _Node(f"in:{one.name}", "reader", one.name, one.block)
            for one in graph.readers
            if one.name in readers
        ),
    ]
    for row, columns in computed_by(graph).items():
        writer = graph.writers[row].name
        arcs += [
            _Arc(f"in:{graph.readers[column].name}", f"out:{writer}", "feeds", "", None)
            for column in columns
            if writer in writers and graph.readers[column].name in readers
        ]
    return nodes, arcs


def _edge_arcs(circuit: Circuit | RoleCircuit) -> list[_Arc]:
    """One arc of kind `edge` for each edge, or for each role-aware one."""
    if isinstance(circuit, RoleCircuit):
        return [_arc(part.edge, part.score, part.role) for part in circuit.parts]
    scores = circuit.metadata.get("scores", {})
    return [_arc(edge, scores.get(str(edge)), None) for edge in circuit.edges]


def _arc(edge: Edge, score: float | None, role: str | None) -> _Arc:
    return _Arc(f"out:{edge.writer}", f"in:{edge.reader}", "edge", str(edge), score, role)


def _value(text: str | None) -> object:
    """A JSON value in a file that is refused, for the sentence alone: None where it cannot be read."""
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None


def _check_kinds(what: str, kinds: Iterable[str | None]) -> None:
    """Raises `InputError` for an arc that is neither an edge nor says what feeds what: it would be left out unsaid."""
    for number, kind in enumerate(kinds):
        if kind not in ("edge", "feeds"):
            raise InputError(
                f"arc {number} of the {what} is of kind {kind or 'none'}, expected `edge` or `feeds`",
                hint=AGAIN,
            )


def _circuit(what: str, graph: str | None, metadata: str | None, edges: Iterable[str]) -> Circuit:
    if graph is None:
        raise InputError(f"the {what} does not say which graph its edges are of", hint=AGAIN)
    try:
        about = metadata_of(json.loads(metadata or "{}"))
        return Circuit(Graph.from_json(json.loads(graph)), edges_of(edges), about)
    except InputError as error:
        raise InputError(error.message, hint=error.hint or AGAIN) from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"the {what} holds no circuit: {why(error)}", hint=AGAIN) from error


def _data(element: ElementTree.Element, **values: str | int | float | None) -> None:
    for name, value in values.items():
        if value is not None:
            text = value if isinstance(value, str) else repr(value)
            ElementTree.SubElement(element, f"{{{_SPACE}}}data", {"key": name}).text = text


def _parse(document: str | bytes) -> ElementTree.Element:
    def refuse(*declared: object) -> None:
        raise InputError(
            "the GraphML document declares a document type, which circuits do not need and which can hide entities",
            hint="remove its <!DOCTYPE ...>",
        )

    data = document.encode() if isinstance(document, str) else document
    if not data.strip():
        raise InputError("the GraphML document is empty", hint=AGAIN)
    # The declaration stands in front of the elements, so this stops before any entity is expanded.
    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = refuse
    try:
        guard.Parse(data, True)
        return ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"not whole XML ({error})", hint=AGAIN) from error
