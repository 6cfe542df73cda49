"""Scores by role: they sum to the edge's score, and each part is what stands at the role's tokens."""

from __future__ import annotations

import pytest
import torch

from circuits.graph import Graph
from circuits.methods.eap_ig import eap_ig
from circuits.methods.role_scores import role_scores
from data_gen.errors import InputError


def test_the_parts_of_an_edge_sum_to_its_score(random_case, shape, with_roles) -> None:
    case = random_case(**shape)
    pairs = with_roles(
        case.pairs, lambda row, column: ("english.order_by.0.direction", "sql.table")[column % 2]
    )
    found = role_scores(case.model, pairs, steps=3)
    assert found.roles == ("english.order_by.direction", "sql.table")
    whole = eap_ig(case.model, pairs, steps=3)
    torch.testing.assert_close(found.values.sum(0), whole.values, rtol=1e-4, atol=1e-5)
    assert found.values[0].abs().max() > 1e-3 or set(shape["pattern"]) == {"-"}


def test_an_edge_from_embed_scores_only_where_the_prompts_differ(random_case, with_roles) -> None:
    """Before the first block nothing has moved yet: all other tokens are the same on both sides."""
    case = random_case("*-")
    differs = (case.pairs.clean.ids != case.pairs.corrupt.ids).tolist()
    pairs = with_roles(case.pairs, lambda row, column: "changed" if differs[row][column] else "same")
    found = role_scores(case.model, pairs, steps=2)
    changed, same = found.values[:, 0, : 3 * case.model.cfg.n_heads].abs().amax(-1)
    assert changed > 1e-3
    assert same == 0


def test_a_batch_contracted_pair_by_pair_gives_the_same(random_case, monkeypatch, with_roles) -> None:
    """The pairs' positions differ, so that each by itself would be cut shorter than the batch."""
    case = random_case()
    pairs = with_roles(case.pairs, lambda row, column: ("even", "odd")[column % 2])
    assert len(set(pairs.position.tolist())) > 1
    together, edges = role_scores(case.model, pairs, steps=2), eap_ig(case.model, pairs, steps=2)
    monkeypatch.setattr("circuits.engine.attribution.CHANGE_BYTES", (1, 1))
    alone = role_scores(case.model, pairs, steps=2)
    torch.testing.assert_close(alone.values, together.values)
    torch.testing.assert_close(alone.errors, together.errors)
    torch.testing.assert_close(eap_ig(case.model, pairs, steps=2).per_example, edges.per_example)


def test_errors_are_those_of_a_mean_over_pairs(random_case, with_roles) -> None:
    case = random_case()
    pairs = with_roles(case.pairs, lambda row, column: "all")
    found = role_scores(case.model, pairs, steps=2, batch_size=2)
    each = eap_ig(case.model, pairs, steps=2).per_example
    torch.testing.assert_close(found.errors[0], each.std(0) / len(pairs) ** 0.5, rtol=1e-3, atol=1e-5)


def test_the_table_names_edge_and_role_by_falling_size(random_case, with_roles) -> None:
    case = random_case()
    pairs = with_roles(case.pairs, lambda row, column: ("even", "odd")[column % 2])
    found = role_scores(case.model, pairs, steps=2)
    rows = found.table(5)
    assert [abs(row["score"]) for row in rows] == sorted((abs(row["score"]) for row in rows), reverse=True)
    writer, reader = rows[0]["edge"].split(" -> ")
    graph = Graph.of(case.model)
    place = [w.name for w in graph.writers].index(writer), [r.name for r in graph.readers].index(reader)
    assert found.values[(found.roles.index(rows[0]["role"]), *place)] == pytest.approx(rows[0]["score"])


def test_no_steps_are_refused(random_case) -> None:
    case = random_case()
    with pytest.raises(InputError, match="steps is 0"):
        role_scores(case.model, case.pairs, steps=0)
