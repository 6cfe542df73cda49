"""What `stability` measured -> Markdown tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.stability_sets import between_sets, compared, is_told
from data_gen.query import COMMAND_SETS

Row = dict[str, Any]


def tables(found: dict[str, list[Row]]) -> str:
    """By edit, by model, by how alike queries are, by method, as far as they were measured."""
    header = {
        "edits": [
            "edit",
            "set",
            "bootstrap",
            "pairs for .8",
            "other pairs",
            "single pairs",
            "second circuit",
        ],
        "models": ["edit", "set", "two models", "their pairs resampled", "chance", "heads alike", "chance"],
        "similar": ["two circuits of", "comparisons", "Jaccard: mean (range)"],
        "agreement": ["edit", "method", "Pearson", "Spearman", "top 20 shared"],
    }
    lines = {
        "edits": _edit_line,
        "models": _model_line,
        "similar": _similar_line,
        "agreement": _agreement_line,
    }
    return "\n\n".join(
        _sets(rows) if name == "sets" else table(header[name], map(lines[name], rows))
        for name, rows in found.items()
    )


def _edit_line(row: Row) -> list[str]:
    return [
        f"`{row['edit']}`",
        row["set"].upper(),
        f"{row['bootstrap']['jaccard']:.2f} ({row['bootstrap']['lowest']:.2f})",
        str(row["needed"]["needed"] or f"over {row['pairs']}"),
        f"{row['reseeded']['jaccard']:.2f}",
        f"{row['single_pairs']:.2f}",
        _rival(row),
    ]


def _model_line(row: Row) -> list[str]:
    return [
        f"`{row['edit']}`",
        row["set"].upper(),
        _spread(row["jaccard"]),
        ", ".join(f"{low:.2f} to {high:.2f}" for low, high in row["resampled"]),
        f"{row['chance']:.2f}",
        _spread(row["blind"]),
        f"{row['chance_blind']:.2f}",
    ]


def _similar_line(row: Row) -> list[str]:
    return [row["alike"][2:], str(len(row["jaccard"])), _spread(row["jaccard"])]


def _sets(rows: Sequence[Row]) -> str:
    """By what differs; the command sets each with each; and how many circuits count."""
    header = ["edit", "what differs", "comparisons", "Jaccard: mean (range)", "edges that survive"]
    alike = table(header, map(_alike_line, compared(rows)))
    indices = between_sets(rows)
    names = [name for name in COMMAND_SETS if (name, name) in indices]
    lines = [
        [
            one.upper(),
            *(f"{indices[both]:.2f}" if (both := (one, other)) in indices else "" for other in names),
        ]
        for one in names
    ]
    matrix = table(["base questions", *(name.upper() for name in names)], lines)
    untold = Counter(
        f"`{row['edit']}` {row['set'].upper()} {row['variant']}{' (refused)' if 'refused' in row else ''}"
        for row in rows
        if not is_told(row)
    )
    said = f": {', '.join(untold)}" if untold else ""
    return f"{alike}\n\n{matrix}\n\nNot counted, {untold.total()} of {len(rows)} circuits{said}"


def _alike_line(row: Row) -> list[str]:
    survive = np.mean([2 * index / (1 + index) for index in row["jaccard"]])
    edit = row["edit"] if row["edit"] == "all" else f"`{row['edit']}`"
    return [edit, row["alike"], str(len(row["jaccard"])), _spread(row["jaccard"]), f"{survive:.2f}"]


def _agreement_line(row: Row) -> list[str]:
    estimates = (_estimate(row[name]) for name in ("pearson", "spearman", "top_shared"))
    return [f"`{row['edit']}`", f"`{row['method']}`", *estimates]


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _rival(row: Row) -> str:
    if "refused" in row:
        return "the model does not tell clean from corrupt"
    found = row["identifiability"]
    first, second = (f"{found[name]['value']:.2f}" for name in ("first", "second"))
    return f"{first}; {second}, difference {_estimate(found['difference'])}"


def _estimate(found: Row) -> str:
    return f"{found['value'] + 0.0:.2f} ({found['low'] + 0.0:.2f} to {found['high'] + 0.0:.2f})"


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
