"""Lens, contributions, patterns, patching, ablation, swapped names -> figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from circuits.drawing.style import FONT, LOWERS, NEUTRAL, RAISES
from circuits.looking.ablation import AblationEffects
from circuits.looking.by_role import Means
from circuits.looking.contributions import Contributions
from circuits.looking.lens import LensReading
from circuits.looking.patching import PatchEffects
from circuits.looking.patterns import RolePatterns
from circuits.looking.swaps import SwapTest
from data_gen.errors import InputError, nearest

# Okabe-Ito colours, and a marker of its own for each, so that no reading hangs on colour.
SERIES = (
    (LOWERS, "circle"),
    (RAISES, "square"),
    ("#009e73", "diamond"),
    ("#cc79a7", "x"),
    ("#000000", "triangle-up"),
    ("#56b4e9", "cross"),
)
SHARES = "Cividis"
DIVERGING = [[0.0, RAISES], [0.5, "#ffffff"], [1.0, LOWERS]]
ROW, COLUMN = 26, 46
"""Pixels per line and column of a table of colours."""
MARGIN = 16
"""Columns and lines beyond which numbers in the cells would not be read."""


def lens_figure(*readings: LensReading) -> go.Figure:
    """Share of right tokens on top, by role and depth; one panel per reading, such as logit and tuned lens.

    Raises `InputError` for no reading.
    """
    if not readings:
        raise InputError("there is no reading to draw", hint="give what logit_lens or tuned_lens found")
    titles = [f"{reading.lens} lens" for reading in readings]
    figure = make_subplots(
        cols=len(readings), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03
    )
    for number, reading in enumerate(readings):
        top = reading.on_top()
        names = [f"{role} ({count:,})" for role, count in zip(top.roles, top.count, strict=True)]
        figure.add_trace(
            _cells(top, reading.depths, names, "share", SHARES, (0.0, 1.0), number == 0),
            row=1,
            col=number + 1,
        )
        figure.update_xaxes(title="the stream behind", col=number + 1)
    figure.update_yaxes(title="role of the right next token (tokens)", autorange="reversed", col=1)
    rows, depths = len(readings[0].targets.roles), sum(len(reading.depths) for reading in readings)
    title = f"Right next token on top, share of tokens in {len(readings[0].targets.row.unique()):,} rows"
    return _laid_out(figure, title, width=380 + 58 * depths, height=190 + ROW * rows)


def contributions_figure(found: Contributions, *, role: str | None = None, top: int = 24) -> go.Figure:
    """The writers that add most to the logit difference, with 95 % intervals; of one role of right tokens.

    `role` is the first when None. Raises `InputError` for a role that no target has, or a `top` of less than one.
    """
    _check_top(top)
    role = role if role is not None else found.targets.roles[0]
    if role not in found.targets.roles:
        raise InputError(
            f"no right token has the role `{role}`{nearest(role, found.targets.roles)}",
            hint=f"roles: {', '.join(found.targets.roles)}",
        )
    means, line = found.means(), found.targets.roles.index(role)
    order = np.argsort(-np.abs(means.value[line]), kind="stable")[:top]
    values, low, high = (part[line][order] for part in (means.value, means.low, means.high))
    figure = go.Figure(
        go.Bar(
            x=values,
            y=[found.names[i] for i in order],
            orientation="h",
            marker={
                "color": [LOWERS if value > 0 else RAISES for value in values],
                "pattern": {"shape": ["" if value > 0 else "/" for value in values]},
            },
            error_x=_bars(values, low, high),
            hovertemplate="%{y}: %{x:.3f} nats<extra></extra>",
            showlegend=False,
        )
    )
    for name, color, shape in (("for the right token", LOWERS, ""), ("against it", RAISES, "/")):
        marker = {"color": color, "pattern": {"shape": shape}}
        figure.add_trace(go.Bar(x=[None], y=[None], orientation="h", marker=marker, name=name))
    figure.update_xaxes(
        title="contribution to the logit difference, nats (95 % interval)", gridcolor="#eeeeee"
    )
    figure.update_yaxes(autorange="reversed", title="writer")
    total = float(found.total[found.targets.role == line].mean())
    title = f"Direct logit attribution, {role}: {total:.2f} nats over {int(means.count[line]):,} tokens"
    return _laid_out(figure, title, width=860, height=200 + 22 * len(order))


def pattern_figure(patterns: RolePatterns, block: int) -> go.Figure:
    """Attention mass from query roles (lines) to key roles (columns), one panel per head of a block.

    Raises `InputError` for a block that does not look back.
    """
    mass = patterns.of(block).numpy()
    margin = patterns.margin[patterns.blocks.index(block)].numpy()
    kind = patterns.kinds[patterns.blocks.index(block)]
    across = min(2, len(mass))
    lines = -(-len(mass) // across)
    figure = make_subplots(
        rows=lines,
        cols=across,
        subplot_titles=[f"head {head}" for head in range(len(mass))],
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=0.3 / (lines * len(patterns.roles) ** 0.5),
    )
    for head, (value, half) in enumerate(zip(mass, margin, strict=True)):
        means = Means(value=value, low=value - half, high=value + half)
        cells = _cells(means, patterns.roles, patterns.roles, "mass", SHARES, (0.0, 1.0), head == 0)
        figure.add_trace(cells, row=head // across + 1, col=head % across + 1)
    figure.update_xaxes(tickangle=-60, title_standoff=4)
    figure.update_xaxes(title="role that is looked at", row=lines)
    figure.update_yaxes(autorange="reversed")
    figure.update_yaxes(title="role that looks", col=1)
    title = f"Block {block} ({kind}): attention mass by role, mean over {int(patterns.rows.max()):,} rows"
    size = len(patterns.roles)
    # No panel narrower than the words below it, no figure narrower than its title.
    width = max(720, 330 + across * max(180, 19 * size))
    return _laid_out(figure, title, width=width, height=330 + lines * (40 + 18 * size))


def patching_figure(found: PatchEffects, *, pair: int | None = None) -> go.Figure:
    """Share of the metric that comes along, by hook (depth upwards) and by role or position.

    The mean over pairs, or one `pair` with its tokens' roles: positions of pairs of unlike length mean little together.
    Raises `InputError` for a pair that is not there.
    """
    if pair is not None and not 0 <= pair < len(found.base):
        raise InputError(f"there is no pair {pair} among {len(found.base)}", hint="pairs are numbered from 0")
    share = found.share() if pair is None else _alone(found, pair)
    # What is never more than a trace is left out, so that the rest can be read.
    kept = np.flatnonzero(np.abs(share.value).max(0) > 0.005)
    means = Means(value=share.value[:, kept], low=share.low[:, kept], high=share.high[:, kept])
    by_position = all(name.isdigit() for name in found.sets)
    sets = [
        f"{found.sets[i]} {found.roles[pair][i]}" if by_position and pair is not None else found.sets[i]
        for i in kept
    ]
    limit = max(1.0, float(np.abs(means.value).max(initial=0)))
    figure = go.Figure(_cells(means, sets, found.hooks, "share", DIVERGING, (-limit, limit), True))
    figure.update_xaxes(
        title="position patched" if by_position else "role patched", type="category", tickangle=-45
    )
    figure.update_yaxes(title="hook, depth upwards")
    way = {"denoise": "clean values in the corrupt run", "noise": "corrupt values in the clean run"}
    which = f"{len(found.base)} pairs" if pair is None else f"pair {pair}"
    title = f"Patching {found.edit}: {way[found.direction]}, {which}, share of {found.metric}"
    width = max(800, 330 + COLUMN * len(sets))
    slanted = 5 * max((len(name) for name in sets), default=0)
    # Below stand slanted names; one hook still leaves room for a scale and for the words beside the axis.
    return _laid_out(figure, title, width=width, height=200 + slanted + max(150, 34 * len(found.hooks)))


def _alone(found: PatchEffects, pair: int) -> Means:
    """One pair's shares, which have no interval."""
    share = found.per_example[pair].numpy()
    return Means(value=share, low=share, high=share)


