"""Rows of a leaderboard -> JSON and back, and Markdown tables with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from circuits.judging.agreement import Agreement
from circuits.judging.bootstrap import interval
from circuits.judging.curves import Area
from circuits.judging.ratios import Band, Estimate, span, three_digits
from circuits.judging.recovery import Recovery
from circuits.methods.names import UNSIGNED
from data_gen.errors import InputError
from data_gen.files import read_json

CONTROL = "random"
"""Scores drawn at random: what a method reaches that knows nothing."""
ROWS = "leaderboard.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method on one subject."""

    subject: str
    """A planted model or a run directory."""
    edit: str | None
    """`None` for a planted model, whose name says it."""
    seed: int
    method: str
    n_pairs: int
    n_edges: int
    seconds: float
    """Wall time of scoring all edges, once."""
    recovery: Recovery | None
    """On planted models."""
    agreement: Agreement | None
    """With `exact`; `None` for `exact` itself."""
    n_held_out: int = 0
    """Pairs that circuits were run on; 0 in rows older than the areas."""
    cmd: Area | None = None
    """On held-out pairs; `None` where the model does not tell clean from corrupt there, and in older rows."""
    cpr: Area | None = None
    refused: str | None = None
    """Why the method does not score this subject; all its numbers are then missing."""


Measure = Callable[[Row], float | None]


def _recovered(name: str) -> Measure:
    return lambda row: None if row.recovery is None else float(getattr(row.recovery, name))


def _agreed(name: str) -> Measure:
    return lambda row: None if row.agreement is None else float(getattr(row.agreement, name))


def _pearson(row: Row) -> float | None:
    """None for scores without a sign, which correlate with signed ones by accident alone."""
    return None if row.agreement is None or row.method in UNSIGNED else row.agreement.pearson.value


MEASURES: dict[str, Measure] = {
    "AUROC": _recovered("auroc"),
    "AP": _recovered("average_precision"),
    "true edges found": _recovered("found"),
    "Pearson with `exact`": _pearson,
    "Spearman": _agreed("spearman"),
    "top shared": _agreed("top_shared"),
    "CMD": lambda row: None if row.cmd is None else row.cmd.value.value,
    "CPR": lambda row: None if row.cpr is None else row.cpr.value.value,
    "seconds": lambda row: None if row.refused else row.seconds,
}
"""Columns of the table of methods; nothing where a row has no such number."""


def read_rows(directory: Path) -> list[Row]:
    """The rows in a leaderboard's directory. Raises `InputError` for a file that is missing or cut short."""
    path = directory / ROWS
    found = read_json(path)
    try:
        return [_row(row) for row in found["rows"]]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no leaderboard: {error!r}", hint="make it again with `tinysql bench circuits`"
        ) from error


def _row(found: dict[str, Any]) -> Row:
    recovered, agreed = found["recovery"], found["agreement"]
    if recovered is not None:
        recovered = Recovery(**recovered)
    if agreed is not None:
        agreed = Agreement(**{**agreed, "pearson": Estimate.from_json(agreed["pearson"])})
    areas = {name: _area(found.get(name)) for name in ("cmd", "cpr")}
    return Row(**{**found, "recovery": recovered, "agreement": agreed, **areas})


def _area(found: dict[str, Any] | None) -> Area | None:
    if found is None:
        return None
    random, matched = (Band.from_json(found[kind]) for kind in ("random", "matched"))
    return Area(value=Estimate.from_json(found["value"]), random=random, matched=matched)


