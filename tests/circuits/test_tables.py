"""Tables of the terminal: what is left out is said, and a rounded zero has no minus."""

from __future__ import annotations

import pytest
import torch

from circuits.graph import Graph
from circuits.judging.curves import Curve, CurvePoint
from circuits.judging.ratios import Band, Estimate
from circuits.judging.role_curves import ByRole, Reach, RoleCurve, RolePoint
from circuits.scores import EdgeScores
from circuits.select import top_edges
from circuits.tables import LINES, by_role_table, curve_table, edge_table

GRAPH = Graph("*-*-", n_heads=2)


@pytest.mark.parametrize(
    ("n", "last"), [(LINES, None), (LINES + 1, "and 1 weaker ones"), (30, "and 10 weaker ones")]
)
def test_edges_that_are_not_listed_are_counted(n: int, last: str | None) -> None:
    values = torch.randn(4, *GRAPH.mask.shape, generator=torch.Generator().manual_seed(0))
    scores = EdgeScores(
        graph=GRAPH, per_example=values * torch.from_numpy(GRAPH.mask), method="m", metric="m", edit="e"
    )
    _, *rows = edge_table(scores, top_edges(scores, n)).splitlines()
    assert sum(" -> " in row for row in rows) == min(n, LINES)
    assert rows[LINES:] == ([last] if last else [])


@pytest.mark.parametrize(
    ("method", "n", "said"),
    [
        (
            "eap-ig",
            1,
            "an interval needs at least 2 pairs, a q of 0.05 at least 6 (--pairs, 64 unless given)",
        ),
        ("acdc", 1, "no interval: acdc gives an edge one number for all pairs"),
        ("eap-ig", 2, None),
    ],
)
def test_scores_of_one_pair_say_why_they_have_no_interval(method: str, n: int, said: str | None) -> None:
    values = torch.ones(n, *GRAPH.mask.shape) * torch.from_numpy(GRAPH.mask)
    scores = EdgeScores(graph=GRAPH, per_example=values, method=method, metric="m", edit="e")
    _, *rows = edge_table(scores, top_edges(scores, 3)).splitlines()
    assert all(("none" in row) == (n == 1) for row in rows[:3])
    assert len(rows) == 3 + (said is not None)
    assert said is None or said in rows[-1]


def test_a_rounded_zero_has_no_minus() -> None:
    point = CurvePoint(n_edges=5, faithfulness=Estimate(-1e-5, -4e-4, 3e-4), random=Band(-1e-9, -0.0, 0.25))
    counts = {"n_pairs": 4, "n_edges_model": 9, "random_circuits": 3, "seed": 1}
    curve = Curve(edit="e", method="m", metric="m", points=(point,), **counts)
    _, row = curve_table(curve).splitlines()
    assert row.split() == ["5", "0.000", "0.000", "to", "0.000", "0.000", "0.000", "to", "0.250"]


@pytest.mark.parametrize(
    ("n", "told"),
    [
        (1, "e: 1 role-aware edge, parts of 1 edge, of 40 with a score, on 1 pair"),
        (2, "e: 2 role-aware edges, parts of 2 edges, of 40 with a score, on 2 pairs"),
    ],
)
def test_role_aware_edges_are_named_and_one_is_no_plural(n: int, told: str) -> None:
    band = Band(0.1, 0.0, 0.3)
    point = RolePoint(
        n_parts=n, n_edges=n, faithfulness=Estimate(0.5, 0.4, 0.6), matched=band, other_roles=band
    )
    counts = {"n_pairs": n, "n_parts_model": 40, "random_circuits": n, "seed": 0}
    curve = RoleCurve(edit="e", metric="m", points=(point,), **counts)
    found = ByRole(circuit=point, curve=curve, reach=Reach(level=0.8, plain=None, role_aware=None))
    first, _, draws, _, head, row, _ = by_role_table(found).splitlines()
    assert first == told
    assert draws.endswith(f"(mean of {n} draw{'s' if n > 1 else ''})")
    assert head.startswith("role-aware edges  faithfulness")
    assert head.endswith("  parts of so many edges")
    assert len(row) == len(head)
    assert (row.split()[0], row.split()[-1]) == (str(n), str(n))
