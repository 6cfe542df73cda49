"""Query -> the queries in which one part of a condition, of WHERE or of HAVING, is another."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from data_gen.draw.clauses import ORDERED_COMPARISONS
from data_gen.draw.schemas import between
from data_gen.pairs.changes import Change, PairDraft, likely_columns
from data_gen.pairs.slots import (
    Place,
    change_condition,
    change_select,
    column_at,
    condition_at,
    names_used,
    select_at,
    shuffled,
)
from data_gen.query import AggregateFunction, Comparison, Condition, Query, SelectItem, Value, put
from data_gen.schema import WHOLE, Column

NEW_VALUES = 6
"""Literals drawn to replace one."""


def where_column(place: Place, index: int) -> Change:
    """Another column of the same kind in condition `index` of the WHERE at `place`."""

    def change(draft: PairDraft, query: Query) -> Iterator[Query]:
        condition = _condition(query, place, index)
        if condition is None or condition.subquery or condition.other or not condition.column:
            return
        old = column_at(query, place, condition.column, condition.table)
        for column in likely_columns(draft, query, condition.column, condition.table, place):
            if old and _like_literals(column, old):
                yield change_condition(query, place, index, column=column.name)

    return change


def _like_literals(one: Column, other: Column) -> bool:
    return one.kind == other.kind and (one.type in WHOLE) == (other.type in WHOLE)


def _condition(query: Query, place: Place, index: int) -> Condition | None:
    select = select_at(query, place)
    return condition_at(select, index) if select else None


def where_operator(place: Place, index: int) -> Change:
    """Another comparison in condition `index` of the WHERE at `place`."""

    def change(draft: PairDraft, query: Query) -> Iterator[Query]:
        condition = _condition(query, place, index)
        if condition is None or condition.other:
            return
        for operator in shuffled(draft.rng, _comparisons(draft, query, place, condition)):
            if operator == "=":
                rest = change_condition(query, place, index, column="", subquery=None)
                if condition.column in names_used(rest):
                    # One value left of a column would make its other clause idle.
                    continue
            yield change_condition(query, place, index, operator=operator)

    return change


def _comparisons(draft: PairDraft, query: Query, place: Place, condition: Condition) -> list[Comparison]:
    """The comparisons that mean something where `condition` stands, without its own."""
    equalities: tuple[Comparison, ...] = ("=", "<>")
    found: tuple[Comparison, ...] = equalities
    if condition.operator not in (*ORDERED_COMPARISONS, "<>") or any(
        isinstance(value, bool) for value in condition.values
    ):
        return []
    if condition.subquery is not None:
        # Nothing exceeds the largest of all, but something may equal it.
        found = equalities if condition.operator in equalities else ORDERED_COMPARISONS[1:]
    else:
        column = column_at(query, place, condition.column, condition.table)
        if column is not None and column.kind in ("number", "date"):
            found = (*ORDERED_COMPARISONS, "<>")
        if "not" not in draft.skills:
            found = tuple(one for one in found if one != "<>")
    return [one for one in found if one != condition.operator]


def where_value(place: Place, index: int) -> Change:
    """Another literal in condition `index` of the WHERE at `place`."""

    def change(draft: PairDraft, query: Query) -> Iterator[Query]:
        condition = _condition(query, place, index)
        if condition is not None and len(condition.values) == 1:
            for value in _values(draft, query, place, condition, 0):
                yield change_condition(query, place, index, values=(value,))

    return change


def first_value(draft: PairDraft, query: Query) -> Iterator[Query]:
    """The first literal of an IN list, or of the first condition of an OR group."""
    first = query.where[0][0] if query.where else None
    if first is not None and (first.operator == "IN") != (len(query.where[0]) > 1) and first.values:
        for value in _values(draft, query, "", first, 0):
            if value not in first.values and first.operator != "BETWEEN":
                yield change_condition(query, "", 0, values=put(first.values, 0, value))


def bound(which: int) -> Change:
    """Another lower (0) or upper (1) bound of BETWEEN."""

    def change(draft: PairDraft, query: Query) -> Iterator[Query]:
        condition = _condition(query, "", 0)
        if condition is not None and condition.operator == "BETWEEN":
            for value in _values(draft, query, "", condition, which):
                values = put(condition.values, which, value)
                if values == tuple(sorted(set(values))):
                    yield change_condition(query, "", 0, values=values)

    return change


def _values(draft: PairDraft, query: Query, place: Place, condition: Condition, which: int) -> list[Value]:
    """Other literals for the place of one; patterns of LIKE keep their shape. None for a truth value."""
    old = condition.values[which]
    column = column_at(query, place, condition.column, condition.table)
    if isinstance(old, bool) or column is None:
        return []
    if condition.operator != "LIKE":
        drawn = [draft.value(column) for _ in range(NEW_VALUES)]
    else:
        patterns = [draft.like() for _ in range(4 * NEW_VALUES)]
        drawn = [new for new in patterns if _ends(new) == _ends(str(old))]
    return [value for value in dict.fromkeys(drawn) if value != old]


def _ends(pattern: str) -> tuple[bool, bool]:
    return pattern.startswith("%"), pattern.endswith("%")


def negated(draft: PairDraft, query: Query) -> Iterator[Query]:
    """NOT LIKE for LIKE, and so on."""
    condition = _condition(query, "", 0)
    is_listed = condition is not None and condition.operator in ("LIKE", "IN", "BETWEEN", "IS NULL")
    if condition is not None and is_listed and condition.subquery is None:
        yield change_condition(query, "", 0, negated=not condition.negated)


def subquery_kind(draft: PairDraft, query: Query) -> Iterator[Query]:
    """NOT IN for IN, NOT EXISTS for EXISTS, and back."""
    condition = _condition(query, "", 0)
    if condition is not None and condition.subquery and condition.operator in ("IN", "EXISTS"):
        yield change_condition(query, "", 0, negated=not condition.negated)


def subquery_aggregate(draft: PairDraft, query: Query) -> Iterator[Query]:
    """MAX for MIN in a scalar subquery, and back."""
    inner = select_at(query, "where.0.subquery.")
    if inner is not None and inner.select[0].aggregate in ("MIN", "MAX"):
        item = inner.select[0]
        function: AggregateFunction = "MAX" if item.aggregate == "MIN" else "MIN"
        new = SelectItem(item.column, item.table, function, alias=f"{function}_{item.column}")
        yield change_select(query, "where.0.subquery.", select=(new,))


def connective(draft: PairDraft, query: Query) -> Iterator[Query]:
    """AND for OR between two conditions."""
    groups = query.where
    if any(condition.subquery for group in groups for condition in group):
        return
    if [len(group) for group in groups] == [1, 1]:
        yield replace(query, where=((groups[0][0], groups[1][0]),))
    if [len(group) for group in groups] == [2]:
        yield replace(query, where=tuple((condition,) for condition in groups[0]))


def _having(query: Query, **changes: object) -> Query:
    return replace(query, having=put(query.having, 0, replace(query.having[0], **changes)))


def having_operator(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Another comparison of a group's aggregate; of a count, one that not every group passes."""
    if query.having:
        old = query.having[0]
        counts = old.aggregate == "COUNT"
        options: tuple[Comparison, ...] = (">", ">=") if counts else (">", "<", ">=", "<=")
        for operator in shuffled(draft.rng, options):
            if operator != old.operator and not (counts and (operator, old.values) == (">=", (1,))):
                yield _having(query, operator=operator)


