"""Run directory -> the report's sections on circuits: one per edit, from the files alone."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from circuits.circuit import Circuit
from circuits.drawing.curve import faithfulness_figure
from circuits.judging.faithfulness import Curve, Estimate
from circuits.show import show
from data_gen.files import read_json
from tinysql.report import Section, figure_html


def sections(run: Path) -> list[Section]:
    """For every edit under RUN/circuits: a sentence with its numbers, the graph, and the curve."""
    found = sorted(path.parent for path in (run / "circuits").glob("[!.]*/circuit.json"))
    return [_section(directory) for directory in found]


def _section(directory: Path) -> Section:
    circuit = Circuit.load(directory / "circuit.json")
    parts = [f"<p>{html.escape(_found(circuit))}</p>", figure_html(show(circuit))]
    evaluated = directory / "report.json"
    if evaluated.is_file():
        written = read_json(evaluated)
        parts.insert(1, f"<p>{html.escape(sentence(written))}</p>")
        parts.append(figure_html(faithfulness_figure(Curve.from_json(written["curve"]))))
    return Section(f"Circuit: {directory.name}", "".join(parts), 40)


def _found(circuit: Circuit) -> str:
    about = circuit.metadata
    settings, strongest = (
        about.get("settings", {}),
        max(about.get("scores", {"": 0.0}).items(), key=lambda item: abs(item[1])),
    )
    return (
        f"{len(circuit)} of {len(circuit.graph.edges)} edges, by {about.get('method')} on"
        f" {settings.get('pairs')} pairs drawn with seed {settings.get('seed')}. The strongest is"
        f" {strongest[0].replace('->', '→')}, {strongest[1]:.3g} in {about.get('metric')}."
    )


def sentence(written: dict[str, Any]) -> str:
    """A report in words."""
    report, agreed = written["report"], written.get("agreement")
    band = report["random"]
    return (
        f"On {report['n_pairs']} held-out pairs the circuit alone reaches a faithfulness of"
        f" {_with_interval(report['faithfulness'])}; 1 is the full model, 0 the corrupt run."
        f" {report['random_circuits']} random circuits of {report['n_edges']} edges reach {_number(band['mean'])} on"
        f" average (5–95 %: {_number(band['low'])} to {_number(band['high'])}), and everything outside the circuit"
        f" {_with_interval(report['completeness'])}."
        + (
            f" On {agreed['n_pairs']} of these pairs every edge was patched one at a time: the Pearson correlation of"
            f" {agreed['method']} with what was measured is {_with_interval(agreed['pearson'])}, and"
            f" {agreed['top_shared']:.0%} of the top {agreed['top']} edges are the same."
            if agreed
            else ""
        )
    )


def _with_interval(estimate: dict[str, float]) -> str:
    return str(Estimate(**estimate))


def _number(value: float) -> str:
    """Three digits, and no minus in front of a zero."""
    return f"{round(value, 3) + 0.0:.3f}"
