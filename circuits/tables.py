"""Scores, circuits and curves -> tables of text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from circuits.circuit import Circuit
from circuits.drawing.facts import edge_rows
from circuits.judging.compare import Overlap
from circuits.judging.curves import Curve
from circuits.judging.ratios import Band, Estimate, counted, span, three_digits
from circuits.judging.role_curves import ByRole, Reach
from circuits.judging.significance import least_pairs
from circuits.methods.edge_flows import EdgeFlows
from circuits.methods.names import UNSIGNED
from circuits.methods.role_scores import RoleScores
from circuits.scores import EdgeScores

LINES = 20
"""Edges listed at most."""
SURE = 0.05
"""The q at which edges are usually taken to be significant."""
ROLE_AWARE, PARTS = "role-aware edges", "parts of so many edges"


def edge_table(scores: EdgeScores, circuit: Circuit) -> str:
    """The circuit's strongest edges: score, interval over pairs, share of pairs with the score's sign, and q.

    A line says how many more there are, if not all are listed; the last one why none has an interval, if so.
    """
    edges = sorted(circuit.edges, key=lambda edge: -abs(scores[edge]))[:LINES]
    width = max(len(str(edge)) for edge in edges)
    lines = [f"{'edge':<{width}}{'score':>10}{'95 % interval':>20}{'same sign':>11}{'q':>9}"]
    for row in edge_rows(scores, edges):
        q = "" if row.q is None else f"{row.q:.2g}"
        lines.append(
            f"{row.edge!s:<{width}}{row.score:>10.3f}{span(row.low, row.high):>20}{row.same_sign:>11.2f}{q:>9}"
        )
    return "\n".join([*lines, *_more(len(circuit) - LINES), *_of_one_row(scores)])


def _of_one_row(scores: EdgeScores) -> list[str]:
    """Why scores of a single example have no interval; nothing for those of more."""
    if len(scores.per_example) > 1:
        return []
    if scores.method in UNSIGNED:
        return [f"no interval: {scores.method} gives an edge one number for all pairs"]
    return [
        "no interval, and a q of 1: one pair does not say how far another one would move a score;"
        f" an interval needs at least 2 pairs, a q of {SURE} at least {least_pairs(SURE)} (--pairs, 64 unless given)"
    ]


def role_table(roles: RoleScores) -> str:
    """The largest parts of edges: which edge, at which role's tokens, how much of its score."""
    rows = roles.table(LINES)
    edge, role = (max(len(row[name]) for row in rows) for name in ("edge", "role"))
    lines = [f"{'edge':<{edge}}  {'read at':<{role}}{'score':>10}{'standard error':>16}"]
    for row in rows:
        lines.append(
            f"{row['edge']:<{edge}}  {row['role']:<{role}}{row['score']:>10.3f}{row['error']:>16.3f}"
        )
    return "\n".join(lines)


def flow_table(flows: EdgeFlows) -> str:
    """The largest flows: from the role an edge is read at to the role it is carried to, with interval over pairs."""
    rows = flows.largest(LINES)
    source = max(map(len, ["from", *(row.source for row in rows)]))
    target = max(map(len, ["to", *(row.target for row in rows)]))
    edge = max(map(len, ["edge", *(row.edge for row in rows)]))
    lines = [f"{'from':<{source}}  {'to':<{target}}  {'edge':<{edge}}{'score':>10}{'95 % interval':>20}"]
    for row in rows:
        lines.append(
            f"{row.source:<{source}}  {row.target:<{target}}  {row.edge:<{edge}}{row.score:>10.3f}"
            f"{span(row.low, row.high):>20}"
        )
    return "\n".join(lines)


def curve_table(curve: Curve) -> str:
    """Faithfulness of the top edges at each size, beside random circuits of both kinds."""
    lines = [_points_head("edges", "random")]
    for point in curve.points:
        lines.append(f"{point.n_edges:>8}{_values(point.faithfulness, point.random, point.matched)}")
    return "\n".join(lines)


