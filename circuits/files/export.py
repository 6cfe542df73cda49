"""Circuit and scores, or RoleCircuit -> the text of a file in one of the formats that other programs read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from circuits.circuit import Circuit
from circuits.files.exchange import to_dot, to_graphml
from circuits.role_circuit import RoleCircuit
from data_gen.errors import InputError

if TYPE_CHECKING:
    from circuits.scores import EdgeScores


def exported(circuit: Circuit, scores: EdgeScores, kind: str, *, d_model: int) -> str:
    """The circuit as `json`, `graphml` or `dot`, or all scores as `mib` or `scores` (`EdgeScores.to_json`).

    `d_model` is what MIB's file states. Raises `InputError` for another kind, or a model MIB has no names for.
    """
    from circuits.files.mib import mib_scores  # a role-aware circuit goes out, or is refused, without torch

    makers = {
        "json": lambda: json.dumps(circuit.to_json(), indent=1) + "\n",
        "graphml": lambda: to_graphml(circuit),
        "dot": lambda: to_dot(circuit),
        "mib": lambda: json.dumps(mib_scores(scores, d_model=d_model)) + "\n",
        "scores": lambda: json.dumps(scores.to_json()) + "\n",
    }
    if kind not in makers:
        raise InputError(f"unknown format `{kind}`", hint=f"known: {', '.join(makers)}")
    return makers[kind]()


def exported_by_role(circuit: RoleCircuit, kind: str) -> str:
    """The role-aware circuit as `json` (`RoleCircuit.to_json`), `graphml` or `dot`, its roles on the edges.

    Raises `InputError` for another kind: the formats of scores have no roles.
    """
    if kind == "json":
        return json.dumps(circuit.to_json(), indent=1) + "\n"
    makers = {"graphml": to_graphml, "dot": to_dot}
    if kind not in makers:
        raise InputError(
            f"format `{kind}` holds no roles",
            hint=f"a role-aware circuit goes out as json, {' or '.join(makers)}",
        )
    return makers[kind](circuit)