def ablation_figure(*found: AblationEffects, top: int = 24) -> go.Figure:
    """What the metric loses without each unit, with 95 % intervals; one marker per kind of ablation.

    Raises `InputError` for none or more than can be told apart, for unlike units, or a `top` of less than one.
    """
    _check_top(top)
    _check_alike(found)
    first = found[0]
    largest = np.max([np.abs(effects.drop().value) for effects in found], axis=0)
    order = np.argsort(-largest, kind="stable")[:top]
    figure = go.Figure()
    for number, (effects, (color, symbol)) in enumerate(zip(found, SERIES, strict=False)):
        drop = effects.drop()
        values, low, high = (part[order] for part in (drop.value, drop.low, drop.high))
        shift = (number - (len(found) - 1) / 2) * 0.8 / max(len(found), 1)
        figure.add_trace(
            go.Scatter(
                x=values,
                y=np.arange(len(order)) + shift,
                mode="markers",
                marker={"color": color, "symbol": symbol, "size": 8},
                error_x=_bars(values, low, high) | {"color": color},
                name=str(effects.kind),
                text=[first.units[i] for i in order],
                hovertemplate="%{text}: %{x:.3f}<extra>" + str(effects.kind) + "</extra>",
            )
        )
    figure.add_vline(x=0, line={"color": NEUTRAL, "width": 1})
    figure.update_xaxes(
        title=f"drop of {first.metric}, nats (95 % interval)", gridcolor="#eeeeee", zeroline=False
    )
    figure.update_yaxes(
        title="unit taken out",
        tickvals=list(range(len(order))),
        ticktext=[first.units[i] for i in order],
        range=[len(order) - 0.5, -0.5],
        gridcolor="#eeeeee",
        zeroline=False,
    )
    clean = float(first.clean.mean())
    title = f"Ablation on {first.edit}, {len(first.clean)} pairs; {clean:.2f} with everything in place"
    return _laid_out(figure, title, width=860, height=200 + 34 * len(order))


