"""Tables of the terminal: what is left out is said, and a rounded zero has no minus."""

from __future__ import annotations

import pytest
import torch

from circuits.graph import Graph
from circuits.judging.curves import Curve, CurvePoint
from circuits.judging.ratios import Band, Estimate
from circuits.scores import EdgeScores
from circuits.select import top_edges
from circuits.tables import LINES, curve_table, edge_table

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


def test_a_rounded_zero_has_no_minus() -> None:
    point = CurvePoint(n_edges=5, faithfulness=Estimate(-1e-5, -4e-4, 3e-4), random=Band(-1e-9, -0.0, 0.25))
    counts = {"n_pairs": 4, "n_edges_model": 9, "random_circuits": 3, "seed": 1}
    curve = Curve(edit="e", method="m", metric="m", points=(point,), **counts)
    _, row = curve_table(curve).splitlines()
    assert row.split() == ["5", "0.000", "0.000", "to", "0.000", "0.000", "0.000", "to", "0.250"]
