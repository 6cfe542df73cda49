"""Circuit or EdgeScores -> interactive graph; Curve -> figure of faithfulness against size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from circuits.circuit import Circuit
from circuits.graph import Edge, Graph
from circuits.judging.faithfulness import Curve
from circuits.scores import EdgeScores
from circuits.select import top_edges

# Okabe-Ito colours, told apart by colour-blind readers; the dashes say the same once more.
LOWERS, RAISES, NEUTRAL, FAINT = "#0072b2", "#d55e00", "#555555", "#d9d9d9"
WIDTH, HEIGHT = 900, 600
PORT_OFFSETS = {"q": -0.12, "k": 0.0, "v": 0.12}
NODE_TOP, NODE_FOOT = 0.24, 0.37
"""Where edges leave and reach a node, in rows."""
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#222222"}


class Point(NamedTuple):
    x: float
    y: float


def show(found: Circuit | EdgeScores, *, top: int = 40, title: str | None = None) -> go.Figure:
    """Draw a circuit, or the `top` edges of scores, as layers: blocks upwards, heads side by side.

    Width grows with the root of |score|. Blue solid: the edge's corrupt value lowers the metric, so the edge
    carries the behaviour; orange dashed: it raises it. Without scores all edges look
    alike. Hover a node or the dot on an edge.
    """
    circuit = top_edges(found, min(top, len(found.graph.edges))) if isinstance(found, EdgeScores) else found
    graph, weights = circuit.graph, circuit.metadata.get("scores", {})
    largest = max((abs(weight) for weight in weights.values()), default=0.0) or 1.0
    figure = go.Figure()
    for edge in sorted(circuit.edges, key=lambda edge: abs(weights.get(str(edge), 0.0))):
        figure.add_trace(_line(graph, edge, weights.get(str(edge)), largest))
    if circuit.edges:
        figure.add_trace(_edge_dots(graph, circuit.edges, weights))
    figure.add_trace(_nodes(graph, circuit.edges))
    if graph.n_heads <= 8 and "*" in graph.pattern:
        figure.add_trace(_ports(graph))
    for trace in _legend(bool(weights)):
        figure.add_trace(trace)
    figure.update_layout(_layout(title or _title(circuit)))
    figure.update_layout(height=max(HEIGHT, 150 + 55 * (len(graph.pattern) + 2)))
    figure.update_xaxes(visible=False, range=[-0.7, _columns(graph) - 0.3])
    rows = ["embed", *(_row(i, kind) for i, kind in enumerate(graph.pattern)), "logits"]
    figure.update_yaxes(
        tickvals=list(range(-1, len(graph.pattern) + 1)),
        ticktext=rows,
        range=[-1.5, len(graph.pattern) + 0.5],
        showgrid=False,
        zeroline=False,
    )
    return figure


def faithfulness_figure(curve: Curve, *, title: str | None = None) -> go.Figure:
    """Faithfulness against the number of edges (log scale), above the band of random circuits."""
    sizes = [point.n_edges for point in curve.points]
    figure = go.Figure([*_band(curve, sizes), _faithfulness_line(curve, sizes)])
    for level, text in ((1, "full model"), (0, "corrupt run")):
        figure.add_hline(y=level, line={"color": "#222222", "width": 1, "dash": "dash"})
        # Outside the axes, so that no curve runs through the words.
        figure.add_annotation(
            x=1.01, xref="paper", xanchor="left", y=level, text=text, showarrow=False, font={"size": 12}
        )
    figure.update_layout(
        _layout(title or f"Faithfulness on {curve.edit}, {curve.n_pairs} held-out pairs, {curve.metric}")
    )
    figure.update_layout(margin={"r": 100})
    figure.update_xaxes(
        type="log",
        tickvals=sizes,
        ticktext=[str(size) if _has_room(size, sizes[-1]) else "" for size in sizes],
        tickangle=0,
        title=f"edges in the circuit, of {curve.n_edges_model} (log scale)",
        gridcolor="#eeeeee",
    )
    figure.update_yaxes(title="faithfulness", gridcolor="#eeeeee", zeroline=False)
    return figure


def _band(curve: Curve, sizes: list[int]) -> tuple[go.Scatter, go.Scatter]:
    """The random circuits' percentiles and mean."""
    bands = [point.random for point in curve.points]
    area = go.Scatter(
        x=[*sizes, *reversed(sizes)],
        y=[*(band.high for band in bands), *(band.low for band in reversed(bands))],
        mode="lines",
        fill="toself",
        fillcolor="rgba(85, 85, 85, 0.2)",
        line={"width": 0},
        hoverinfo="skip",
        name=f"{curve.random_circuits} random circuits, 5–95 %",
    )
    mean = go.Scatter(
        x=sizes,
        y=[band.mean for band in bands],
        mode="lines",
        line={"color": NEUTRAL, "dash": "dot"},
        name="random circuits, mean",
    )
    return area, mean


