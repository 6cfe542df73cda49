"""EdgeFlows -> `flows.json`, beside the scores and the circuit they belong to; and back what a page says of them."""

from __future__ import annotations

import json
from math import nan
from pathlib import Path
from typing import Any

from circuits.judging.bootstrap import plain
from circuits.methods.edge_flows import EdgeFlow, EdgeFlows
from data_gen.errors import InputError
from data_gen.files import write_atomic
from tinysql.written import read_measured

FLOWS = "flows.json"
AGAIN = "make them again: tinysql circuit find RUN --edit EDIT --by-role --overwrite"
EACH = 5
"""Parts written of every edge, the largest ones."""


def save_flows(found: EdgeFlows, directory: Path) -> None:
    """Write the file, whole or not at all: of every edge its score, its largest parts and what the others sum to."""
    about = {
        "metric": found.metric,
        "edit": found.edit,
        "n_pairs": len(found.per_example),
        "roles": list(found.roles),
        "edges": [_edge(found, number) for number in range(len(found.edges))],
    }
    write_atomic(directory / FLOWS, json.dumps(plain(about), indent=1))


def load_flows(directory: Path) -> dict[str, EdgeFlow]:
    """Of every edge that was followed its largest part; empty where no flows were written.

    Raises `InputError` for a file that is damaged, or is none of flows.
    """
    file = directory / FLOWS
    if not file.exists():
        return {}
    about = read_measured(file, AGAIN)
    try:
        return {entry["edge"]: _largest(entry) for entry in about["edges"] if entry["flows"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} holds no whole flows: {error!r}",
            hint=AGAIN,
        ) from error


def _edge(found: EdgeFlows, number: int) -> dict[str, Any]:
    parts = found.of_edge(found.edges[number], EACH)
    score = float(found.per_example[:, number].sum((-2, -1)).double().mean())
    return {
        "edge": str(found.edges[number]),
        "score": score,
        "flows": [
            {"from": part.source, "to": part.target, "score": part.score, "low": part.low, "high": part.high}
            for part in parts
        ],
        "others": score - sum(part.score for part in parts),
    }


def _largest(entry: dict[str, Any]) -> EdgeFlow:
    part = entry["flows"][0]
    ends = (nan if part[end] is None else float(part[end]) for end in ("low", "high"))
    return EdgeFlow(str(entry["edge"]), str(part["from"]), str(part["to"]), float(part["score"]), *ends)
