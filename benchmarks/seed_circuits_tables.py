"""What `seed_circuits` measured -> four Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]


def tables(found: dict[str, list[Row]]) -> str:
    """Heads, edges, depths and swaps, in this order."""
    return "\n\n".join(
        [_heads(found["heads"]), _edges(found["edges"]), _depths(found["depths"]), _swaps(found["swaps"])]
    )


def _heads(rows: Sequence[Row]) -> str:
    return _table(
        [
            "run",
            "set",
            "heads",
            "likeness",
            "random heads",
            "no head",
            "whole",
            "rescaled",
            "random",
            "right",
            "whole",
        ],
        (
            [
                row["run"],
                row["set"].upper(),
                f"{len(row['heads'])} of {row['of']}",
                _estimate(row["likeness"]),
                _spread(row["likeness_random"]),
                f"{row['likeness_none']['value']:.3f}",
                f"{row['likeness_whole']['value']:.3f}",
                _number(row["rescaled"]),
                _spread(row["rescaled_random"]),
                _estimate(row["right"]),
                f"{row['right_whole']['value']:.3f}",
            ]
            for row in rows
        ),
    )


def _edges(rows: Sequence[Row]) -> str:
    header = ["run", "set", "edit", "edges", "its heads", "outside", "random heads", "top edges", "outside"]
    lines = []
    for row in rows:
        start = [row["run"], row["set"].upper(), f"`{row['edit']}`"]
        if "refused" in row:
            lines.append([*start, "the model does not tell clean from corrupt", *[""] * 7])
            continue
        cmd = row["cmd"]
        lines.append(
            [
                *start,
                f"{row['edges']} of {row['of']}",
                *(_estimate(row[name]) for name in ("faithfulness", "outside")),
                _band(row["random_heads"]),
                *(_estimate(row[name]) for name in ("top_faithfulness", "top_outside")),
                str(row["enough"] or "none"),
                f"{_estimate(cmd['value'])}; {cmd['matched']['mean']:.3f}",
            ]
        )
    return _table([*header, "edges for .8", "CMD; matched"], lines)


def _depths(rows: Sequence[Row]) -> str:
    header = [
        "run",
        "set",
        "role",
        "tokens",
        "with the norm",
        "without",
        "ranks that differ",
        "right at the end",
    ]
    return _table(
        header,
        (
            [
                row["run"],
                row["set"].upper(),
                f"`{row['role']}`",
                str(row["tokens"]),
                f"{row['first_normed']:g} of {row['blocks']}",
                f"{row['first_bare']:g}",
                f"{row['other_rank']:.2f}",
                f"{row['right']:.3f}",
            ]
            for row in rows
        ),
    )


def _swaps(rows: Sequence[Row]) -> str:
    header = [
        "run",
        "set",
        "slot",
        "place swapped",
        "follows schema",
        "follows English",
        "logits follow the swap",
    ]
    lines = []
    for row in rows:
        for place in ("english", "schema"):
            shares = (_share(row[place][kind]) for kind in ("schema", "english"))
            logits = _estimate(row["logits"][place]) if "logits" in row else ""
            lines.append([row["run"], row["set"].upper(), row["slot"], place, *shares, logits])
    return _table(header, lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value + 0.0:.3f}"


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f} ({min(known):.3f} to {max(known):.3f})" if known else ""


def _estimate(found: Row) -> str:
    return f"{found['value'] + 0.0:.3f} ({found['low'] + 0.0:.3f} to {found['high'] + 0.0:.3f})"


def _band(found: Row) -> str:
    return f"{found['mean'] + 0.0:.3f} ({found['low'] + 0.0:.3f} to {found['high'] + 0.0:.3f})"


def _share(found: Row) -> str:
    low, high = found["interval95"]
    return f"{found['share']:.3f} ({low:.3f} to {high:.3f})"


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
