"""Edges, their scores and roles -> what each edge says under the mouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from circuits.graph import Edge, Graph
from circuits.judging.bootstrap import interval
from circuits.judging.ratios import counted, span
from circuits.methods.edge_flows import EdgeFlow
from circuits.methods.role_scores import RoleScores
from circuits.scores import EdgeScores
from data_gen.errors import InputError

MOST_TESTED = 50_000
"""Edges of a graph up to which q is worth its wait: it tests all of them."""


def edge_facts(
    graph: Graph,
    edges: Sequence[Edge],
    weights: Mapping[str, float],
    scores: EdgeScores | None = None,
    roles: RoleScores | None = None,
    flows: Mapping[str, EdgeFlow] | None = None,
) -> list[str]:
    """For each edge its name and score; with `scores` interval, sign and q; with `roles` where it is read most; with
    `flows`, by the edge's name, between which roles its largest part runs.

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
    if flows is not None:
        _add(lines, [_flow(flows.get(str(edge))) for edge in edges])
    return ["<br>".join(each) for each in lines]


def main_role(roles: RoleScores, edge: Edge) -> tuple[str, float, float]:
    """The role whose tokens have the largest part of the edge's score, that part and its standard error."""
    row, column = roles.graph.index(edge)
    parts = roles.values[:, row, column]
    role = int(parts.abs().argmax())
    return roles.roles[role], float(parts[role]), float(roles.errors[role, row, column])


class EdgeRow(NamedTuple):
    """One edge's score over the pairs."""

    edge: Edge
    score: float
    low: float
    high: float
    """95 % bootstrap interval of the mean, NaN with one pair."""
    same_sign: float
    """Share of pairs with the mean's sign."""
    q: float | None
    """None in graphs of more than 50,000 edges."""


def edge_rows(scores: EdgeScores, edges: Sequence[Edge]) -> list[EdgeRow]:
    """A row for each of `edges`, which must not be none, in their order."""
    column = {edge: place for place, edge in enumerate(scores.graph.edges)}
    columns = [column[edge] for edge in edges]
    values = scores.of_edges()[:, columns].double().numpy()
    mean, (low, high) = values.mean(0), interval(values)
    same = (np.sign(values) == np.sign(mean)).mean(0)
    tested = len(column) <= MOST_TESTED
    q = scores.significance().q[columns].tolist() if tested else [None] * len(edges)
    return [
        EdgeRow(edge, *row)
        for edge, *row in zip(
            edges, mean.tolist(), low.tolist(), high.tolist(), same.tolist(), q, strict=True
        )
    ]


def _estimates(scores: EdgeScores, edges: Sequence[Edge]) -> list[str]:
    n = len(scores.per_example)
    return [
        f"score {row.score:.4g} (95 % {span(row.low, row.high, '{:.3g}'.format)})"
        f"<br>same sign in {row.same_sign:.0%} of {counted(n, 'pair')}"
        + ("" if row.q is None else f", q = {row.q:.2g}")
        for row in edge_rows(scores, edges)
    ]


def _weight(weight: float | None) -> str:
    return "" if weight is None else f"score {weight:.4g}"


def _role(roles: RoleScores, edge: Edge) -> str:
    role, part, error = main_role(roles, edge)
    return f"most at {role}: {part:.3g} ± {error:.2g}" if part else ""


def _flow(part: EdgeFlow | None) -> str:
    if part is None:
        return ""
    ends = span(part.low, part.high, "{:.3g}".format)
    return f"from {part.source} to {part.target}: {part.score:.3g} (95 % {ends})"


def _add(lines: list[list[str]], more: list[str]) -> None:
    for line, text in zip(lines, more, strict=True):
        if text:
            line.append(text)
