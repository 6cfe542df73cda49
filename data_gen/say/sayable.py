"""Query -> nothing, or an error that says which part of it no question of ours can ask.

Every query that is drawn can be asked; what is parsed, imported or written by hand may say more than English does.
"""

from __future__ import annotations

import re

from data_gen.errors import InputError
from data_gen.query import Condition, Query, Select
from data_gen.sql import sql_string

PATTERN = re.compile(r"%[^%_]+%?|[^%_]+%", re.DOTALL)
"""The patterns of LIKE that have words: letters anywhere, at the beginning, or at the end."""


def check_sayable(query: Query) -> None:
    """Make sure that English says every part of `query`.

    Raises:
        InputError: it does not; the sentence names the part.
    """
    _check_conditions(query, query)
    for join in query.joins:
        if join.left is None or join.right is None:
            raise unsayable(query, f"{join.kind} JOIN without two columns")
    for condition in query.having:
        if condition.aggregate is None or condition.subquery is not None or condition.other is not None:
            raise unsayable(query, "HAVING of anything but an aggregate beside a value")
        _check_values(query, condition)
    if query.cte is not None:
        select = query.cte.select
        _check_plain(query, select, "WITH")
        _check_conditions(query, select)
        if any(item.aggregate is not None or item.window is not None for item in select.select):
            raise unsayable(query, "an aggregate in WITH")
    if query.compound is not None:
        _check_plain(query, query.compound.select, query.compound.operator)
        _check_conditions(query, query.compound.select)
        if query.order_by or query.limit is not None:
            raise unsayable(query, f"ORDER BY or LIMIT of a whole {query.compound.operator}")


def unsayable(query: Query, what: str) -> InputError:
    """The error for a part of `query`, named by `what`, that has no words."""
    return InputError(
        f"no question can be written for `{sql_string(query)}`: English has no words for {what}",
        hint="change or leave out that part, or keep the question that came with it",
    )


def _check_conditions(query: Query, select: Select) -> None:
    for group in select.where:
        for condition in group:
            if condition.other is not None:
                raise unsayable(query, "a comparison of two columns")
            if condition.subquery is None:
                _check_values(query, condition)
            elif condition.operator == "EXISTS":
                _check_exists(query, condition.subquery)
            else:
                _check_subquery(query, condition, condition.subquery)


def _check_values(query: Query, condition: Condition) -> None:
    values = condition.values
    if condition.operator == "LIKE" and not PATTERN.fullmatch(str(values[0])):
        raise unsayable(query, f"the pattern '{values[0]}'")
    if "" in values:
        raise unsayable(query, "an empty text")


def _check_exists(query: Query, select: Select) -> None:
    _check_plain(query, select, "EXISTS")
    first, *others = select.where or ((),)
    if len(first) != 1 or first[0].other is None or first[0].operator != "=":
        raise unsayable(query, "EXISTS whose first condition is not that a column equals one outside")
    for group in others:
        if len(group) > 1 or group[0].subquery is not None or group[0].other is not None:
            raise unsayable(query, "OR, a subquery or two columns within EXISTS")
        _check_values(query, group[0])


def _check_subquery(query: Query, condition: Condition, select: Select) -> None:
    _check_plain(query, select, "a subquery")
    (item, *more) = select.select
    is_member = condition.operator == "IN"
    if more or item.window is not None or (item.aggregate is None) != is_member:
        expected = "a column" if is_member else "an aggregate"
        raise unsayable(query, f"a subquery that selects anything but {expected} behind {condition.operator}")
    _check_conditions(query, select)


def _check_plain(query: Query, select: Select, within: str) -> None:
    """Inside another query only columns, a table and conditions are said."""
    if select.joins or select.group_by or select.having or select.order_by or select.distinct:
        raise unsayable(query, f"JOIN, GROUP BY, HAVING, ORDER BY or DISTINCT within {within}")
    if select.limit is not None:
        raise unsayable(query, f"LIMIT within {within}")
