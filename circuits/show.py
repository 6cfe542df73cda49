"""Circuit or EdgeScores -> interactive graph; two circuits -> what only one of them has."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from circuits.circuit import Circuit
from circuits.drawing.edges import Drawn, Stroke, edge_figure
from circuits.drawing.facts import edge_facts
from circuits.drawing.style import LOWERS, NEUTRAL, RAISES
from circuits.judging.compare import compare
from circuits.methods.edge_flows import EdgeFlow
from circuits.methods.role_scores import RoleScores
from circuits.scores import EdgeScores
from circuits.select import top_edges

PLAIN = Stroke(NEUTRAL, 1.5)
"""An edge without a score."""


def show(
    found: Circuit | EdgeScores,
    *,
    scores: EdgeScores | None = None,
    roles: RoleScores | None = None,
    flows: Mapping[str, EdgeFlow] | None = None,
    top: int = 40,
    title: str | None = None,
) -> go.Figure:
    """Draw a circuit, or the `top` edges of scores: blocks upwards, a block's heads or experts side by side.

    Width grows with the root of |score|. Blue solid: the edge's corrupt value lowers the metric, so the edge
    carries the behaviour; orange dashed: it raises it. Without scores all edges look alike. The slider keeps the
    strongest edges. Hover an edge or a node: a circuit's `scores` add interval and q value, `roles` the role of the
    tokens at which the edge is read most, and `flows`, by the edge's name, between which roles its largest part runs.
    Raises `InputError` for scores or roles of another graph.
    """
    if isinstance(found, EdgeScores):
        circuit, scores = top_edges(found, min(top, len(found.graph.edges))), found
    else:
        circuit = found
    weights = _weights(circuit, scores)
    edges = sorted(circuit.edges, key=lambda edge: -abs(weights.get(str(edge), 0.0)))
    largest = max((abs(weights.get(str(edge), 0.0)) for edge in edges), default=0.0) or 1.0
    facts = edge_facts(circuit.graph, edges, weights, scores, roles, flows)
    drawn = [
        Drawn(edge, _stroke(weights.get(str(edge)), largest), text)
        for edge, text in zip(edges, facts, strict=True)
    ]
    legend = (
        {
            "corrupt value lowers the metric: carries the behaviour": Stroke(LOWERS, 3.0),
            "corrupt value raises the metric": Stroke(RAISES, 3.0, "dash"),
        }
        if weights
        else {"edge of the circuit": PLAIN}
    )
    return edge_figure(circuit.graph, drawn, legend, title or _title(circuit))


def show_difference(
    first: Circuit, second: Circuit, *, names: tuple[str, str] = ("first", "second"), title: str | None = None
) -> go.Figure:
    """Draw two circuits of one graph over each other: edges of both grey, of the first blue, of the second dashed.

    Width grows with the root of |score|, each circuit's by its own largest; an edge of both has the mean of the two.
    Hover says both scores. Raises `InputError` when the circuits are of different graphs.
    """
    shared = compare(first, second)
    kinds = {
        f"only {names[0]}: {len(shared.only_first)}": Stroke(LOWERS, 3.0),
        f"only {names[1]}: {len(shared.only_second)}": Stroke(RAISES, 3.0, "dash"),
        f"both: {shared.shared}": Stroke(NEUTRAL, 3.0, "dot"),
    }
    sides = [(circuit, *_shares(circuit)) for circuit in (first, second)]
    members = [set(circuit.edges) for circuit in (first, second)]
    drawn = []
    for edge in {*first.edges, *second.edges}:
        inside = [edge in those for those in members]
        color, _, dash = list(kinds.values())[2 if all(inside) else inside.index(True)]
        sizes = [
            shares.get(str(edge), 0.0) for (_, _, shares), here in zip(sides, inside, strict=True) if here
        ]
        lines = [str(edge).replace("->", "→")]
        for (_, weights, _), here, name in zip(sides, inside, names, strict=True):
            known = f": {weights[str(edge)]:.4g}" if str(edge) in weights else ""
            lines.append(f"{name}{known}" if here else f"not in {name}")
        size = sum(sizes) / len(sizes)
        drawn.append((size, Drawn(edge, Stroke(color, 0.6 * _width(size), dash), "<br>".join(lines))))
    order = [one for _, one in sorted(drawn, key=lambda pair: (-pair[0], pair[1].edge))]
    made = f"{names[0]} and {names[1]}: Jaccard index {shared.jaccard:.2f}, by chance {shared.chance_jaccard:.2f}"
    return edge_figure(first.graph, order, kinds, title or made)


def _weights(circuit: Circuit, scores: EdgeScores | None) -> Mapping[str, float]:
    """Mean scores by the edge's text: those given, or those in the circuit's metadata."""
    if scores is None or scores.graph != circuit.graph:
        found: Mapping[str, float] = circuit.metadata.get("scores", {})
        return found
    values = scores.values
    return {str(edge): float(values[scores.graph.index(edge)]) for edge in circuit.edges}


def _shares(circuit: Circuit) -> tuple[Mapping[str, float], dict[str, float]]:
    """Scores of a circuit's edges, and their sizes over the largest; 1 where there is no score."""
    weights = _weights(circuit, None)
    largest = max((abs(weight) for weight in weights.values()), default=0.0) or 1.0
    names = [str(edge) for edge in circuit.edges]
    return weights, {name: abs(weights.get(name, largest)) / largest for name in names}


def _stroke(weight: float | None, largest: float) -> Stroke:
    if weight is None:
        return PLAIN
    return Stroke(
        LOWERS if weight < 0 else RAISES, _width(abs(weight) / largest), "solid" if weight < 0 else "dash"
    )


def _width(size: float) -> float:
    """Pixels of an edge whose |score| is this share of the largest."""
    return round(0.8 + 6 * size**0.5, 2)


def _title(circuit: Circuit) -> str:
    about = circuit.metadata
    made = f" for {about['edit']}, by {about['method']}" if {"edit", "method"} <= about.keys() else ""
    return f"{len(circuit)} of {len(circuit.graph.edges)} edges{made}"
