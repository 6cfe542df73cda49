"""A second circuit fails where there is one path, and does as well where there are twins."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from circuits.judging.identify import identifiability, rival
from circuits.methods.exact import exact
from circuits.paths import widest_path
from circuits.select import greedy_edges


@pytest.mark.parametrize("planted", ["copy-attention-name"], indirect=True)
def test_a_single_path_has_no_rival(planted) -> None:
    scores = exact(planted.model, planted.pairs)
    assert set(widest_path(scores).edges) == planted.edges
    found = identifiability(planted.model, scores, planted.pairs, 20)
    assert found.first.value > 0.85
    assert found.second.value < 0.15
    assert found.difference.low > 0.5
    json.dumps(found.to_json(), allow_nan=False)


def test_twin_heads_are_rivals(random_case) -> None:
    case = random_case("*", n=8)
    attention = case.model.blocks[0].attn
    with torch.no_grad():
        # Nobody but heads 0 and 1 writes, and they write the same.
        for weight in (attention.W_Q, attention.W_K, attention.W_V, attention.W_O):
            weight[1] = weight[0]
        attention.W_O[2] = 0
    rows, position = torch.arange(8), case.pairs.position
    with torch.no_grad():
        sides = [case.model(side.ids)[rows, position] for side in (case.pairs.clean, case.pairs.corrupt)]
    gap = sides[0] - sides[1]
    pairs = dataclasses.replace(case.pairs, clean_answer=gap.argmax(-1), corrupt_answer=gap.argmin(-1))
    # The token at the answer's own position differs in some pairs; what goes straight to the logits is no head's.
    corrupt = pairs.corrupt.ids.clone()
    corrupt[rows, position] = pairs.clean.ids[rows, position]
    pairs = dataclasses.replace(pairs, corrupt=dataclasses.replace(pairs.corrupt, ids=corrupt))
    scores = exact(case.model, pairs)
    found = identifiability(case.model, scores, pairs, 2)
    assert found.second.value == pytest.approx(found.first.value, abs=1e-6)
    assert (found.difference.low, found.difference.high) == pytest.approx((0, 0), abs=1e-6)
    assert found.first.value > 0.1
    assert (found.n_first, found.n_second, found.jaccard) == (2, 2, 0.0)


def test_a_rival_shares_no_edge_with_the_best_path(random_case) -> None:
    case = random_case()
    scores = exact(case.model, case.pairs)
    second = rival(scores, 40)
    assert not set(second.edges) & set(widest_path(scores).edges)
    assert second.edges == second.connected().edges
    assert 30 <= len(second) <= 40


def test_a_report_counts_both_circuits_and_names_the_path(random_case) -> None:
    case = random_case(n=12)
    scores = exact(case.model, case.pairs)
    first, second, path = greedy_edges(scores, 8), rival(scores, 8), widest_path(scores)
    found, again, other = (identifiability(case.model, scores, case.pairs, 8, seed=s) for s in (0, 0, 1))
    assert (found.n_first, found.n_second) == (len(first), len(second))
    assert len(first) != len(second)
    assert found.path == tuple(str(edge) for edge in path.edges)
    shared = len(set(first.edges) & set(second.edges))
    assert found.jaccard == pytest.approx(shared / (len(first) + len(second) - shared))
    assert found.difference.value == pytest.approx(found.first.value - found.second.value)
    assert found == again
    assert found.first.value == other.first.value
    assert found.first.low != other.first.low
    assert str(found).splitlines() == [
        f"{len(first)} edges reach {found.first}",
        f"{len(second)} edges without {', '.join(found.path)} reach {found.second}",
        f"  first minus second  {found.difference}; Jaccard index {found.jaccard:.3f}",
    ]
