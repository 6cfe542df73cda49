"""Curve -> figure of faithfulness against the number of edges, above the bands of random circuits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from circuits.drawing.style import INK, LOWERS, NEUTRAL, RAISES, THIRD, bare_layout
from circuits.judging.curves import Curve
from circuits.judging.ratios import Band, Estimate, counted, span
from circuits.judging.role_curves import RoleCurve

GRID, ROLE_AWARE = "#eeeeee", "role-aware edges"
DASHES = {NEUTRAL: "dot", THIRD: "dashdot", RAISES: "longdashdot"}
"""Of the means of random circuits."""
NEAR = 0.005
"""Lines that are nowhere further apart are said to coincide: the eye sees one."""


def faithfulness_figure(
    curve: Curve, *, by_role: RoleCurve | None = None, title: str | None = None
) -> go.Figure:
    """Faithfulness against the number of edges (log scale), above uniform and layer-matched random circuits.

    With `by_role` also that of role-aware edges against their number, above the same edges at random roles. CMD and CPR
    stand under the title where the curve has them, and whether the two lines coincide.
    """
    plain = "" if by_role is None else "plain edges: "
    sizes = [point.n_edges for point in curve.points]
    figure = go.Figure(
        [
            *_band(
                sizes,
                [point.random for point in curve.points],
                plain + counted(curve.random_circuits, "random circuit"),
                NEUTRAL,
            ),
            *_band(
                sizes,
                [point.matched for point in curve.points],
                plain + counted(curve.random_circuits, "layer-matched one"),
                THIRD,
            ),
            _line(
                sizes,
                [point.faithfulness for point in curve.points],
                f"{'top edges' if by_role is None else f'{plain}the top'} by {curve.method}, 95 % interval",
                {"color": LOWERS, "width": 2.5},
            ),
            *([] if by_role is None else _role_traces(by_role)),
        ]
    )
    for level, text in ((1, "full model"), (0, "corrupt run")):
        figure.add_hline(y=level, line={"color": INK, "width": 1, "dash": "dash"})
        # Outside the axes, so that no curve runs through the words.
        figure.add_annotation(
            x=1.01, xref="paper", xanchor="left", y=level, text=text, showarrow=False, font={"size": 12}
        )
    pairs = counted(curve.n_pairs, "held-out pair")
    made = title or f"Faithfulness on {curve.edit}, {pairs}, {curve.metric}"
    below = [_areas(curve, plain), _coincidence(curve, by_role)]
    small = [f'<span style="font-size:12px">{text}</span>' for text in below if text]
    figure.update_layout(bare_layout("<br>".join([made, *small])))
    figure.update_layout(margin={"r": 100, "t": 80 + 16 * (len(small) > 1), "b": 120}, legend={"y": -0.18})
    figure.update_xaxes(
        type="log",
        tickvals=sizes,
        ticktext=[str(size) if _has_room(size, sizes[-1]) else "" for size in sizes],
        tickangle=0,
        title=f"edges in the circuit, of {curve.n_edges_model}{_of_parts(by_role)} (log scale)",
        gridcolor=GRID,
    )
    figure.update_yaxes(title="faithfulness", gridcolor=GRID, zeroline=False)
    return figure


def _areas(curve: Curve, of: str) -> str:
    """CMD and CPR with their intervals, and CMD of the layer-matched random circuits, behind what they are `of`."""
    if curve.areas is None:
        return ""
    cmd, cpr = curve.areas.cmd, curve.areas.cpr
    return (
        f"{of[:1].upper()}{of[1:]}CMD {cmd.value.value:.3f} ({span(cmd.value.low, cmd.value.high)}),"
        f" of layer-matched random circuits {cmd.matched.mean:.3f}; CPR {cpr.value.value:.3f}"
        f" ({span(cpr.value.low, cpr.value.high)}); 95 % intervals"
    )


def _coincidence(curve: Curve, by_role: RoleCurve | None) -> str:
    """That both lines are one at every size, where they are: one hides the other."""
    if by_role is None or [one.n_edges for one in curve.points] != [one.n_parts for one in by_role.points]:
        return ""
    both = zip(curve.points, by_role.points, strict=True)
    if any(abs(one.faithfulness.value - other.faithfulness.value) > NEAR for one, other in both):
        return ""
    return (
        f"The lines of plain and of role-aware edges coincide: at no size are they more than {NEAR:g} apart"
    )


def _band(
    sizes: list[int], bands: Sequence[Band | None], name: str, color: str, unit: str = "edges"
) -> list[go.Scatter]:
    """Percentiles and mean of one kind of random circuits; nothing where a report is older than they are."""
    known = [(size, band) for size, band in zip(sizes, bands, strict=True) if band is not None]
    if not known:
        return []
    x = [size for size, _ in known]
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    area = go.Scatter(
        x=[*x, *reversed(x)],
        y=[*(band.high for _, band in known), *(band.low for _, band in reversed(known))],
        mode="lines",
        fill="toself",
        fillcolor=f"rgba({red}, {green}, {blue}, 0.2)",
        line={"width": 0},
        hoverinfo="skip",
        name=f"{name}, 5–95 %",
    )
    mean = go.Scatter(
        x=x,
        y=[band.mean for _, band in known],
        mode="lines",
        line={"color": color, "dash": DASHES[color]},
        name=f"{name}, mean",
        hovertemplate=f"%{{x}} {unit}: %{{y:.3f}}<extra></extra>",
    )
    return [area, mean]


def _line(
    sizes: list[int], values: Sequence[Estimate], name: str, line: dict[str, Any], unit: str = "edges"
) -> go.Scatter:
    """Faithfulness with its intervals."""
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
        line=line,
        name=name,
        hovertemplate=f"%{{x}} {unit}: %{{y:.3f}}<extra></extra>",
    )


def _role_traces(by_role: RoleCurve) -> list[go.Scatter]:
    """The line of role-aware edges, dashed so that one below is seen, and the band of their edges at random roles."""
    sizes = [point.n_parts for point in by_role.points]
    return [
        *_band(
            sizes,
            [point.other_roles for point in by_role.points],
            f"role-aware edges: the same edges at random roles, {counted(by_role.random_circuits, 'draw')}",
            RAISES,
            ROLE_AWARE,
        ),
        _line(
            sizes,
            [point.faithfulness for point in by_role.points],
            "role-aware edges: the top by eap-ig, counted in role-aware edges, 95 % interval",
            {"color": RAISES, "width": 2.5, "dash": "dash"},
            ROLE_AWARE,
        ),
    ]


def _of_parts(by_role: RoleCurve | None) -> str:
    return "" if by_role is None else f"; role-aware ones, of {by_role.n_parts_model}"


def _has_room(size: int, last: int) -> bool:
    """Whether a tick's number stands clear of the last one's on the log axis."""
    return size == last or last / size > 1.25
