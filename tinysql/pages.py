"""Run directory -> the report's sections on data, training and grades."""

from __future__ import annotations

import html
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from data_gen.errors import InputError
from data_gen.example import make_example
from data_gen.files import read_json
from data_gen.pages import legend_html, text_html
from tinysql.report import Section, figure_html
from tinysql.runs import open_run
from tinysql.training.loop import LOG_EVERY, read_log

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SAMPLES = 4
"""Rows shown per report."""

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6e7781"
"""Okabe and Ito's colours, distinguishable without colour vision."""

UNSEEN = {
    "test": "schemas",
    "names": "names",
    "tables": "table names",
    "columns": "column names",
    "recombined": "names of known pieces",
    "invented": "invented names",
    "templates": "instructions",
    "clauses": "pairs of clauses",
    "novel": "names and instructions",
}
"""Split -> what its questions have that training has not."""


def sections(run: Path) -> list[Section]:
    """Sample rows, the loss curve, and the grades of every split that was graded."""
    found = [_samples(run), _training(run), *(_grades(run / "eval" / f"{split}.json") for split in UNSEEN)]
    return [section for section in found if section is not None]


def _samples(run: Path) -> Section:
    data = open_run(run).data
    examples = [make_example(data, index) for index in range(SAMPLES)]
    rows = "".join(
        f"<h3>row {example.index}, {example.query.command_set.upper()}</h3>{text_html(example.text)}"
        for example in examples
    )
    intro = (
        "<p>Training rows as the model reads them. Every character was rendered from the typed query, "
        "so its role is known: point at a word to read it.</p>"
    )
    return Section("Sample rows", f"{intro}{legend_html()}{rows}", 10)


def _training(run: Path) -> Section:
    log = run / "metrics.jsonl"
    records = read_log(log)
    lines = len(log.read_bytes().splitlines()) if log.exists() else 0
    if lines > len(records) + 1:  # a kill cuts the last one short, and no other
        raise InputError(
            f"line {len(records) + 1} of `{log}` is no record of a step, and {lines - len(records) - 1} stand "
            "behind it",
            hint="restore the file, or take that line out, and the others are drawn",
        )
    if not records:
        why = "holds no step that could be read" if log.exists() else "is not there"
        return Section(
            "Training", f"<p><code>{log.name}</code> {why}, so how it was trained is not shown.</p>", 20
        )
    last = records[-1]
    said = [f"{last['step'] + 1:,} steps, {last['tokens']:,} tokens, {last['seconds']:.0f} s."]
    said += [f"Nothing is logged between steps {one:,} and {other:,}." for one, other in _gaps(records)]
    said += ["The last line of the log was cut short."] if lines > len(records) else []
    return Section("Training", f"<p>{' '.join(said)}</p>{figure_html(training_figure(records))}", 20)


