"""Families drop numbers; slots keep them; no name stands twice in the table."""

import pytest
import torch

from saes.roles import Roles, family

ROLES = (
    "sql.select.0.column",
    "sql.select.1.column",
    "sql.select.keyword",
    "sql.select.0.column",
    "schema.table",
)


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("sql.select.0.column", "sql.select.column"),
        ("schema.columns.11.type", "schema.columns.type"),
        ("prompt.markup", "prompt.markup"),
    ],
)
def test_a_family_is_a_role_without_numbers(role: str, expected: str) -> None:
    assert family(role) == expected


def test_each_column_counts_its_tokens() -> None:
    roles = Roles.of(ROLES)
    assert dict(zip(roles.names, roles.counts.tolist(), strict=True)) == {
        "schema.table": 1,
        "sql.select.column": 3,
        "sql.select.keyword": 1,
        "sql.select.0.column": 2,
        "sql.select.1.column": 1,
    }
    for column, name in enumerate(roles.names):
        by_hand = [name in (role, family(role)) for role in ROLES]
        assert roles.wanted(column).tolist() == by_hand


def test_columns_stay_the_same_for_a_part_of_the_tokens() -> None:
    roles = Roles.of(ROLES)
    part = roles.at(torch.tensor([2, 0]))
    assert part.names == roles.names
    assert part.counts.sum() == 3
