"""Means by role: ratios of sums over rows, with intervals where a role stands in few of them."""

from __future__ import annotations

import numpy as np
import pytest

from circuits.looking.by_role import ratio_means


def test_a_mean_is_that_of_all_tokens_and_not_of_rows() -> None:
    found = ratio_means(np.array([[1.0], [8.0]]), np.array([[1.0], [3.0]]))
    assert found.value == pytest.approx([9 / 4])


def test_draws_without_a_role_say_nothing_and_do_not_pull_its_interval() -> None:
    """The role stands in one of three rows: two draws in three have it, and all of those say 1/2."""
    found = ratio_means(np.array([[1.0], [0.0], [0.0]]), np.array([[2.0], [0.0], [0.0]]))
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_a_role_that_stands_nowhere_has_no_mean() -> None:
    found = ratio_means(np.zeros((3, 1)), np.zeros((3, 1)))
    assert np.isnan([found.value, found.low, found.high]).all()


def test_an_interval_holds_95_percent_of_the_draws() -> None:
    """A mean of 100 rows is nearly normal: 1.96 standard errors to either side."""
    rows = np.arange(100.0)[:, None]
    found = ratio_means(rows, np.ones((100, 1)))
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * rows.std() / 10, rel=0.08)
