"""Edges, their scores and roles -> what each edge says under the mouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from circuits.graph import Edge, Graph
from circuits.judging.bootstrap import interval
from circuits.methods.role_scores import RoleScores
from circuits.scores import EdgeScores
from data_gen.errors import InputError


def edge_facts(
    graph: Graph,
    edges: Sequence[Edge],
    weights: Mapping[str, float],
    scores: EdgeScores | None = None,
    roles: RoleScores | None = None,
) -> list[str]:
    """For each edge its name and score; with `scores` interval, sign and q; with `roles` where it is read most.

    Raises `InputError` for scores or roles of another graph.
    """
    for name, other in (("scores", scores), ("roles", roles)):
        if other is not None and other.graph != graph:
            raise InputError(
                f"the {name} are of a model of {other.graph}, the circuit of one of {graph}",
                hint="give those that the circuit was chosen by",
            )
    lines = [[str(edge).replace("->", "→")] for edge in edges]
    if scores is not None and edges:
        _add(lines, _estimates(scores, edges))
    else:
        _add(lines, [_weight(weights.get(str(edge))) for edge in edges])
    if roles is not None:
        _add(lines, [_role(roles, edge) for edge in edges])
    return ["<br>".join(each) for each in lines]


def main_role(roles: RoleScores, edge: Edge) -> tuple[str, float, float]:
    """The role whose tokens have the largest part of the edge's score, that part and its standard error."""
    row, column = roles.graph.index(edge)
    parts = roles.values[:, row, column]
    role = int(parts.abs().argmax())
    return roles.roles[role], float(parts[role]), float(roles.errors[role, row, column])


def _estimates(scores: EdgeScores, edges: Sequence[Edge]) -> list[str]:
    column = {edge: place for place, edge in enumerate(scores.graph.edges)}
    columns = [column[edge] for edge in edges]
    values = scores.of_edges()[:, columns].double().numpy()
    low, high = interval(values)
    mean, q = values.mean(0), scores.significance().q[columns]
    same = (np.sign(values) == np.sign(mean)).mean(0)
    return [
        f"score {mean[i]:.4g} (95 % {low[i]:.3g} to {high[i]:.3g})"
        f"<br>same sign in {same[i]:.0%} of {len(values)} pairs, q = {q[i]:.2g}"
        for i in range(len(edges))
    ]


def _weight(weight: float | None) -> str:
    return "" if weight is None else f"score {weight:.4g}"


def _role(roles: RoleScores, edge: Edge) -> str:
    role, part, error = main_role(roles, edge)
    return f"most at {role}: {part:.3g} ± {error:.2g}" if part else ""


def _add(lines: list[list[str]], more: list[str]) -> None:
    for line, text in zip(lines, more, strict=True):
        if text:
            line.append(text)
