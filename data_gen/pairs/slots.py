"""Query -> its slots: the SELECT at a place, what else could stand in it, and the query with one thing changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from data_gen.draw.schemas import sample
from data_gen.query import Condition, Query, Select, SelectItem, is_key, put
from data_gen.schema import Column, Schema, Table
from data_gen.seeding import Draws

Place = Literal["", "cte.", "compound.", "where.0.subquery."]
PLACES: tuple[Place, ...] = ("", "cte.", "compound.", "where.0.subquery.")
"""Where a SELECT may stand in a query, as roles begin: the query itself, its CTE, its second part, a subquery."""

T = TypeVar("T")


def shuffled(rng: Draws, items: Sequence[T]) -> list[T]:
    """All of `items` in random order."""
    return sample(rng, list(items), len(items))


def select_at(query: Query, place: Place) -> Select | None:
    """The SELECT at `place`, or None where the query has none there."""
    if place == "cte.":
        return query.cte.select if query.cte else None
    if place == "compound.":
        return query.compound.select if query.compound else None
    if place == "where.0.subquery.":
        condition = condition_at(query, 0)
        return condition.subquery if condition else None
    return query


def change_select(query: Query, place: Place, **changes: Any) -> Query:
    """The query with other clauses in the SELECT at `place`, which is there."""
    if place == "cte." and query.cte:
        return replace(query, cte=replace(query.cte, select=replace(query.cte.select, **changes)))
    if place == "compound." and query.compound:
        inner = replace(query.compound.select, **changes)
        return replace(query, compound=replace(query.compound, select=inner))
    if place == "where.0.subquery.":
        condition = query.where[0][0]
        assert condition.subquery is not None
        return change_condition(query, "", 0, subquery=replace(condition.subquery, **changes))
    return replace(query, **changes)


def condition_at(select: Select, index: int) -> Condition | None:
    """Condition `index` of WHERE, unless that is a group joined by OR."""
    if index >= len(select.where) or len(select.where[index]) > 1:
        return None
    return select.where[index][0]


def change_condition(query: Query, place: Place, index: int, **changes: Any) -> Query:
    """The query with another condition `index` (the first of its group) in the WHERE at `place`."""
    select = select_at(query, place)
    assert select is not None
    group = select.where[index]
    changed = put(group, 0, replace(group[0], **changes))
    return change_select(query, place, where=put(select.where, index, changed))


def change_item(query: Query, index: int, **changes: Any) -> Query:
    """The query with another item `index` in SELECT; an alias follows its function and its column."""
    item = replace(query.select[index], **changes)
    return replace(query, select=put(query.select, index, replace(item, alias=alias_of(item))))


def alias_of(item: SelectItem) -> str | None:
    """The name that a selected item gets: `SUM_price`, `row_no`, `place`, `running_price`."""
    if item.window is not None:
        return {"ROW_NUMBER": "row_no", "RANK": "place"}.get(item.window.function, f"running_{item.column}")
    return f"{item.aggregate}_{item.column}" if item.aggregate else item.alias


def window_index(query: Query) -> int | None:
    """Which selected item is a window function."""
    return next((index for index, item in enumerate(query.select) if item.window), None)


def is_simple(query: Query) -> bool:
    """Whether the query is one SELECT from one table, so that it names the table once."""
    nested = any(condition.subquery for group in query.where for condition in group)
    return not (query.joins or query.cte or query.compound or nested) and len(query.schema.tables) == 1


def names_used(node: object) -> set[str]:
    """Every name that stands as a column in a query or in part of one; aliases in ORDER BY too."""
    found: set[str] = set()
    stack = [node]
    while stack:
        value = stack.pop()
        if isinstance(value, tuple):
            stack += value
        elif isinstance(value, Struct) and not isinstance(value, Schema):
            found.add(getattr(value, "column", ""))
            stack += [getattr(value, field) for field in value.__struct_fields__]
    return found - {""}


def home(query: Query, place: Place, column: str, table: str | None = None) -> Table | None:
    """The table that `column`, perhaps behind the name or alias of a table, belongs to at `place`; None for an
    alias of SELECT."""
    select = select_at(query, place)
    assert select is not None
    if table is not None:
        aliases = {join.alias: join.table for join in select.joins if join.alias}
        return query.schema.table(aliases.get(table, table))
    names = [select.table, *(join.table for join in select.joins)]
    if query.cte is not None and select.table == query.cte.name:
        names = [query.cte.select.table]
    for name in names:
        found = query.schema.table(name)
        if any(known.name == column for known in found.columns):
            return found
    return None


def column_at(query: Query, place: Place, column: str, table: str | None = None) -> Column | None:
    """The typed column behind a name, or None for an alias of SELECT."""
    found = home(query, place, column, table)
    return found.column(column) if found else None


def free_columns(query: Query, place: Place, column: str, table: str | None = None) -> list[Column]:
    """The columns that could stand instead of `column`: of the same table, no keys, and used nowhere yet.

    What stands behind a CTE can only use the columns of the CTE.
    """
    found = home(query, place, column, table)
    if found is None:
        return []
    if place == "" and query.cte is not None:
        given = {item.column for item in query.cte.select.select}
        used = names_used(replace(query, cte=None))
        return [c for c in found.columns if c.name in given and c.name not in used]
    used = names_used(query)
    return [c for c in found.columns if c.name not in used and not is_key(c.name)]


def key_matters(query: Query, index: int) -> bool:
    """Whether sort key `index` can change the answer: not once the keys before it tell all rows apart."""
    before = {key.column for key in query.order_by[:index]}
    groups = {ref.column for ref in query.group_by}
    shown = {item.output for item in query.select}
    return not (shown <= before or (groups and groups <= before))


def _fixed(query: Query) -> set[str]:
    """Columns of which the conditions of the query and of its CTE leave one value."""
    groups = (*query.where, *(query.cte.select.where if query.cte else ()))
    return {group[0].column for group in groups if len(group) == 1 and group[0].operator == "="}


def is_sound(query: Query) -> bool:
    """Whether a changed query is one that could have been drawn: its order leaves no ties, its halves differ.

    Halves of a set operation differ in their conditions and show more than yes and no, which both would hold. No
    condition leaves a sort key one value.
    The last sort key has to be one that tells rows apart: in groups an aggregate of values, elsewhere a column with
    more values than yes and no, and of the table whose rows do not repeat in the join.
    """
    if query.compound is not None:
        shown = [column_at(query, "", item.column, item.table) for item in query.select]
        if query.compound.select.where == query.where or all(c and c.kind == "boolean" for c in shown):
            return False
    keys = {key.column for key in query.order_by}
    if keys & _fixed(query):
        return False
    if not keys or {item.output for item in query.select} <= keys:
        return True
    last = query.order_by[-1]
    if query.group_by:
        aggregate = next((item.aggregate for item in query.select if item.alias == last.column), None)
        return {ref.column for ref in query.group_by} <= keys or aggregate not in (None, "COUNT")
    found = home(query, "", last.column, last.table)
    if query.distinct or found is None or found.column(last.column).kind == "boolean":
        return False
    refs = [ref for join in query.joins for ref in (join.left, join.right) if ref is not None]
    repeated = {ref.table for ref in refs if ref.column == "id"}
    return (last.table or found.name) not in repeated