def markdown(rows: Sequence[Row], made_by: dict[str, Any]) -> str:
    """Three tables: methods on planted models, planted models by method, methods on runs.

    `made_by` is what `tinysql.runs.provenance` gives. Intervals of planted models are bootstrap intervals over seeds,
    those of runs over pairs, at 95 %.
    """
    planted = [row for row in rows if row.edit is None]
    runs = [row for row in rows if row.edit is not None and row.refused is None]
    parts = ["# Methods that score edges", _provenance(made_by)]
    if planted:
        seeds = sorted({row.seed for row in planted})
        parts += [
            f"## Planted circuits, seeds {seeds[0]} to {seeds[-1]}\n\nMeans over the planted models, with 95 %"
            " bootstrap intervals over seeds. Ambiguous edges are left out of AUROC and AP. `exact` patches every edge"
            " alone; `random` knows nothing. CMD (0 is best) and CPR are of circuits run on held-out pairs.",
            _method_table(planted),
            "AUROC by planted model:",
            _model_table(planted, "AUROC"),
            "CMD by planted model, 0 is best:",
            _model_table(planted, "CMD"),
        ]
    if runs:
        parts += [
            "## Trained runs\n\nAgreement with `exact` on the scored pairs, CMD and CPR of the top edges on held-out"
            " pairs, with 95 % bootstrap intervals over pairs. `matched` is the mean CMD of layer-matched random"
            " circuits; a row without CMD is of an edit on which the model does not tell clean from corrupt.",
            _run_table(runs),
        ]
    refusals = _distinct(
        f"- `{row.method}` on {row.subject}: {row.refused}" for row in rows if row.refused is not None
    )
    if refusals:
        parts += ["Refused, and left out of all means:", "\n".join(refusals)]
    return "\n\n".join(parts) + "\n"


def _method_table(rows: Sequence[Row]) -> str:
    lines = []
    for method in _distinct(row.method for row in rows):
        of_method = [row for row in rows if row.method == method]
        cells = [_over_seeds(of_method, value) for value in MEASURES.values()]
        lines.append([f"`{method}`", *cells])
    return _table(["method", *MEASURES], lines)


def _model_table(rows: Sequence[Row], measure: str) -> str:
    methods = _distinct(row.method for row in rows)
    lines = []
    for name in _distinct(row.subject for row in rows):
        here = [row for row in rows if row.subject == name]
        true = {row.recovery.n_true for row in here if row.recovery is not None}
        by_method = [[row for row in here if row.method == method] for method in methods]
        cells = [_over_seeds(some, MEASURES[measure]) for some in by_method]
        lines.append([name, "/".join(map(str, sorted(true))), str(here[0].n_edges), *cells])
    return _table(["planted model", "true", "edges", *(f"`{method}`" for method in methods)], lines)


def _run_table(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        agreed, cells = row.agreement, ["", "", ""]
        if agreed is not None:
            cells = [
                "" if row.method in UNSIGNED else _estimate(agreed.pearson),
                f"{agreed.spearman:.3f}",
                f"{agreed.top_shared:.2f} of {agreed.top}",
            ]
        areas = [_estimate(area.value) if area is not None else "" for area in (row.cmd, row.cpr)]
        matched = f"{row.cmd.matched.mean:.3f}" if row.cmd is not None else ""
        start = [row.subject, f"`{row.edit}`", f"{row.n_pairs} + {row.n_held_out}", str(row.n_edges)]
        lines.append([*start, f"`{row.method}`", *cells, areas[0], matched, areas[1], f"{row.seconds:.2f}"])
    agreement = ["Pearson", "Spearman", "top shared"]
    header = ["run", "edit", "pairs", "edges", "method", *agreement, "CMD", "matched", "CPR", "seconds"]
    return _table(header, lines)


def _estimate(found: Estimate) -> str:
    return _with_interval(found.value, found.low, found.high)


def _over_seeds(rows: Sequence[Row], value: Measure) -> str:
    """Mean over models within each seed, then mean and interval over seeds; nothing where there is no value."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        found = value(row)
        if found is not None:
            by_seed.setdefault(row.seed, []).append(found)
    if not by_seed:
        return ""
    means = np.array([np.mean(values) for values in by_seed.values()])
    low, high = interval(means)
    return _with_interval(float(means.mean()), float(low), float(high))


def _with_interval(value: float, low: float, high: float) -> str:
    return three_digits(value) if isnan(low) else f"{three_digits(value)} ({span(low, high)})"


def _provenance(made_by: dict[str, Any]) -> str:
    return (
        f"`{made_by['command']}`, commit {made_by['commit']}, {made_by['date']}, on {made_by['device']}, "
        f"torch {made_by['versions']['torch']}."
    )


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
