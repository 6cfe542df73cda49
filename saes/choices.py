"""RUN/saes/*.choice.json -> the report's sections on grids: which member to keep, and how all of them came to cover."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_gen.errors import InputError
from data_gen.files import find_json, read_json
from saes.places import CHOICE, WEIGHTS
from saes.truth.choosing import Candidate, Choice, read_choice
from tinysql.report import Section, figure_html
from tinysql.runs import open_run

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Look = Mapping[str, int | float]
"""What was found behind one step, which it names."""
ORDER = 49
"""In front of the single SAEs."""
CHOSEN, LEVEL, REST = "chosen", "cannot be told from the highest", "covers less"
MARKS = {CHOSEN: ("#D55E00", "star"), LEVEL: ("#0072B2", "circle"), REST: ("#6e7781", "circle-open")}
"""Okabe and Ito's colours, and a shape each."""


def sections(run: Path) -> list[Section]:
    """One section for every grid that one was chosen of."""
    files = sorted((run / "saes").glob(f"[!.]*{CHOICE}"))
    return [_section(file, file.name.removesuffix(CHOICE)) for file in files]


def _section(file: Path, name: str) -> Section:
    choice, weights = read_choice(file), read_json(file).get(WEIGHTS)
    curves = {
        one.name: (find_json(file.with_name(f"{name},{one.name}") / "metrics.json") or {}).get("watched", [])
        for one in choice.candidates
    }
    stale = [
        one.name
        for one in choice.candidates
        if not curves[one.name] or curves[one.name][-1]["coverage"] != one.coverage
    ]
    remarks = []
    if (other := _other_weights(file.parents[1], weights)) is not None:
        remarks.append(f"<b>{other}</b>")
    if stale:
        said = ", ".join(f"<code>{html.escape(one)}</code>" for one in stale)
        remarks.append(f"<b>Removed or trained anew since then: {said}.</b>")
    body = (
        f"<p>{len(choice.candidates)} dictionaries on validation rows: of the training split, none of them trained on. "
        "Coverage is the mean F1 of the best latent per role family. Of those whose coverage cannot be told from the "
        "highest (95 % interval of the difference, examples drawn again for both together), the one with the least "
        f"fraction of variance unexplained is chosen: <code>{html.escape(choice.chosen)}</code>. A choice among many "
        "looks a little too good where it was made; score what is chosen on test rows. "
        + " ".join(remarks)
        + "</p>"
        + figure_html(choice_figure(choice))
    )
    if any(curves.values()):
        body += figure_html(curve_figure(choice, curves))
    return Section(f"Grid {name}: which one to keep", body, ORDER)


def _other_weights(run: Path, then: str | None) -> str | None:
    """What is to be said where the run has other weights than `then`, or none any more."""
    try:
        now = open_run(run).fingerprint()
    except InputError:  # a report is also made of runs without them
        return "It was made on weights that are no longer there."
    return None if now == then else "It was made on other weights than the run has now."


def group(choice: Choice, one: Candidate) -> str:
    """Under which name of the legend a candidate is."""
    return CHOSEN if one.name == choice.chosen else LEVEL if one.is_level else REST


def choice_figure(choice: Choice) -> Figure:
    """Coverage of every candidate over its fraction of variance unexplained."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for name in (REST, LEVEL, CHOSEN):
        some = [one for one in choice.candidates if group(choice, one) == name]
        if not some:
            continue
        colour, symbol = MARKS[name]
        marks = Scatter(x=[one.fvu for one in some], y=[one.coverage for one in some], mode="markers")
        marks.name = f"{CHOSEN}: {choice.chosen}" if name == CHOSEN else name
        marks.update(
            marker={
                "color": colour,
                "symbol": symbol,
                "size": 14 if name == CHOSEN else 9,
                "line": {"width": 1.5},
            },
            error_y={
                "symmetric": False,
                "array": [one.coverage_interval[1] - one.coverage for one in some],
                "arrayminus": [one.coverage - one.coverage_interval[0] for one in some],
                "thickness": 1.2,
                "width": 3,
            },
            customdata=[
                [one.name, one.slot_coverage, one.l0, one.behind, *one.behind_interval] for one in some
            ],
            hovertemplate="%{customdata[0]}<br>coverage %{y:.3f}, slots %{customdata[1]:.3f}<br>FVU %{x:.3f}, L0 "
            "%{customdata[2]:.1f}<br>behind the highest %{customdata[3]:.3f} (%{customdata[4]:.3f} to "
            "%{customdata[5]:.3f})<extra></extra>",
        )
        figure.add_trace(marks)
    figure.update_layout(
        title="Roles covered and variance left over, on validation rows",
        template="plotly_white",
        height=440,
        xaxis={"title": "fraction of variance unexplained", "rangemode": "tozero"},
        yaxis={"title": "coverage: mean F1 (whiskers: bootstrap 95 %)"},
        legend={"title": "coverage", "orientation": "h", "y": -0.2, "yanchor": "top"},
    )
    return figure


def watched_figure(looks: Sequence[Look]) -> Figure:
    """Coverage of one dictionary by the steps it was trained, with its interval."""
    from plotly.graph_objects import Figure, Scatter

    steps = [look["step"] + 1 for look in looks]
    line = Scatter(
        x=steps,
        y=[look["coverage"] for look in looks],
        name="coverage (whiskers: bootstrap 95 %)",
        mode="lines+markers",
    )
    line.update(
        line={"color": MARKS[LEVEL][0]},
        error_y={
            "symmetric": False,
            "array": [look["coverage_high"] - look["coverage"] for look in looks],
            "arrayminus": [look["coverage"] - look["coverage_low"] for look in looks],
            "thickness": 1.2,
            "width": 3,
        },
        hovertemplate="step %{x}: coverage %{y:.3f}<extra></extra>",
    )
    figure = Figure(line)
    figure.update_layout(
        title="Roles covered while it was trained, on validation rows",
        template="plotly_white",
        height=320,
        showlegend=True,
        xaxis={"title": "optimiser steps", "rangemode": "tozero"},
        yaxis={"title": "coverage: mean F1"},
        legend={"orientation": "h", "y": -0.3, "yanchor": "top"},
    )
    return figure


def curve_figure(choice: Choice, curves: Mapping[str, Sequence[Look]]) -> Figure:
    """Coverage of every candidate by the steps it was trained."""
    from plotly.graph_objects import Figure, Scatter

    figure, shown = Figure(), set()
    for one in sorted(choice.candidates, key=lambda one: [REST, LEVEL, CHOSEN].index(group(choice, one))):
        name, looks = group(choice, one), curves[one.name]
        line = Scatter(
            x=[look["step"] + 1 for look in looks],
            y=[look["coverage"] for look in looks],
            name=name,
            mode="lines+markers",
            legendgroup=name,
            showlegend=name not in shown,
        )
        colour, symbol = MARKS[name]
        line.update(
            line={"color": colour, "width": 3 if name == CHOSEN else 1.2},
            marker={"symbol": symbol, "size": 10 if name == CHOSEN else 6},
            text=one.name,
            hovertemplate="%{text}<br>step %{x}: coverage %{y:.3f}<extra></extra>",
        )
        shown.add(name)
        figure.add_trace(line)
    figure.update_layout(
        title="Roles covered while they were trained, on validation rows",
        template="plotly_white",
        height=440,
        xaxis={"title": "optimiser steps", "rangemode": "tozero"},
        yaxis={"title": "coverage: mean F1"},
        legend={"title": "at the end", "orientation": "h", "y": -0.2, "yanchor": "top"},
    )
    return figure
