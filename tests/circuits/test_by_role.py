"""Means by role: ratios of sums over rows, with intervals where a role stands in few of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuits.looking.by_role import Targets, numbered, ratio_means, role_means, targets_of
from tinysql.tokens import Tokens


def test_a_mean_is_that_of_all_tokens_and_not_of_rows() -> None:
    found = ratio_means(np.array([[1.0], [8.0]]), np.array([[1.0], [3.0]]))
    assert found.value == pytest.approx([9 / 4])


def test_draws_without_a_role_say_nothing_and_do_not_pull_its_interval() -> None:
    found = ratio_means(np.array([[1.0], [1.0], [0.0], [0.0]]), np.array([[2.0], [2.0], [0.0], [0.0]]))
    assert (found.value.item(), found.low.item(), found.high.item()) == (0.5, 0.5, 0.5)


def test_a_role_that_stands_in_one_row_has_a_mean_and_no_interval() -> None:
    found = ratio_means(np.array([[1.0], [0.0], [0.0]]), np.array([[2.0], [0.0], [0.0]]))
    assert found.value.item() == 0.5
    assert np.isnan([found.low, found.high]).all()


def test_a_role_that_stands_nowhere_has_no_mean() -> None:
    found = ratio_means(np.zeros((3, 1)), np.zeros((3, 1)))
    assert np.isnan([found.value, found.low, found.high]).all()


def test_an_interval_holds_95_percent_of_the_draws() -> None:
    """A mean of 100 rows is nearly normal: 1.96 standard errors to either side."""
    rows = np.arange(100.0)[:, None]
    found = ratio_means(rows, np.ones((100, 1)))
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * rows.std() / 10, rel=0.08)


def test_tokens_of_two_roles_and_two_rows_by_hand() -> None:
    """Row 0 has tokens a 1, a 3, b 5, row 1 has a 8, a 12: means 6 and 5 over four tokens and one."""
    row, role = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 0, 0])
    targets = Targets(row=row, position=row, token=row, other=None, role=role, roles=("a", "b"))
    found = role_means(torch.tensor([[1.0], [3.0], [5.0], [8.0], [12.0]]), targets)
    assert found.value.tolist() == [[6.0], [5.0]]
    assert found.count.tolist() == [4, 1]
    # Draws of rows: row 0 alone says 2, row 1 alone 10; of b only row 0 says anything, which is no interval.
    assert (found.low[0].item(), found.high[0].item()) == (2.0, 10.0)
    first, second = found.table(("x",))
    assert (first["role"], first["tokens"], first["value"]) == ("a", 4, 6.0)
    assert (second["role"], second["tokens"], second["value"]) == ("b", 1, 5.0)
    assert np.isnan([second["low"], second["high"]]).all()


def test_the_first_token_of_a_row_is_never_a_target() -> None:
    """Nothing stands before it that could predict it."""
    ids = torch.tensor([[4, 5, 6]])
    tokens = Tokens(
        ids=ids, mask=ids.bool(), roles=(("sql.a", "sql.b", "sql.c"),), answer_start=torch.tensor([0])
    )
    found = targets_of(tokens, str)
    assert found.token.tolist() == [5, 6]
    assert found.position.tolist() == [0, 1]
    assert [found.roles[number] for number in found.role] == ["sql.b", "sql.c"]


def test_the_targets_of_some_rows_are_one_slice() -> None:
    row = torch.tensor([0, 0, 2, 2, 2, 5])
    targets = Targets(row=row, position=row, token=row, other=None, role=row * 0, roles=("a",))
    slices = [targets.of_rows(*bounds) for bounds in ((0, 2), (2, 4), (3, 5), (4, 6))]
    assert slices == [slice(0, 2), slice(2, 5), slice(5, 5), slice(5, 6)]


def test_padding_has_no_number_whatever_its_role() -> None:
    ids = torch.tensor([[4, 5, 6]])
    tokens = Tokens(
        ids=ids,
        mask=torch.tensor([[True, True, False]]),
        roles=(("sql.b", "sql.a", "sql.a"),),
        answer_start=torch.tensor([0]),
    )
    names, number = numbered(tokens, str)
    assert (names, number.tolist()) == (("sql.a", "sql.b"), [[1, 0, -1]])