def swap_figure(found: SwapTest) -> go.Figure:
    """What instruction, schema, markup and answer so far are worth at every depth, both ways."""
    titles = ("lost: corrupt values in the clean run", "recovered: clean values in the corrupt run")
    figure = make_subplots(cols=2, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.05)
    words = {"english": "instruction", "schema": "schema", "prompt": "markup", "sql": "answer so far"}
    for column, effects in enumerate((found.needed, found.enough), start=1):
        share, depths = effects.share(), [_depth(hook) for hook in effects.hooks]
        for i, name in enumerate(effects.sets):
            color, symbol = SERIES[i % len(SERIES)]
            values, low, high = (part[:, i] for part in (share.value, share.low, share.high))
            figure.add_trace(
                go.Scatter(
                    x=depths,
                    y=values,
                    mode="lines+markers",
                    line={"color": color, "width": 2},
                    marker={"color": color, "symbol": symbol, "size": 9},
                    error_y=_bars(values, low, high) | {"color": color},
                    name=words.get(name, name),
                    legendgroup=name,
                    showlegend=column == 1,
                    hovertemplate="%{x}: %{y:.3f}<extra>" + words.get(name, name) + "</extra>",
                ),
                row=1,
                col=column,
            )
        figure.update_xaxes(title="the stream behind", col=column, gridcolor="#eeeeee")
    figure.update_yaxes(gridcolor="#eeeeee", zeroline=False)
    figure.update_yaxes(title=f"share of {found.needed.metric}", col=1)
    title = f"Where the name is read, {found.needed.edit}, {len(found.needed.base)} pairs (95 % interval)"
    figure = _laid_out(figure, title, width=960, height=500)
    # Above stand the panels' titles.
    return figure.update_layout(legend={"y": -0.22, "yanchor": "top"})


def _cells(
    means: Means,
    columns: Sequence[str],
    lines: Sequence[str],
    what: str,
    colors: str | list[list[object]],
    span: tuple[float, float],
    with_scale: bool,
) -> go.Heatmap:
    """A table of colours; its numbers stand in the cells where there is room, its intervals in the hover text."""
    few = len(columns) <= MARGIN
    return go.Heatmap(
        z=means.value,
        x=list(columns),
        y=list(lines),
        zmin=span[0],
        zmax=span[1],
        colorscale=colors,
        customdata=np.stack([means.low, means.high], axis=-1),
        texttemplate="%{z:.2f}" if few else None,
        textfont={"size": 10},
        hovertemplate="%{y}, %{x}: %{z:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>",
        showscale=with_scale,
        colorbar={"title": {"text": what}, "thickness": 14},
        hoverongaps=False,
    )


def _check_alike(found: Sequence[AblationEffects]) -> None:
    if not 1 <= len(found) <= len(SERIES):
        raise InputError(
            f"there are {len(found)} ablations to draw, expected 1 to {len(SERIES)}, which can be told apart",
            hint="give what ablate found, once for each kind",
        )
    for effects in found[1:]:
        if effects.units != found[0].units:
            raise InputError(
                f"the `{found[0].kind}` ablation is of {len(found[0].units)} units and the `{effects.kind}` one of"
                f" {len(effects.units)} or of others, expected the same",
                hint="give `ablate` the same units each time",
            )


def _check_top(top: int) -> None:
    if top < 1:
        raise InputError(f"top is {top}, expected at least 1", hint="24 can be read")


def _bars(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, object]:
    """Error bars of an interval."""
    return {
        "type": "data",
        "symmetric": False,
        "array": high - values,
        "arrayminus": values - low,
        "thickness": 1.2,
        "width": 3,
    }


def _depth(hook: str) -> str:
    """`embed` for the stream before the first block, else the block that a stream is behind."""
    return "embed" if hook.endswith("resid_pre") else hook.removesuffix(".hook_resid_post")


def _laid_out(figure: go.Figure, title: str, *, width: int, height: int) -> go.Figure:
    figure.update_layout(
        title={"text": title, "x": 0.02, "font": {"size": 16}},
        font=FONT,
        width=width,
        height=height,
        plot_bgcolor="white",
        paper_bgcolor="white",
        margin={"l": 40, "r": 30, "t": 90, "b": 60},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        hovermode="closest",
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure
