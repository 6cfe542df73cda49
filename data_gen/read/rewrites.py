"""Query -> other spellings of the same query.

A grader has to accept each of them, and a reader has to read each as the query that it is made from. Some are
edits of the query which leave its meaning; the others (`data_gen.read.spellings`) edit the pieces of its SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from data_gen.query import ColumnRef, Condition, OrderBy, Query, Select, SelectItem, Window
from data_gen.read.reading import FLIPPED
from data_gen.read.spellings import SPELLINGS, TABLE_ALIASES, TOGETHER, join_pieces
from data_gen.sql import sql_string, write_sql

_Select = TypeVar("_Select", Select, Query)


def rewrites(query: Query) -> Iterator[tuple[str, str]]:
    """The name and the SQL of each rewrite that changes how this query is written.

    Each is valid in SQLite and in DuckDB.
    """
    seen = {sql_string(query)}
    for name, sql in _all(query):
        if sql not in seen:
            seen.add(sql)
            yield name, sql


def _all(query: Query) -> Iterator[tuple[str, str]]:
    for name, edit in QUERY_EDITS.items():
        yield name, sql_string(edit(query))
    for name, respell in SPELLINGS.items():
        yield name, join_pieces(respell(query, write_sql(query).pieces()))
    query = qualified(query)
    for name, respell in TABLE_ALIASES.items():
        yield name, join_pieces(respell(query, write_sql(query).pieces()))
    query = in_other_order(query)
    pieces = write_sql(query).pieces()
    for respell in TOGETHER:
        pieces = respell(query, pieces)
    yield "all together", join_pieces(pieces)


def _everywhere(query: Query, edit: Callable[[Select], Select]) -> Query:
    """The query with `edit` done to each of its SELECTs, the inner ones first."""

    def within(select: _Select) -> _Select:
        where = tuple([tuple([inside(condition) for condition in group]) for group in select.where])
        # An edit gives back the kind it was given, a query for a query.
        return edit(replace(select, where=where))  # type: ignore[return-value]

    def inside(condition: Condition) -> Condition:
        if condition.subquery is None:
            return condition
        return replace(condition, subquery=within(condition.subquery))

    query = within(query)
    if query.cte is not None:
        query = replace(query, cte=replace(query.cte, select=within(query.cte.select)))
    if query.compound is not None:
        query = replace(query, compound=replace(query.compound, select=within(query.compound.select)))
    return query


def in_other_order(query: Query) -> Query:
    """AND and OR operands, lists of IN, GROUP BY and the sides of ON the other way round."""

    def edit(select: Select) -> Select:
        return replace(
            select,
            where=tuple([tuple([_turned(c) for c in reversed(group)]) for group in reversed(select.where)]),
            group_by=select.group_by[::-1],
            having=select.having[::-1],
            joins=tuple([replace(join, left=join.right, right=join.left) for join in select.joins]),
        )

    return _everywhere(query, edit)


def _turned(condition: Condition) -> Condition:
    if condition.operator == "IN" and condition.values:
        return replace(condition, values=(*condition.values[::-1], condition.values[0]))
    if condition.other is not None and condition.aggregate is None:
        own = ColumnRef(condition.column, condition.table)
        other, operator = condition.other, FLIPPED[condition.operator]
        return replace(condition, column=other.column, table=other.table, other=own, operator=operator)
    return condition


def qualified(query: Query) -> Query:
    """Every column behind the name of its table."""

    def choose(table: str | None, tables: list[str]) -> str | None:
        return tables[0] if table is None and tables else table

    return _with_qualifiers(query, choose)


def unqualified(query: Query) -> Query:
    """No column behind the name of its table, where it means one column without."""

    def choose(table: str | None, tables: list[str]) -> str | None:
        return None if tables == [table] else table

    return _with_qualifiers(query, choose)


def _with_qualifiers(query: Query, choose: Callable[[str | None, list[str]], str | None]) -> Query:
    """Each column with the qualifier that `choose` gives for its own and for the tables of FROM that have it."""
    columns = {table.name: [column.name for column in table.columns] for table in query.schema.tables}
    if query.cte is not None:
        columns[query.cte.name] = [item.output for item in query.cte.select.select]

    def edit(select: Select) -> Select:
        seen = [
            (select.table, select.table),
            *[(join.table, join.alias or join.table) for join in select.joins],
        ]

        def qualifier(column: str, table: str | None) -> str | None:
            return choose(table, [known_as for name, known_as in seen if column in columns[name]])

        return _requalified(select, qualifier)

    return _everywhere(query, edit)


def _requalified(select: Select, qualifier: Callable[[str, str | None], str | None]) -> Select:
    aliases = {item.alias for item in select.select}

    def ref(one: ColumnRef) -> ColumnRef:
        return ColumnRef(one.column, qualifier(one.column, one.table))

    def key(one: OrderBy) -> OrderBy:
        if one.table is None and one.column in aliases:
            return one
        return OrderBy(one.column, one.direction, qualifier(one.column, one.table))

    def item(one: SelectItem) -> SelectItem:
        window = one.window
        if window is not None:
            order, partition = map(key, window.order_by), map(ref, window.partition_by)
            window = Window(window.function, tuple(order), tuple(partition))
        return replace(one, table=qualifier(one.column, one.table), window=window)

    def condition(one: Condition) -> Condition:
        other = None if one.other is None else ref(one.other)
        return replace(one, table=qualifier(one.column, one.table), other=other)

    return replace(
        select,
        select=tuple(map(item, select.select)),
        where=tuple([tuple(map(condition, group)) for group in select.where]),
        group_by=tuple(map(ref, select.group_by)),
        having=tuple(map(condition, select.having)),
        order_by=tuple(map(key, select.order_by)),
    )


QUERY_EDITS: dict[str, Callable[[Query], Query]] = {
    "operands in another order": in_other_order,
    "qualified names": qualified,
    "names without qualifier": unqualified,
}
"""Edits that leave the meaning."""