def by_role_table(found: ByRole) -> str:
    """What role-aware edges reach: of the circuit, at each size, and how many of either kind reach the level."""
    curve, here = found.curve, found.circuit
    lines = [
        f"{curve.edit}: {counted(here.n_parts, 'role-aware edge')}, parts of {counted(here.n_edges, 'edge')},"
        f" of {curve.n_parts_model} with a score, on {counted(curve.n_pairs, 'pair')}",
        f"  the circuit alone      {here.faithfulness}",
        f"  at random roles        {here.other_roles} (mean of {counted(curve.random_circuits, 'draw')})",
        f"  layer-matched          {here.matched}",
        f"{_points_head(ROLE_AWARE, 'random roles')}  {PARTS}",
    ]
    for point in curve.points:
        values = _values(point.faithfulness, point.other_roles, point.matched)
        lines.append(f"{point.n_parts:>{len(ROLE_AWARE)}}{values}{point.n_edges:>{len(PARTS) + 2}}")
    return "\n".join([*lines, reached(found.reach)])


def reached(found: Reach) -> str:
    """How many edges of either kind reach the level, in words."""
    either = (f"{'no size run' if n is None else n}" for n in (found.plain, found.role_aware))
    return "faithfulness {:g} is reached by: plain edges {}, role-aware edges {}".format(found.level, *either)


def _points_head(name: str, rival: str) -> str:
    return (
        f"{name:>8}{'faithfulness':>14}{'95 % interval':>18}{rival:>13}{'5 to 95 %':>18}"
        f"{'layer-matched':>15}{'5 to 95 %':>18}"
    )


def _values(value: Estimate, *bands: Band | None) -> str:
    line = f"{three_digits(value.value):>14}{span(value.low, value.high):>18}"
    for band, width in zip(bands, (13, 15), strict=True):
        line += "" if band is None else f"{three_digits(band.mean):>{width}}{span(band.low, band.high):>18}"
    return line


def area_table(curve: Curve) -> str:
    """CMD and CPR, over the share of edges and over its logarithm; nothing for sizes of one's own."""
    if curve.areas is None:
        return ""
    areas = curve.areas
    lines = [f"{'area':<12}{'value':>8}{'95 % interval':>18}{'random':>9}{'layer-matched':>15}"]
    for name, area in (
        ("CMD", areas.cmd),
        ("CPR", areas.cpr),
        ("CMD, log x", areas.cmd_log),
        ("CPR, log x", areas.cpr_log),
    ):
        value = area.value
        lines.append(
            f"{name:<12}{three_digits(value.value):>8}{span(value.low, value.high):>18}"
            f"{three_digits(area.random.mean):>9}{three_digits(area.matched.mean):>15}"
        )
    return "\n".join(lines)


def difference_table(shared: Overlap, first: Circuit, second: Circuit, names: tuple[str, str]) -> str:
    """The strongest edges that only one of two circuits has."""
    parts = []
    for name, circuit, only in ((names[0], first, shared.only_first), (names[1], second, shared.only_second)):
        weights = circuit.metadata.get("scores", {})
        strongest = sorted(only, key=lambda edge: -abs(weights.get(edge, 0.0)))
        parts.append(_listed(f"only in {name}: {len(only)} edges", strongest, weights))
    return "\n".join(parts)


def _listed(head: str, edges: Sequence[str], weights: dict[str, float]) -> str:
    width = max((len(edge) for edge in edges), default=0)
    lines = [
        f"  {edge:<{width}}" + (f"{weights[edge]:>10.3f}" if edge in weights else "")
        for edge in edges[:LINES]
    ]
    return "\n".join([head, *lines, *(f"  {line}" for line in _more(len(edges) - LINES))])


def _more(n: int) -> list[str]:
    return [f"and {n} weaker ones"] if n > 0 else []