def having_value(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Another bound of a group's aggregate."""
    if query.having:
        old = query.having[0]
        column = None if old.column == "*" else column_at(query, "", old.column, old.table)
        if old.aggregate == "COUNT" or column is None:
            values: list[Value] = [2, 3] if old.operator == ">=" else [1, 2]
        else:
            half = 0 if column.type in WHOLE else 0.5
            values = [between(draft.rng, 20, 80) + half for _ in range(NEW_VALUES)]
        for value in dict.fromkeys(values):
            if value != old.values[0]:
                yield _having(query, values=(value,))


def having_aggregate(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Another aggregate of a number in HAVING."""
    if query.having and query.having[0].aggregate in ("SUM", "MIN", "MAX"):
        for function in shuffled(draft.rng, ("SUM", "MIN", "MAX")):
            if function != query.having[0].aggregate:
                yield _having(query, aggregate=function)


def having_column(draft: PairDraft, query: Query) -> Iterator[Query]:
    """Another column in HAVING."""
    if query.having and query.having[0].column != "*":
        old = query.having[0]
        was = column_at(query, "", old.column, old.table)
        for column in likely_columns(draft, query, old.column, old.table):
            if was and (old.aggregate == "COUNT" or _like_literals(column, was)):
                yield _having(query, column=column.name)
