"""Query -> what a model makes of it that lacks the skill that is the command set's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import msgspec

from data_gen.errors import InputError
from data_gen.query import COMMAND_SETS, ColumnRef, Condition, OrderBy, Query, SelectItem, command_set

Named = TypeVar("Named", ColumnRef, Condition, OrderBy, SelectItem)


@lru_cache(maxsize=64)
def own_skills(name: str) -> frozenset[str]:
    """The skills that are a command set's own: those switched on, or what the published set before it lacks.

    Example: `own_skills("cs1+join")` is `{"join"}`, and so is `own_skills("cs5")`.
    """
    switched = re.findall(r"\+(\w+)", name)
    if switched:
        return frozenset(switched)
    skills = command_set(name).skills
    smaller = [one.skills for one in COMMAND_SETS.values() if one.skills < skills]
    return skills - max(smaller, key=len, default=frozenset())


def weaker(query: Query) -> Query:
    """The query without its command set's own skills; itself where it uses none of them.

    Raises `InputError` for a skill that cannot be left out of a query so that another query remains.
    """
    for skill in sorted(own_skills(query.command_set)):
        if skill not in WITHOUT:
            raise InputError(
                f"command set `{query.command_set}` locks `{skill}`, which no weaker model can leave out",
                hint=f"switch on one of {', '.join(WITHOUT)}, as in cs1+join",
            )
        query = WITHOUT[skill](query)
    return query


def _without_aggregates(query: Query) -> Query:
    """Their columns, bare."""
    if all(item.aggregate is None for item in query.select):
        return query
    first = query.schema.table(query.table).columns[0].name
    columns = dict.fromkeys(
        (first if item.column == "*" else item.column, item.table) for item in query.select
    )
    aliases = {_output(item) for item in query.select if item.aggregate}
    return msgspec.structs.replace(
        query,
        select=tuple(SelectItem(name, table) for name, table in columns),
        group_by=(),
        having=(),
        order_by=tuple(key for key in query.order_by if key.column not in aliases),
    )


def _without_joins(query: Query) -> Query:
    """What the first table alone can say: its own columns in every clause, or its first where none is selected."""
    if not query.joins:
        return query
    columns = query.schema.table(query.table).columns
    known = {"*", *(column.name for column in columns)}

    def own(items: tuple[Named, ...], more: frozenset[str] = frozenset()) -> tuple[Named, ...]:
        kept = [one for one in items if one.table in (None, query.table) and one.column in known | more]
        return tuple(msgspec.structs.replace(one, table=None) for one in kept)

    select = own(query.select)
    if not select:
        bare = SelectItem(columns[0].name)
        return msgspec.structs.replace(
            query, select=(bare,), joins=(), where=(), group_by=(), having=(), order_by=()
        )
    plain = [group for group in query.where if all(one.values or one.operator == "IS NULL" for one in group)]
    return msgspec.structs.replace(
        query,
        select=select,
        joins=(),
        where=tuple(own(group) for group in plain if len(own(group)) == len(group)),
        group_by=own(query.group_by),
        having=own(query.having),
        order_by=own(query.order_by, frozenset(_output(item) for item in select if item.aggregate)),
    )


def _without_order(query: Query) -> Query:
    return msgspec.structs.replace(query, order_by=(), limit=None)


def _output(item: SelectItem) -> str:
    """The name under which ORDER BY knows an item."""
    return item.alias or (f"{item.aggregate}_{item.column}" if item.aggregate else item.column)


WITHOUT: dict[str, Callable[[Query], Query]] = {
    "aggregate": _without_aggregates,
    "join": _without_joins,
    "left_join": _without_joins,
    "two_joins": _without_joins,
    "where": lambda query: msgspec.structs.replace(query, where=()),
    "order_by": _without_order,
    "having": lambda query: msgspec.structs.replace(query, having=()),
    "distinct": lambda query: msgspec.structs.replace(query, distinct=False),
    "limit": lambda query: msgspec.structs.replace(query, limit=None),
}
"""Skill -> the query without it."""
