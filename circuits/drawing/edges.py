"""Edges in the order of their weight -> a figure with a slider for how many are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from circuits.drawing.layout import BRACKET, ROW, Layout, label, layout
from circuits.drawing.style import FAINT, INK, NEUTRAL, bare_layout
from circuits.graph import Edge, Graph

CURVE = np.linspace(0, 1, 25)
STOPS = (1, 2, 3, 5, 7)
"""Where the slider stops, and ten times, a hundred times these."""
TOP, FOOT = 95, 105
"""Pixels above and below the drawing, for title and legend, and for the slider."""


class Stroke(NamedTuple):
    """How an edge is drawn."""

    color: str
    width: float
    dash: str = "solid"


class Drawn(NamedTuple):
    """An edge, how it looks and what it says."""

    edge: Edge
    stroke: Stroke
    text: str


class _Staged(NamedTuple):
    """A trace, and the slider's stop from which on it is seen."""

    trace: go.Scatter
    stage: int


def edge_figure(graph: Graph, drawn: Sequence[Drawn], legend: dict[str, Stroke], title: str) -> go.Figure:
    """Draw edges, the most important first in `drawn`; the slider takes them away from the last."""
    places = layout(graph, [one.edge for one in drawn])
    stops = stops_of(len(drawn))
    stage = {one.edge: int(np.searchsorted(stops, number + 1)) for number, one in enumerate(drawn)}
    # The strongest are drawn last and lie on top.
    staged = [_Staged(_line(places, one), stage[one.edge]) for one in reversed(drawn)]
    idle = _idle(places)
    staged = [_Staged(idle, 0), *staged, *_lit(graph, places, stage)]
    staged += [_Staged(_entry(name, stroke), 0) for name, stroke in legend.items()]
    figure = go.Figure([one.trace for one in staged])
    figure.update_layout(bare_layout(title))
    figure.update_layout(
        height=places.height + TOP + FOOT,
        margin={"l": 110, "r": 30, "t": TOP, "b": FOOT},
        legend={"y": 1.0, "yanchor": "bottom", "itemclick": False, "itemdoubleclick": False},
    )
    if len(stops) > 1:
        figure.update_layout(sliders=[_slider(stops, [one.stage for one in staged])])
    figure.update_xaxes(visible=False, range=[-places.half_width, places.half_width])
    figure.update_yaxes(
        tickvals=list(range(-1, len(graph.pattern) + 1)),
        ticktext=list(places.rows),
        range=[-1.5, len(graph.pattern) + 0.5],
        showgrid=False,
        zeroline=False,
    )
    return figure


def stops_of(n: int) -> list[int]:
    """Numbers of edges at which the slider stops, up to all `n`.

    Example:
        >>> stops_of(12)
        [1, 2, 3, 5, 7, 10, 12]
    """
    growing = (stop * 10**power for power in range(len(str(n))) for stop in STOPS)
    return [*(stop for stop in growing if stop < n), n]


def _slider(stops: list[int], stages: list[int]) -> dict[str, Any]:
    steps = [
        {
            "method": "restyle",
            "label": str(stop),
            "args": [{"visible": [stage <= place for stage in stages]}],
        }
        for place, stop in enumerate(stops)
    ]
    return {
        "active": len(stops) - 1,
        "steps": steps,
        "currentvalue": {"prefix": "edges shown, the strongest first: ", "font": {"size": 13}},
        "pad": {"t": 10},
        "x": 0,
        "len": 1,
    }


def _line(places: Layout, one: Drawn) -> go.Scatter:
    x, y = places.bend(one.edge, CURVE)
    return go.Scatter(
        x=x.round(3),
        y=y.round(3),
        mode="lines",
        line=one.stroke._asdict(),
        opacity=0.75,
        name=str(one.edge),
        text=one.text,
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _idle(places: Layout) -> go.Scatter:
    """A faint square for everything, with its name under the mouse."""
    return go.Scatter(
        x=[place.x for place in places.nodes.values()],
        y=[place.y for place in places.nodes.values()],
        mode="markers",
        marker=_squares(places, "#f7f7f7", FAINT),
        text=list(places.nodes),
        hovertemplate="%{text}<br>no edge is shown<extra></extra>",
        showlegend=False,
    )


def _squares(places: Layout, color: str, line: str) -> dict[str, Any]:
    width = 1.5 if places.square > 20 else 1
    return {
        "symbol": "square",
        "size": places.square,
        "color": color,
        "line": {"width": width, "color": line},
    }


def _lit(graph: Graph, places: Layout, stage: dict[Edge, int]) -> list[_Staged]:
    """Squares and letters with an edge, each in the trace of the stop at which its first edge appears."""
    nodes: dict[str, int] = {}
    readers: dict[str, int] = {}
    for edge, first in stage.items():
        for name in filter(None, (edge.writer, places.ports[edge.reader].owner)):
            nodes[name] = min(first, nodes.get(name, first))
        readers[edge.reader] = min(first, readers.get(edge.reader, first))
    feeds = {reader.name: reader.feeds or ("logits",) for reader in graph.readers}
    into = Counter(name for edge in stage for name in feeds[edge.reader])
    out = Counter(edge.writer for edge in stage)
    found = []
    for now in sorted({*nodes.values(), *readers.values()}):
        names = [name for name, first in nodes.items() if first == now]
        here = [name for name, first in readers.items() if first == now]
        if any(places.ports[name].letter for name in here):
            found += [_Staged(trace, now) for trace in _letters(places, here)]
        found.append(_Staged(_nodes(places, names, into, out), now))
    return found


def _nodes(places: Layout, names: list[str], into: Counter[str], out: Counter[str]) -> go.Scatter:
    return go.Scatter(
        x=[places.nodes[name].x for name in names],
        y=[places.nodes[name].y for name in names],
        mode="markers+text",
        marker=_squares(places, "white", INK),
        text=[label(name) for name in names],
        textfont={"size": 10 if places.square > 20 else 8, "color": INK},
        customdata=[f"{name}<br>{into[name]} edges in, {out[name]} out" for name in names],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )


def _letters(places: Layout, readers: list[str]) -> tuple[go.Scatter, go.Scatter]:
    """Letters of readers on white, and the brackets over what the shared ones feed."""
    shown = {name: places.ports[name] for name in readers if places.ports[name].letter}
    x: list[float | None] = []
    y: list[float | None] = []
    for name, port in shown.items():
        if port.span is not None:
            block = float(name.split(".")[1])
            high = block - (places.square / 2 + BRACKET - 6) / ROW
            low = block - (places.square / 2 + BRACKET) / ROW
            left, right = port.span
            x += [left, left, right, right, None]
            y += [high, low, low, high, None]
    brackets = go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": NEUTRAL, "width": 1},
        name="brackets",
        hoverinfo="skip",
        showlegend=False,
    )
    letters = go.Scatter(
        x=[port.place.x for port in shown.values()],
        y=[port.place.y for port in shown.values()],
        text=[port.letter for port in shown.values()],
        mode="markers+text",
        marker={"size": 12, "color": "white", "opacity": 0.85},
        textfont={"size": 9, "color": "#444444"},
        hoverinfo="skip",
        showlegend=False,
    )
    return brackets, letters


def _entry(name: str, stroke: Stroke) -> go.Scatter:
    return go.Scatter(x=[None], y=[None], mode="lines", line=stroke._asdict(), name=name, showlegend=True)
