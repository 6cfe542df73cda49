"""Rows of a leaderboard -> JSON and back, and Markdown tables with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from circuits.judging.agreement import Agreement
from circuits.judging.bootstrap import interval
from circuits.judging.faithfulness import Estimate
from circuits.judging.recovery import Recovery
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


Measure = Callable[[Row], float | None]


def _recovered(name: str) -> Measure:
    return lambda row: None if row.recovery is None else float(getattr(row.recovery, name))


def _agreed(name: str) -> Measure:
    return lambda row: None if row.agreement is None else float(getattr(row.agreement, name))


MEASURES: dict[str, Measure] = {
    "AUROC": _recovered("auroc"),
    "AP": _recovered("average_precision"),
    "true edges found": _recovered("found"),
    "Pearson with `exact`": lambda row: None if row.agreement is None else row.agreement.pearson.value,
    "Spearman": _agreed("spearman"),
    "top shared": _agreed("top_shared"),
    "seconds": lambda row: row.seconds,
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
            f"{path} is no leaderboard: {error!r}", hint="make it again: tinysql bench circuits"
        ) from error


def _row(found: dict[str, Any]) -> Row:
    recovered, agreed = found["recovery"], found["agreement"]
    if recovered is not None:
        recovered = Recovery(**recovered)
    if agreed is not None:
        agreed = Agreement(**{**agreed, "pearson": Estimate(**agreed["pearson"])})
    return Row(**{**found, "recovery": recovered, "agreement": agreed})


def markdown(rows: Sequence[Row], made_by: dict[str, Any]) -> str:
    """Three tables: methods on planted models, planted models by method, methods on runs.

    Intervals of planted models are bootstrap intervals over seeds, those of runs over pairs, at 95 %.
    """
    planted = [row for row in rows if row.recovery is not None]
    runs = [row for row in rows if row.recovery is None]
    parts = ["# Methods that score edges", _provenance(made_by)]
    if planted:
        seeds = sorted({row.seed for row in planted})
        parts += [
            f"## Planted circuits, seeds {seeds[0]} to {seeds[-1]}\n\nMeans over the planted models, with 95 %"
            " bootstrap intervals over seeds. Ambiguous edges are left out of AUROC and AP. `exact` patches every edge"
            " alone; `random` knows nothing.",
            _method_table(planted),
            "AUROC by planted model:",
            _model_table(planted),
        ]
    if runs:
        parts += [
            "## Trained runs\n\nAgreement with `exact`, with 95 % bootstrap intervals over pairs.",
            _run_table(runs),
        ]
    return "\n\n".join(parts) + "\n"


def _method_table(rows: Sequence[Row]) -> str:
    lines = []
    for method in _distinct(row.method for row in rows):
        of_method = [row for row in rows if row.method == method]
        cells = [_over_seeds(of_method, value) for value in MEASURES.values()]
        lines.append([f"`{method}`", *cells])
    return _table(["method", *MEASURES], lines)


def _model_table(rows: Sequence[Row]) -> str:
    methods = _distinct(row.method for row in rows)
    lines = []
    for name in _distinct(row.subject for row in rows):
        here = [row for row in rows if row.subject == name]
        true = {row.recovery.n_true for row in here if row.recovery is not None}
        by_method = [[row for row in here if row.method == method] for method in methods]
        cells = [_over_seeds(some, MEASURES["AUROC"]) for some in by_method]
        lines.append([name, "/".join(map(str, sorted(true))), str(here[0].n_edges), *cells])
    return _table(["planted model", "true", "edges", *(f"`{method}`" for method in methods)], lines)


def _run_table(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        agreed, cells = row.agreement, ["", "", ""]
        if agreed is not None:
            pearson = agreed.pearson
            cells = [
                _with_interval(pearson.value, pearson.low, pearson.high),
                f"{agreed.spearman:.3f}",
                f"{agreed.top_shared:.2f} of {agreed.top}",
            ]
        start = [row.subject, f"`{row.edit}`", str(row.n_pairs), str(row.n_edges), f"`{row.method}`"]
        lines.append([*start, *cells, f"{row.seconds:.2f}"])
    header = ["run", "edit", "pairs", "edges", "method", "Pearson", "Spearman", "top shared", "seconds"]
    return _table(header, lines)


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
    return f"{value + 0.0:.3f} ({low + 0.0:.3f} to {high + 0.0:.3f})"


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