def _faithfulness_line(curve: Curve, sizes: list[int]) -> go.Scatter:
    values = [point.faithfulness for point in curve.points]
    return go.Scatter(
        x=sizes,
        y=[value.value for value in values],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [value.high - value.value for value in values],
            "arrayminus": [value.value - value.low for value in values],
            "thickness": 1.2,
        },
        mode="lines+markers",
        line={"color": LOWERS, "width": 2.5},
        name=f"top edges by {curve.method}, 95 % interval",
        hovertemplate="%{x} edges: %{y:.3f}<extra></extra>",
    )


def _has_room(size: int, last: int) -> bool:
    """Whether a tick's number stands clear of the last one's on the log axis."""
    return size == last or last / size > 1.25


def _layout(title: str) -> dict[str, object]:
    return {
        "title": {"text": title, "x": 0.02, "font": {"size": 16}},
        "font": FONT,
        "width": WIDTH,
        "height": HEIGHT,
        "plot_bgcolor": "white",
        "paper_bgcolor": "white",
        "margin": {"l": 110, "r": 30, "t": 60, "b": 90},
        "legend": {"orientation": "h", "y": -0.14, "x": 0, "yanchor": "top"},
        "hovermode": "closest",
    }


def _title(circuit: Circuit) -> str:
    about = circuit.metadata
    made = f" for {about['edit']}, by {about['method']}" if {"edit", "method"} <= about.keys() else ""
    return f"{len(circuit)} of {len(circuit.graph.edges)} edges{made}"


def _row(block: int, kind: str) -> str:
    return f"{block} {'attention' if kind == '*' else 'MLP'}"


def _columns(graph: Graph) -> int:
    return graph.n_heads if "*" in graph.pattern else 1


def _place(graph: Graph, name: str) -> Point:
    """Where a writer's or reader's node stands."""
    middle = (_columns(graph) - 1) / 2
    if name in ("embed", "logits"):
        return Point(middle, -1 if name == "embed" else len(graph.pattern))
    parts = name.split(".")
    return Point(float(parts[-1]) if parts[2] == "attn" else middle, float(parts[1]))


def _ends(graph: Graph, edge: Edge) -> tuple[Point, Point]:
    """From the top of the writer's node to the bottom of the reader's, or of its q, k or v."""
    start, end = _place(graph, edge.writer), _place(graph, edge.reader)
    is_port = ".attn." in edge.reader
    port, foot = (edge.reader.split(".")[3], NODE_FOOT) if is_port else ("k", NODE_TOP)
    return Point(start.x, start.y + NODE_TOP), Point(end.x + PORT_OFFSETS[port], end.y - foot)


