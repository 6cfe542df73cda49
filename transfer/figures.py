"""Report of a transfer, of curves or of a switch -> an interactive figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from transfer.show import by_how_much

# Okabe-Ito colours, told apart by colour-blind readers; dashes say the same once more.
COLOURS = {"right": "#009e73", "shown": "#d55e00", "native": "#0072b2", "transferred": "#e69f00"}
DASHES = {"native": "solid", "transferred": "dash"}
NAMES = {"right": "right, by execution", "shown": "behaviour shown"}


def outcome_figure(report: Mapping[str, Any]) -> go.Figure:
    """Every condition and control of a transfer: what its answers were, with intervals.

    `report` is what `read_report` gives, or `TransferReport.to_json` with the `aim` of its bench beside it.
    """
    aim, outcomes = report["aim"], report["outcomes"]
    names = [_label(one) for one in outcomes]
    figure = go.Figure()
    for kind in ("right", "shown"):
        means, high, low = zip(*[_spread(one[kind]) for one in outcomes], strict=True)
        figure.add_bar(
            y=names,
            x=means,
            name=NAMES[kind],
            orientation="h",
            marker_color=COLOURS[kind],
            error_x={"type": "data", "symmetric": False, "array": high, "arrayminus": low, "thickness": 1},
        )
    transfer = report["transfer"]
    return _laid_out(
        figure,
        f"Steering `{aim['start']}` prompts: {transfer['verdict']}{by_how_much(transfer)} ({aim['wanted']} is wanted)",
        "share of answers, % (95 % interval, or range of draws)",
        "",
        height=180 + 34 * len(names),
    ).update_yaxes(autorange="reversed")


def layer_figure(points: Sequence[Mapping[str, Any]], wanted: str) -> go.Figure:
    """Native and transferred effect at the end of every block; `points` as `Point.to_json` gives them."""
    figure = go.Figure()
    for name in ("native", "transferred"):
        here = [one for one in points if one["vector"] == name and one["rank"] is None]
        _add_line(figure, name, [_block(one["target_hook"]) for one in here], here, wanted)
    nothing = [one for one in points if one["vector"] == "none"]
    for one in nothing:
        label = {"text": "no steering", "xanchor": "left"}
        figure.add_hline(y=100 * one[wanted]["share"], line_dash="dot", annotation=label)
    title = "At which depth the behaviour can be steered"
    figure = _laid_out(figure, title, "block of the target at whose end it is steered", _axis(wanted))
    return figure.update_xaxes(dtick=1).update_yaxes(range=[-4, 104])


def rank_figure(points: Sequence[Mapping[str, Any]], wanted: str) -> go.Figure:
    """Transferred effect by the rank of the map."""
    here = [one for one in points if one["rank"] is not None]
    figure = go.Figure()
    _add_line(figure, "transferred", [one["rank"] for one in here], here, wanted)
    title = "How many dimensions of the source the map has to read"
    figure = _laid_out(figure, title, "rank of the map", _axis(wanted)).update_yaxes(range=[-4, 104])
    return figure.update_layout(showlegend=True)


def switch_figure(report: Mapping[str, Any]) -> go.Figure:
    """Every arm of a switch: what is left of the behaviour, against the parameters that it takes."""
    figure = go.Figure()
    for one in report["arms"]:
        mean, high, low = _spread([one["shown"]])
        figure.add_scatter(
            x=[100 * one["parameter_share"]],
            y=[mean],
            name=one["name"],
            mode="markers",
            marker={"size": 12, "symbol": "star" if one["name"] == "map" else "circle"},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [high],
                "arrayminus": [low],
                "thickness": 1,
            },
        )
    title = f"Acting as the base, arm by arm: {report['verdict']}"
    x = "parameters of the arm, % of the model's"
    return _laid_out(figure, title, x, _axis("shown")).update_yaxes(range=[-4, 104])


def _add_line(
    figure: go.Figure, name: str, x: Sequence[int], points: Sequence[Mapping[str, Any]], wanted: str
) -> None:
    means, high, low = zip(*[_spread([one[wanted]]) for one in points], strict=True)
    figure.add_scatter(
        x=x,
        y=means,
        name=name,
        mode="lines+markers",
        line={"color": COLOURS[name], "dash": DASHES[name]},
        error_y={"type": "data", "symmetric": False, "array": high, "arrayminus": low, "thickness": 1},
    )


def _axis(wanted: str) -> str:
    return f"{NAMES[wanted]}, % of answers (95 % interval)"


def _label(one: Mapping[str, Any]) -> str:
    return one["name"] if one["control"] is None else f"{one['name']} ({one['control']})"


def _spread(shares: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """Mean in percent, and how far it reaches up and down: Wilson's interval of one draw, the range of several."""
    values = [one["share"] for one in shares]
    mean = sum(values) / len(values)
    low, high = (min(values), max(values)) if len(values) > 1 else shares[0]["interval95"]
    return 100 * mean, 100 * max(0.0, high - mean), 100 * max(0.0, mean - low)


def _block(hook: str) -> int:
    return int(hook.split(".")[1])


def _laid_out(figure: go.Figure, title: str, x: str, y: str, height: int = 440) -> go.Figure:
    return figure.update_layout(
        title=title,
        xaxis_title=x,
        yaxis_title=y,
        height=height,
        template="plotly_white",
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
        margin={"t": 110},
    )