def _gaps(records: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Steps between which lines are missing: they lie further apart than this device's training writes them."""
    steps = list(pairwise(record["step"] for record in records))
    usual = median(other - one for one, other in steps) if steps else 0
    most = next((every for every in sorted(LOG_EVERY.values()) if usual <= every), None)
    return [] if most is None else [(one, other) for one, other in steps if other - one > most]


def training_figure(records: list[dict[str, Any]]) -> Figure:
    """Loss on the SQL and the share of held-back rows right, against tokens trained on."""
    from plotly.graph_objects import Figure, Scatter

    probes = [record for record in records if "probe" in record]
    figure = Figure()
    loss = Scatter(
        x=[r["tokens"] for r in records], y=[r["loss"] for r in records], line={"color": BLUE, "width": 1.3}
    )
    figure.add_trace(loss.update(name="loss on the SQL (left)"))
    right = Scatter(x=[r["tokens"] for r in probes], y=[r["probe"] for r in probes], line={"color": ORANGE})
    figure.add_trace(
        right.update(name="held-back rows wholly right (right)", mode="lines+markers", yaxis="y2")
    )
    peak = max(record["lr"] for record in records)
    at_peak = [record["tokens"] for record in records if record["lr"] >= peak * (1 - 1e-9)]
    if at_peak[-1] < records[-1]["tokens"]:
        mark = {"dash": "dot", "color": GREY}
        figure.add_vline(
            x=at_peak[-1],
            line=mark,
            annotation_text="learning rate decays",
            annotation_position="top left",
            annotation_yshift=20,  # above the plot, where no curve is
        )
    figure.update_layout(
        title="Loss and held-back accuracy during training",
        template="plotly_white",
        height=420,
        legend={"orientation": "h", "y": -0.22},
        xaxis={"title": "tokens trained on"},
        yaxis={"title": "loss (nats per token, log scale)", "type": "log", "dtick": "D2"},
        yaxis2={"title": "share of rows right", "overlaying": "y", "side": "right", "range": [0, 1.03]},
    )
    figure.update_layout(yaxis2={"showgrid": False, "tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1]})
    return figure


def _grades(file: Path) -> Section | None:
    if not file.exists():
        return None
    report = read_json(file)
    unseen = UNSEEN[report["split"]]
    seen, one = report.get("seen_in_training"), unseen.removesuffix("s")
    counted = (
        f" {seen[one]} of them have a {one} that occurs in the training rows." if seen and one in seen else ""
    )
    answered = report.get("answered")
    counted += f" Answered in {answered['precision']}." if answered else ""
    text = (
        f"<p>{report['rows']:,} greedy answers on {unseen} that never occur in training, graded by executing "
        f"them on filled databases and by comparing parse trees.{counted}</p>"
    )
    parts = [text, _table(report), figure_html(clause_figure(report)), _wrong(report)]
    return Section(f"Accuracy on unseen {unseen}", "".join(parts), 30 if unseen == "schemas" else 35)


def _table(report: dict[str, Any]) -> str:
    names = (
        "command set",
        "rows",
        "right by execution",
        "95 % interval",
        "same tree",
        "same text",
        "valid SQL",
    )
    rows = []
    for name, shares in report["sets"].items():
        low, high = shares["execution"]["interval95"]
        cells = [
            f"{shares['execution']['total']:,}",
            f"{shares['execution']['share']:.1%}",
            f"{low:.1%} to {high:.1%}",
        ]
        cells += [f"{shares[kind]['share']:.1%}" for kind in ("tree", "exact", "valid")]
        rows.append(
            f"<td>{html.escape(name.upper())}</td>" + "".join(f'<td class="number">{c}</td>' for c in cells)
        )
    head = f"<th>{names[0]}</th>" + "".join(f'<th class="number">{name}</th>' for name in names[1:])
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def clause_figure(report: dict[str, Any]) -> Figure:
    """Share right by command set and part of the query, with Wilson intervals."""
    from plotly.graph_objects import Bar, Figure

    figure = Figure()
    for (name, shares), colour in zip(report["sets"].items(), (BLUE, ORANGE, GREY), strict=False):
        parts = {"whole query": shares["execution"], **shares["clauses"]}
        values = [part["share"] for part in parts.values()]
        bars = Bar(
            x=[part.replace("_", " ") for part in parts], y=values, name=name.upper(), marker_color=colour
        )
        bars.update(
            text=[f"{value:.1%}" for value in values], textposition="inside", insidetextanchor="middle"
        )
        above = [part["interval95"][1] - part["share"] for part in parts.values()]
        below = [part["share"] - part["interval95"][0] for part in parts.values()]
        bars.update(
            error_y={
                "type": "data",
                "symmetric": False,
                "array": above,
                "arrayminus": below,
                "thickness": 1.2,
            }
        )
        figure.add_trace(bars)
    figure.update_layout(
        title=f"Accuracy by clause on unseen {UNSEEN[report['split']]} (whiskers: Wilson 95 %)",
        template="plotly_white",
        height=380,
        barmode="group",
        xaxis={"title": "part of the query"},
        yaxis={"title": "share right", "range": [0, 1.05], "tickformat": ".0%"},
        legend={"title": "command set"},
    )
    return figure


def _wrong(report: dict[str, Any]) -> str:
    if not report["wrong"]:
        return "<p>No answer was wrong.</p>"
    rows = "".join(
        f"<tr><td class='number'>{row['index']}</td><td class='mono'>{html.escape(row['gold'])}</td>"
        f"<td class='mono'>{html.escape(row['answer'])}</td></tr>"
        for row in report["wrong"]
    )
    return (
        f"<h3>Wrong answers ({len(report['wrong'])} of {report['wrong_total']} shown)</h3><div class='scroll'>"
        f"<table><tr><th class='number'>row</th><th>right</th><th>answered</th></tr>{rows}</table></div>"
    )
