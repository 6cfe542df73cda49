"""Query -> queries that are one mistake away, each with the name of the mistake.

They are what wrong answers look like: the databases of a row are chosen so that every one of them gives other
rows than the query does, and the grader is tested on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from data_gen.draw.clauses import SUITING
from data_gen.query import (
    COMPARISONS,
    ColumnRef,
    Comparison,
    Compound,
    Condition,
    Join,
    OrderBy,
    Query,
    Select,
    SelectItem,
    SetOperator,
    flipped,
    put,
)
from data_gen.run.values import is_day, next_value, other_patterns
from data_gen.schema import Column, Kind

T = TypeVar("T")


class Mutant(NamedTuple):
    """A query that differs from the right one by one mistake."""

    mistake: str
    query: Query


def mutants(query: Query) -> list[Mutant]:
    """Every query that is one mistake away and that both databases accept.

    Mistakes that leave the meaning as it is are not among them: an OR's operands in another order, say.
    """
    found = [Mutant(mistake, changed) for mistake, changed in _of_select(query, query, is_outer=True)]
    if query.cte is not None:
        for mistake, select in _of_select(query, query.cte.select, is_outer=False):
            changed = replace(query, cte=replace(query.cte, select=select))
            found.append(Mutant(f"{mistake} of the CTE", changed))
    if query.compound is not None:
        found += _of_compound(query, query.compound)
    return found


def _without(items: tuple[T, ...], index: int) -> tuple[T, ...]:
    return (*items[:index], *items[index + 1 :])


def _swapped(items: tuple[T, ...], i: int, j: int) -> tuple[T, ...]:
    changed = list(items)
    changed[i], changed[j] = changed[j], changed[i]
    return tuple(changed)


S = TypeVar("S", bound=Select)


def _of_select(query: Query, select: S, *, is_outer: bool) -> Iterator[tuple[str, S]]:
    if is_outer and query.compound is None:
        yield from _of_items(query, select)
        yield from _of_keys(query, select)
    yield from _of_joins(query, select)
    yield from _of_where(query, select)
    yield from _of_having(query, select)
    if select.distinct:
        yield "drop DISTINCT", replace(select, distinct=False)
    elif is_outer and not select.group_by and query.compound is None and _may_repeat(select):
        yield "add DISTINCT", replace(select, distinct=True)
    if select.limit is not None:
        yield "drop LIMIT", replace(select, limit=None)
        yield "LIMIT off by one", replace(select, limit=select.limit + 1)
        yield "LIMIT off by one", replace(select, limit=select.limit - 1)


def _of_having(query: Query, select: S) -> Iterator[tuple[str, S]]:
    for index, condition in enumerate(select.having):
        yield "drop HAVING", replace(select, having=_without(select.having, index))
        changes = (*_of_condition(query, condition), *_of_measure(query, select, condition))
        for mistake, changed in changes:
            name = "HAVING off by one" if mistake == "change a literal" else f"HAVING: {mistake}"
            yield name, replace(select, having=put(select.having, index, changed))


def _of_measure(query: Query, select: Select, condition: Condition) -> Iterator[tuple[str, Condition]]:
    """HAVING on another aggregate, or on the same one of another column."""
    if condition.column == "*":
        return
    kind = _kind(query, condition.column)
    # A count is compared with a number, with which the other aggregates of a text or a date cannot be compared.
    for function in SUITING[kind] if condition.aggregate != "COUNT" or kind == "number" else ():
        if function != condition.aggregate:
            yield "swap an aggregate", replace(condition, aggregate=function)
    for column, table in _columns(query, select):
        if column.kind == kind and column.name != condition.column:
            yield "another column", replace(condition, column=column.name, table=table)


def _may_repeat(select: Select) -> bool:
    """Whether DISTINCT could change the answer at all, ORDER BY allowing it."""
    if any(item.aggregate or item.window for item in select.select):
        return False
    selected = {(item.column, item.table) for item in select.select}
    # DuckDB accepts DISTINCT only where every sort key is selected; SQLite then sorts as it likes.
    return all((key.column, key.table) in selected for key in select.order_by) and select.limit is None


def _columns(query: Query, select: Select) -> list[tuple[Column, str | None]]:
    """The columns in reach of a SELECT, with the qualifier that its own names would have."""
    if query.cte is not None and select.table == query.cte.name:
        inner = {item.column for item in query.cte.select.select}
        table = query.schema.table(query.cte.select.table)
        return [(column, None) for column in table.columns if column.name in inner]
    qualified = any(item.table is not None for item in select.select)
    sources = [(select.table, select.table)] + [
        (join.table, join.alias or join.table) for join in select.joins
    ]
    found = []
    keys = {
        column for join in select.joins for ref in (join.left, join.right) if ref for column in [ref.column]
    }
    for source, name in sources:
        for column in query.schema.table(source).columns:
            if column.name not in keys and column.name != "id":
                found.append((column, name if qualified else None))
    return found


def _kind(query: Query, name: str) -> Kind:
    return next((c.kind for table in query.schema.tables for c in table.columns if c.name == name), "number")


def _of_items(query: Query, select: S) -> Iterator[tuple[str, S]]:
    items = select.select
    if not select.group_by and not select.distinct:
        yield from _of_plain_items(query, select)
    for index, item in enumerate(items):
        for mistake, changed in (*_of_aggregate(query, select, item), *_of_window(query, select, item)):
            yield mistake, replace(select, select=put(items, index, changed))
    if len(items) > 1:
        yield "swap two columns", replace(select, select=_swapped(items, 0, len(items) - 1))
        if len(items) > 2:
            yield "swap two columns", replace(select, select=_swapped(items, 0, 1))
    if select.group_by and len(select.group_by) > 1:
        # Dropping a bare column from SELECT and from GROUP BY makes larger groups.
        last = select.group_by[-1]
        kept = tuple(i for i in items if i.aggregate or (i.column, i.table) != (last.column, last.table))
        keys = tuple(key for key in select.order_by if key.column != last.column)
        yield "drop a group", replace(select, select=kept, group_by=select.group_by[:-1], order_by=keys)


def _of_plain_items(query: Query, select: S) -> Iterator[tuple[str, S]]:
    items = select.select
    for index, item in enumerate(items):
        needed = {key.column for key in select.order_by}
        if len(items) > 1 and not (item.alias and item.alias in needed):
            yield "drop one column", replace(select, select=_without(items, index))
    taken = {(item.column, item.table) for item in items}
    free = [(c, t) for c, t in _columns(query, select) if (c.name, t) not in taken]
    if free and not any(item.aggregate for item in items):
        column, table = free[0]
        yield "select one more column", replace(select, select=(*items, SelectItem(column.name, table)))
        plain = [i for i, item in enumerate(items) if item.window is None]
        if plain:
            changed = SelectItem(column.name, table)
            yield "select another column", replace(select, select=put(items, plain[0], changed))


def _of_aggregate(query: Query, select: Select, item: SelectItem) -> Iterator[tuple[str, SelectItem]]:
    if item.aggregate is None:
        return
    kind = _kind(query, item.column)
    for function in SUITING[kind]:
        if function != item.aggregate:
            yield "swap an aggregate", replace(item, aggregate=function)
    used = {i.column for i in select.select}
    for column, table in _columns(query, select):
        if (column.kind == kind or item.aggregate == "COUNT") and column.name not in used:
            yield "aggregate another column", replace(item, column=column.name, table=table)
            break


def _of_window(query: Query, select: Select, item: SelectItem) -> Iterator[tuple[str, SelectItem]]:
    window = item.window
    if window is None:
        return
    (key,) = window.order_by
    turned = replace(key, direction=flipped(key.direction))
    yield "flip a direction of the window", replace(item, window=replace(window, order_by=(turned,)))
    if window.partition_by:
        yield "drop PARTITION BY", replace(item, window=replace(window, partition_by=()))
    if window.function == "RANK":
        yield "change the window function", replace(item, window=replace(window, function="ROW_NUMBER"))
    taken = {key.column, item.column, *(ref.column for ref in window.partition_by)}
    taken |= {condition.column for group in select.where for condition in group}
    for column, table in _columns(query, select):
        if column.name not in taken and column.kind != "boolean":
            other = (OrderBy(column.name, key.direction, table),)
            yield "order the window by another column", replace(item, window=replace(window, order_by=other))
            if not window.partition_by:
                parts = (ColumnRef(column.name, table),)
                yield "add PARTITION BY", replace(item, window=replace(window, partition_by=parts))
            break


def _of_keys(query: Query, select: S) -> Iterator[tuple[str, S]]:
    keys = select.order_by
    if not keys:
        return
    yield "drop ORDER BY", replace(select, order_by=())
    for index, key in enumerate(keys):
        turned = replace(key, direction=flipped(key.direction))
        yield "flip a direction", replace(select, order_by=put(keys, index, turned))
        if len(keys) > 1:
            yield "drop a sort key", replace(select, order_by=_without(keys, index))
        if index:
            yield "swap two sort keys", replace(select, order_by=_swapped(keys, index - 1, index))
    taken = {key.column for key in keys}
    if select.group_by or select.distinct:
        free = [(i.output, None if i.alias else i.table) for i in select.select if i.output not in taken]
    else:
        free = [(c.name, t) for c, t in _columns(query, select) if c.name not in taken]
    if free:
        other = OrderBy(free[0][0], keys[0].direction, free[0][1])
        yield "sort by another column", replace(select, order_by=put(keys, 0, other))


def _of_joins(query: Query, select: S) -> Iterator[tuple[str, S]]:
    for index, join in enumerate(select.joins):
        other: Join = replace(join, kind="INNER" if join.kind == "LEFT" else "LEFT")
        name = "INNER for LEFT" if join.kind == "LEFT" else "LEFT for INNER"
        if join.kind == "LEFT" or _misses_show(query, select):
            yield name, replace(select, joins=put(select.joins, index, other))
        cross: Join = replace(join, kind="CROSS", left=None, right=None)
        yield "drop a join key", replace(select, joins=put(select.joins, index, cross))
        if join.left and join.right and join.alias is None and join.left.column != "id":
            left = replace(join.left, column="id") if _has_id(query, join.left.table) else None
            if left is not None:
                yield (
                    "join on another key",
                    replace(select, joins=put(select.joins, index, replace(join, left=left))),
                )


def _has_id(query: Query, table: str | None) -> bool:
    return any(t.name == table and any(c.name == "id" for c in t.columns) for t in query.schema.tables)


def _misses_show(query: Query, select: Select) -> bool:
    """Whether a row without a partner would show: a condition on the partner's columns hides it.

    So does an answer that consists of aggregates of the partner's columns, because they pass over NULL.
    """
    partners = {join.alias or join.table for join in select.joins}
    names = {
        column.name
        for table in query.schema.tables
        if table.name in {join.table for join in select.joins if join.alias is None}
        for column in table.columns
    }

    def is_partners(column: str, table: str | None) -> bool:
        return table in partners if table is not None else column in names

    if any(is_partners(c.column, c.table) for group in select.where for c in group):
        return False
    return not all(item.aggregate and is_partners(item.column, item.table) for item in select.select)


def _of_where(query: Query, select: S) -> Iterator[tuple[str, S]]:
    groups = select.where
    for index, group in enumerate(groups):
        for inner, condition in enumerate(group):
            if condition.other is not None:
                continue
            rest = _without(group, inner)
            kept = put(groups, index, rest) if rest else _without(groups, index)
            yield "drop a condition", replace(select, where=kept)
            for mistake, changed in _of_condition(query, condition):
                where = put(groups, index, put(group, inner, changed))
                yield mistake, replace(select, where=where)
            other = _another_column(query, select, condition)
            if other is not None:
                where = put(groups, index, put(group, inner, other))
                yield "filter another column", replace(select, where=where)
        if len(group) > 1:
            split = (*groups[:index], *[(condition,) for condition in group], *groups[index + 1 :])
            yield "AND for OR", replace(select, where=split)
    singles = [group[0] for group in groups if len(group) == 1 and group[0].other is None]
    if len(singles) == len(groups) > 1:
        yield "OR for AND", replace(select, where=(tuple(singles),))


def _another_column(query: Query, select: Select, condition: Condition) -> Condition | None:
    """The same test of another column of its kind that is not tested yet."""
    if condition.operator == "EXISTS" or condition.subquery is not None:
        return None
    kind = _kind(query, condition.column)
    tested = {c.column for group in select.where for c in group}
    for column, table in _columns(query, select):
        if column.kind == kind and column.name not in tested:
            return replace(condition, column=column.name, table=table)
    return None


_NEIGHBOURS: dict[Comparison, tuple[Comparison, ...]] = {
    "=": ("<>", ">"),
    "<>": ("=",),
    ">": (">=", "<"),
    ">=": (">", "<="),
    "<": ("<=", ">"),
    "<=": ("<", ">="),
}
"""Comparisons that mean something else whatever is on the right; nothing exceeds the largest of all, for one."""


def _other_comparisons(operator: Comparison, condition: Condition) -> tuple[Comparison, ...]:
    value = condition.values[0] if condition.values else None
    if isinstance(value, bool):
        return ("<>",) if operator == "=" else ("=",)
    if value is None or (isinstance(value, str) and not is_day(value)):
        return _NEIGHBOURS[operator]
    # No count is below one, so that `<> 1` may be `> 1`.
    counts = condition.aggregate == "COUNT"
    return tuple([one for one in COMPARISONS if one != operator and not (counts and one == "<>")])


def _of_condition(query: Query, condition: Condition) -> Iterator[tuple[str, Condition]]:
    operator, values = condition.operator, condition.values
    if operator in COMPARISONS:
        for other in _other_comparisons(operator, condition):
            yield "change an operator", replace(condition, operator=other)
    else:
        yield "change an operator", replace(condition, negated=not condition.negated)
    if condition.subquery is not None:
        for mistake, select in _of_subquery(query, condition.subquery):
            yield f"{mistake} of the subquery", replace(condition, subquery=select)
    elif operator == "IN":
        for index in range(len(values)):
            yield "drop a value of IN", replace(condition, values=_without(values, index))
    elif operator == "BETWEEN":
        low, high = values
        yield "change a literal", replace(condition, values=(next_value(low, 1), high))
        yield "change a literal", replace(condition, values=(low, next_value(high, -1)))
        yield "change a literal", replace(condition, values=(next_value(low, -1), high))
        yield "change a literal", replace(condition, values=(low, next_value(high, 1)))
    elif values and not isinstance(values[0], bool):
        if operator == "LIKE":
            for pattern in other_patterns(str(values[0])):
                yield "change a literal", replace(condition, values=(pattern,))
        else:
            yield "change a literal", replace(condition, values=(next_value(values[0], 1),))
            if not isinstance(values[0], str) or is_day(values[0]):
                yield "change a literal", replace(condition, values=(next_value(values[0], -1),))


def _of_subquery(query: Query, select: Select) -> Iterator[tuple[str, Select]]:
    yield from _of_where(query, select)
    (item,) = select.select
    if item.aggregate is not None:
        for mistake, changed in _of_aggregate(query, select, item):
            yield mistake, replace(select, select=(changed,))


def _of_compound(query: Query, compound: Compound) -> Iterator[Mutant]:
    operators: tuple[SetOperator, ...] = ("UNION", "EXCEPT", "INTERSECT")
    for operator in operators:
        if operator != compound.operator:
            other = replace(compound, operator=operator)
            yield Mutant("change the set operation", replace(query, compound=other))
    yield Mutant("drop the second query", replace(query, compound=None))
    if compound.operator == "EXCEPT":
        turned = replace(query, where=compound.select.where, compound=replace(compound, select=_plain(query)))
        yield Mutant("swap the two queries", turned)
    for mistake, select in _of_where(query, compound.select):
        changed = replace(query, compound=replace(compound, select=select))
        yield Mutant(f"{mistake} of the second query", changed)


def _plain(query: Query) -> Select:
    return Select(select=query.select, table=query.table, where=query.where)