def _bend(graph: Graph, edge: Edge, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the edge's curve at `share` of its length; long edges swing out to pass the nodes between."""
    start, end = _ends(graph, edge)
    middle = (_columns(graph) - 1) / 2
    side = 1.0 if (start.x + end.x) / 2 > middle else -1.0
    swing = side * 0.13 * (end.y - start.y - 0.5)
    x = start.x + (end.x - start.x) * (3 * share**2 - 2 * share**3) + swing * 4 * share * (1 - share)
    return x, start.y + (end.y - start.y) * share


def _line(graph: Graph, edge: Edge, weight: float | None, largest: float) -> go.Scatter:
    x, y = _bend(graph, edge, np.linspace(0, 1, 25))
    if weight is None:
        style = {"color": NEUTRAL, "width": 1.5}
    else:
        style = {
            "color": LOWERS if weight < 0 else RAISES,
            "width": 0.8 + 6 * (abs(weight) / largest) ** 0.5,
            "dash": "solid" if weight < 0 else "dash",
        }
    return go.Scatter(x=x, y=y, mode="lines", line=style, opacity=0.75, hoverinfo="skip", showlegend=False)


def _edge_dots(graph: Graph, edges: tuple[Edge, ...], weights: Mapping[str, float]) -> go.Scatter:
    """A small dot on each edge, to hover."""
    # Dots of edges that share an end lie apart when they sit off the middle by differing shares.
    shares = np.linspace(0.4, 0.75, num=5)
    points = [_bend(graph, edge, shares[i % 5 : i % 5 + 1]) for i, edge in enumerate(edges)]
    texts = [
        f"{edge}<br>score {weights[str(edge)]:.4g}" if str(edge) in weights else str(edge) for edge in edges
    ]
    return go.Scatter(
        x=[float(x[0]) for x, _ in points],
        y=[float(y[0]) for _, y in points],
        mode="markers",
        marker={"size": 5, "color": "white", "line": {"width": 1, "color": NEUTRAL}},
        text=[text.replace("->", "→") for text in texts],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _nodes(graph: Graph, edges: tuple[Edge, ...]) -> go.Scatter:
    """One box per head, MLP, embedding and logits; grey when no edge touches it."""
    feeds = {reader.name: reader.feeds or reader.name for reader in graph.readers}
    names = [*(writer.name for writer in graph.writers), "logits"]
    leaving = [sum(edge.writer == name for edge in edges) for name in names]
    entering = [sum(feeds[edge.reader] == name for edge in edges) for name in names]
    places = [_place(graph, name) for name in names]
    used = [bool(out + into) for out, into in zip(leaving, entering, strict=True)]
    return go.Scatter(
        x=[place.x for place in places],
        y=[place.y for place in places],
        mode="markers+text",
        marker={
            "symbol": "square",
            "size": 26,
            "color": ["white" if on else "#f7f7f7" for on in used],
            "line": {"width": 1.5, "color": ["#222222" if on else FAINT for on in used]},
        },
        text=[_label(name) for name in names],
        textfont={"size": 10, "color": ["#222222" if on else "#767676" for on in used]},
        customdata=[
            f"{name}<br>{into} edges in, {out} out"
            for name, into, out in zip(names, entering, leaving, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _label(name: str) -> str:
    short = {"embed": "emb", "logits": "log", "mlp": "MLP"}
    last = name.rsplit(".", 1)[-1]
    return short.get(last, f"h{last}")


def _ports(graph: Graph) -> go.Scatter:
    """The letters q, k and v under each head."""
    spots = [
        (head + offset, block - NODE_FOOT, port)
        for block, kind in enumerate(graph.pattern)
        if kind == "*"
        for head in range(graph.n_heads)
        for port, offset in PORT_OFFSETS.items()
    ]
    x, y, text = zip(*spots, strict=True)
    return go.Scatter(
        x=x,
        y=y,
        text=text,
        mode="markers+text",
        marker={"size": 12, "color": "white", "opacity": 0.85},
        textfont={"size": 9, "color": "#444444"},
        hoverinfo="skip",
        showlegend=False,
    )


def _legend(scored: bool) -> list[go.Scatter]:
    entries = (
        [
            ("corrupt value lowers the metric: carries the behaviour", {"color": LOWERS, "width": 3}),
            ("corrupt value raises the metric", {"color": RAISES, "width": 3, "dash": "dash"}),
        ]
        if scored
        else [("edge of the circuit", {"color": NEUTRAL, "width": 1.5})]
    )
    return [
        go.Scatter(x=[None], y=[None], mode="lines", line=line, name=name, showlegend=True)
        for name, line in entries
    ]
